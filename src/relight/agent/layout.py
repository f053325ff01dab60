"""What a worker's sandbox looks like: pure, from what the server asked and what the node has made ready.

/run/relight/lib        our own rooms, first on the module path
/run/relight/platform.sock   the way to the server, for calls of other functions
the app's folder        the unpacked bundle, at the path it had where it was deployed; the worker starts in it
the image's folders     the user's Python, at their own paths
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from relight.protocol.link import WorkerSpec
from relight.protocol.network import HOST, NONE
from relight.sandbox.egress.setup import PROXY_VARIABLES
from relight.sandbox.spec import Isolation, Limits, Mount, SandboxSpec, path_inside

LIBRARY = "/run/relight/lib"
PLATFORM = "/run/relight/platform.sock"
APP = "/run/relight/app"
"""Where the code is shown when its own folder is one that every sandbox has for itself."""

CHILDREN_MIB = 1024
"""What a template may use beyond a worker's memory: each of its children leaves it the charge for its page tables."""

SPINS = 10_000
"""How often a thread of libgomp looks before it sleeps, in a loop of some 0.2 ms, when others are not done.

Its own 300,000 hold a core for milliseconds that another worker, or the very thread that is waited for, may need: on two
cores the first product of matrices in a fork of torch took 3 to 8 ms rather than 0.8. From 10,000 on a small network
(6 layers of 512) is as fast as with 300,000; with 1,000 it takes 2.4 times as long.
"""

_OWN_TO_SANDBOXES = frozenset({"/", "/tmp", "/var/tmp", "/home", "/etc", "/dev", "/proc", "/sys", "/run", "/usr"})
_NOT_PROXIED = "localhost,127.0.0.1,::1"
_PATH = "/usr/local/bin:/usr/bin:/bin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Provision:
    """What a node has made ready for a worker: folders on this machine, its way out, and the mounts of its image.

    A template has no way out: each of its workers has one of its own.  `proxy` is what programs are told of, where only
    that leads outward.
    """

    code: Path
    library: Path
    platform: Path | None
    image: tuple[Mount, ...]
    proxy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A sandbox to start, and where its worker finds the app's modules, and the socket that leads to the server."""

    sandbox: SandboxSpec
    module_paths: tuple[str, ...]
    platform: str


def lay_out(worker: str, spec: WorkerSpec, provision: Provision, isolation: Isolation) -> Layout:
    """The sandbox of one worker, or where there is no way out of it, of a template."""
    is_template = provision.platform is None
    function = spec.function
    folder = _code_target(spec.code.folder)
    mounts = (
        Mount(source=str(provision.library), target=LIBRARY),
        *((Mount(source=str(provision.platform), target=PLATFORM),) if provision.platform else ()),
        Mount(source=str(provision.code), target=folder),
        *(mount for mount in provision.image if mount.target != folder),
    )
    library, platform, code = (path_inside(path, mounts, isolation) for path in (LIBRARY, PLATFORM, folder))
    return Layout(
        sandbox=SandboxSpec(
            id=worker,
            argv=(function.image.python, "-c", _boot(library, "template" if is_template else "worker")),
            env=_environment("" if is_template else worker, spec, provision.proxy),
            working_folder=code,
            mounts=mounts,
            network=function.network,
            limits=_template_limits(spec) if is_template else limits_of(spec),
            isolation=isolation,
            is_template=is_template,
            door=PLATFORM if is_template else "",
        ),
        module_paths=(code,),
        platform=platform,
    )


def lay_out_base(name: str, spec: WorkerSpec, library: Path, image: tuple[Mount, ...]) -> SandboxSpec:
    """The sandbox of the base that serves this function's image."""
    function = spec.function
    return SandboxSpec(
        id=name,
        argv=(function.image.python, "-c", _boot(LIBRARY, "base")),
        env=_environment("", replace(spec, function=replace(function, env=()))),
        mounts=(Mount(source=str(library), target=LIBRARY), *image),
        network=base_network(function.network),
        isolation=Isolation.NAMESPACES,
        is_base=True,
    )


def base_network(network: str) -> str:
    """A base runs nobody's code, and needs no network but where those below it are on the machine's."""
    return HOST if network == HOST else NONE


def limits_of(spec: WorkerSpec) -> Limits:
    """What a worker may use."""
    resources = spec.function.resources
    limits = Limits(cpu=resources.cpu, memory_mib=resources.memory_mib, is_start_free=True)
    disk = resources.ephemeral_disk_mib
    return limits if disk is None else replace(limits, ephemeral_disk_mib=disk)


def _template_limits(spec: WorkerSpec) -> Limits:
    """For the moment of its making every core; and memory for what its children take before they are in their own groups."""
    limits = limits_of(spec)
    memory = None if limits.memory_mib is None else limits.memory_mib + CHILDREN_MIB
    return replace(limits, cpu=None, memory_mib=memory)


def folders_within_code(spec: WorkerSpec, image: tuple[Mount, ...]) -> tuple[PurePosixPath, ...]:
    """The image's folders that lie inside the app's own, relative to it: a `.venv` in a project, say.

    The bundle leaves them out, and a read-only folder grows no place to mount them on, so they are made before.
    """
    folder = PurePosixPath(_code_target(spec.code.folder))
    targets = (PurePosixPath(mount.target) for mount in image)
    return tuple(target.relative_to(folder) for target in targets if target != folder and folder in target.parents)


def _code_target(folder: str) -> str:
    return APP if folder.rstrip("/") in ("", *_OWN_TO_SANDBOXES) else folder.rstrip("/")


def _boot(library: str, what: str) -> str:
    """`-c` puts the working folder first on the module path; ours takes its place, and the loader adds the app's."""
    return f"import sys; sys.path[0] = {library!r}; from relight.runtime.{what} import main; main()"


def _environment(worker: str, spec: WorkerSpec, proxy: str = "") -> tuple[tuple[str, str], ...]:
    ours = {
        "PATH": f"{spec.function.image.prefix}/bin:{_PATH}",
        "LANG": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1",  # the folders are read-only, and a failing write costs a start time too
        "RELIGHT_WORKER": worker,
    }
    if proxy and spec.function.network not in (NONE, HOST):
        ours |= {**dict.fromkeys(PROXY_VARIABLES, proxy), "NO_PROXY": _NOT_PROXIED, "no_proxy": _NOT_PROXIED}
    theirs = dict(spec.function.env)
    if "OMP_WAIT_POLICY" not in theirs:
        ours["GOMP_SPINCOUNT"] = str(SPINS)
    return tuple({**ours, **theirs}.items())
