"""What a worker's sandbox looks like, and what a machine says of itself."""

from __future__ import annotations

import mmap
import os
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest

from relight.agent.layout import APP, LIBRARY, PLATFORM, SPINS, Provision, folders_within_code, lay_out
from relight.agent.resources import cores, declared_gpus, memory_mib, memory_of
from relight.protocol.errors import InvalidRequest
from relight.protocol.manifest import CodeBundle
from relight.sandbox.spec import Isolation, Mount

IMAGE = (Mount(source="/venv", target="/venv"),)
PROVISION = Provision(
    code=Path("/node/code/abc"),
    library=Path("/node/library/1"),
    platform=Path("/node/platform/worker-1/platform.sock"),
    image=IMAGE,
)


def placed(spec, folder: str):
    """The same worker, its app's folder being this one."""
    return replace(spec, code=CodeBundle(digest="0" * 64, size=1, folder=folder))


async def test_code_is_shown_where_it_was_deployed_from(bench):
    layout = lay_out("worker-1", placed(bench.spec(), "/work/app"), PROVISION, Isolation.NAMESPACES)

    assert Mount(source="/node/code/abc", target="/work/app") in layout.sandbox.mounts
    assert (layout.sandbox.working_folder, layout.module_paths) == ("/work/app", ("/work/app",))
    assert LIBRARY in layout.sandbox.argv[-1]
    assert not any(mount.writable for mount in layout.sandbox.mounts)


@pytest.mark.parametrize("folder", ["/tmp", "/", "/home/", "/etc"])
async def test_code_from_a_folder_that_sandboxes_have_for_themselves_is_shown_elsewhere(bench, folder):
    layout = lay_out("worker-1", placed(bench.spec(), folder), PROVISION, Isolation.NAMESPACES)

    assert layout.module_paths == (APP,)


async def test_a_plain_process_finds_everything_where_it_is_on_the_disk(bench):
    layout = lay_out("worker-1", placed(bench.spec(), "/work/app"), PROVISION, Isolation.PROCESS)

    assert layout.module_paths == ("/node/code/abc",)
    assert "/node/library/1" in layout.sandbox.argv[-1]
    assert layout.platform == "/node/platform/worker-1/platform.sock"


async def test_a_sandbox_shows_the_way_to_the_server_at_one_place(bench):
    layout = lay_out("worker-1", placed(bench.spec(), "/work/app"), PROVISION, Isolation.NAMESPACES)

    assert layout.platform == PLATFORM
    assert Mount(source="/node/platform/worker-1/platform.sock", target=PLATFORM) in layout.sandbox.mounts


async def test_a_users_variable_wins_over_ours(bench):
    spec = bench.spec(env=(("LANG", "de_DE.UTF-8"), ("KEY", "value")))

    env = dict(lay_out("worker-1", spec, PROVISION, Isolation.NAMESPACES).sandbox.env)

    assert (env["LANG"], env["KEY"], env["PATH"].split(":")[0]) == ("de_DE.UTF-8", "value", "/usr/bin")


@pytest.mark.parametrize(
    ("theirs", "spins"),
    [((), str(SPINS)), ((("GOMP_SPINCOUNT", "7"),), "7"), ((("OMP_WAIT_POLICY", "active"),), None)],
)
async def test_threads_of_openmp_do_not_hold_a_core_for_long_unless_the_user_says_so(bench, theirs, spins):
    env = dict(lay_out("worker-1", bench.spec(env=theirs), PROVISION, Isolation.NAMESPACES).sandbox.env)

    assert env.get("GOMP_SPINCOUNT") == spins


async def test_an_environment_inside_the_apps_folder_needs_a_place_there(bench):
    image = (Mount(source="/work/app/.venv", target="/work/app/.venv"), *IMAGE)

    assert folders_within_code(placed(bench.spec(), "/work/app"), image) == (PurePosixPath(".venv"),)


def test_declared_gpus_are_simulated_and_numbered():
    gpus = declared_gpus(["A100:2, H100", "L4"])

    assert [gpu.kind for gpu in gpus] == ["A100", "A100", "H100", "L4"]
    assert all(gpu.is_simulated for gpu in gpus)
    assert len({gpu.id for gpu in gpus}) == 4


@pytest.mark.parametrize("text", ["A100:0", "any:1", ":2"])
def test_a_gpu_that_cannot_be_declared_is_refused(text: str):
    with pytest.raises(InvalidRequest):
        declared_gpus([text])


def test_memory_is_what_the_control_group_allows(tmp_path: Path):
    (tmp_path / "meminfo").write_text("MemTotal:       2097152 kB\n")

    assert memory_mib(tmp_path, tmp_path) == 2048
    (tmp_path / "memory.max").write_text("1073741824\n")
    assert memory_mib(tmp_path, tmp_path) == 1024
    (tmp_path / "memory.max").write_text("max\n")
    assert memory_mib(tmp_path, tmp_path) == 2048


def test_there_is_at_least_one_core():
    assert cores() >= 1


def test_the_memory_of_a_process_is_what_it_alone_has() -> None:
    before = memory_of(os.getpid())

    with mmap.mmap(-1, 32 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as held:
        held[:] = b"x" * len(held)

        assert memory_of(os.getpid()) - before > len(held) * 0.9


def test_a_process_that_is_gone_has_no_memory(tmp_path: Path) -> None:
    assert memory_of(1, tmp_path) == 0
