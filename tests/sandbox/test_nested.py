"""Sandboxes below a base's: what the base forks into them, and what two of one base are to each other: nothing.

The base here is a small program that forks a copy of itself into a nested sandbox, which then does what the test says."""

from __future__ import annotations

import asyncio
import os
import signal
import socket

import pytest

from relight.agent.sandboxes import Sandbox
from relight.protocol.errors import StartFailed, Unavailable
from relight.sandbox.plan import NESTED
from relight.sandbox.spec import Limits, Mount, SandboxSpec, ShellSpec

pytestmark = pytest.mark.root

BASE = """
import ctypes, os, signal, socket, sys
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
libc = ctypes.PyDLL(None, use_errno=True)
control = socket.socket(fileno=3)

class Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))

def check(result):
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

def keep(mask):
    libc.prctl(47, 4, 0, 0, 0)
    for one in range(41):
        if not mask >> one & 1:
            libc.prctl(24, one, 0, 0, 0)
    check(libc.capset(ctypes.byref(Header(0x20080522, 0)), (ctypes.c_uint32 * 6)(mask, mask, mask)))

def live(own, spaces, doors, is_template):
    for door in doors:
        os.write(door, b"0")
    check(libc.unshare(0x02000000))
    for space in spaces:
        check(libc.setns(space, 0))
    libc.prctl(4, 1, 0, 0, 0)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if is_template:
        keep(1 << 21 | 1 << 18)
    else:
        libc.prctl(47, 4, 0, 0, 0)
        check(libc.capset(ctypes.byref(Header(0x20080522, 0)), (ctypes.c_uint32 * 6)()))
    os.dup2(own, 3)
    os.closerange(4, 100)
    os.chdir("/")
    channel = socket.socket(fileno=3)
    while True:
        data, given, _, _ = socket.recv_fds(channel, 65536, 32)
        if not data:
            os._exit(0)
        try:
            answer = []
            exec(data.decode(), {"say": lambda *words: answer.extend(words), "libc": libc, "check": check, "os": os, "socket": socket, "given": given})
            channel.send((" ".join(map(str, answer)) or "done").encode())
        except BaseException as error:
            channel.send((getattr(error, "strerror", None) or repr(error)).encode())

while True:
    data, given, _, _ = socket.recv_fds(control, 65536, 32)
    if not data:
        break
    kind, _, count = data.decode().partition(" ")
    if kind == "do":
        try:
            exec(count)
            control.send(b"done")
        except OSError as error:
            control.send(error.strerror.encode())
        continue
    own, *spaces = given[: 1 + int(count)]
    check(libc.setns(spaces[0], 0))
    pid = os.fork()
    if pid == 0:
        live(own, spaces[1:], given[1 + int(count) :], kind == "template")
    for descriptor in given:
        os.close(descriptor)
    control.send(str(pid).encode())
"""


async def ask(channel: socket.socket, text: str, *descriptors: int) -> str:
    """Have a process do this; what it answers."""
    channel.setblocking(False)
    socket.send_fds(channel, [text.encode()], list(descriptors))
    return (await asyncio.get_running_loop().sock_recv(channel, 65536)).decode()


class Inside:
    """A nested sandbox and the process in it."""

    def __init__(self, sandbox: Sandbox, channel: socket.socket) -> None:
        self.sandbox, self.channel = sandbox, channel

    async def do(self, python: str) -> str:
        return await ask(self.channel, python)

    async def wait_end(self) -> None:
        self.channel.setblocking(False)
        assert await asyncio.get_running_loop().sock_recv(self.channel, 1) == b""


class Bases:
    """A base under the test's control."""

    def __init__(self, bench, running) -> None:
        self.bench, self.running = bench, running
        self._count = 0

    async def empty(self, **fields) -> Sandbox:
        self._count += 1
        spec = SandboxSpec(**{"id": f"nested-{self._count}", "argv": ("/x",), **fields})
        return await self.bench.sandboxes.start_nested(spec, self.running.sandbox.id)

    async def inside(self, *, is_template: bool = True, **fields) -> Inside:
        sandbox = await self.empty(is_template=is_template, **fields)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        spaces, doors = sandbox.entrance.namespaces, sandbox.entrance.doors
        kind = "template" if is_template else "worker"
        await ask(self.running.channel, f"{kind} {len(spaces)}", theirs.fileno(), *spaces, *doors)
        theirs.close()
        sandbox.close_entrance()
        self.bench._closing.append(ours)
        return Inside(sandbox, ours)


@pytest.fixture
async def base(bench):
    return Bases(bench, await bench.start("/usr/bin/python3", "-I", "-S", "-c", BASE, is_base=True))


def shown(tmp_path, name: str) -> Mount:
    (tmp_path / name).mkdir()
    (tmp_path / name / "code.py").write_text(name)
    (tmp_path / name / "code.py").chmod(0o666)
    return Mount(source=str(tmp_path / name), target="/srv/project/app")


async def test_what_a_base_forks_sees_the_mounts_of_its_sandbox_and_not_those_of_another(base, tmp_path):
    one = await base.inside(mounts=(shown(tmp_path, "one"),))
    other = await base.inside(mounts=(shown(tmp_path, "other"),))

    read = "say(open('/srv/project/app/code.py').read(), os.listdir('/srv'))"
    assert await one.do(read) == "one ['project']"
    assert await other.do(read) == "other ['project']"


@pytest.mark.parametrize("is_template", [True, False])
async def test_what_a_base_forks_sees_its_own_processes_only(base, is_template):
    await base.inside()
    one = await base.inside(is_template=is_template)

    assert await one.do("say(sorted(name for name in os.listdir('/proc') if name.isdecimal()))") == "['1', '2']"


async def test_two_sandboxes_of_a_base_share_no_file_and_no_socket(base):
    one, other = await base.inside(), await base.inside()
    listen = (
        "s = socket.socket(); s.bind(('127.0.0.1', 4711)); s.listen(); say('on'); import builtins; builtins.kept = s"
    )
    assert await one.do(listen) == "on"
    assert await one.do("open('/tmp/a', 'w'), open('/dev/shm/a', 'w'), open('/home/worker/a', 'w')") == "done"
    assert (
        await one.do("s = socket.socket(socket.AF_UNIX); s.bind(chr(0) + 'x'); import builtins; builtins.named = s")
        == "done"
    )

    assert await other.do("socket.create_connection(('127.0.0.1', 4711))") == "Connection refused"
    assert await other.do("socket.socket(socket.AF_UNIX).connect(chr(0) + 'x')") == "Connection refused"
    assert await other.do("say(os.listdir('/tmp'), os.listdir('/dev/shm'), os.listdir('/home/worker'))") == "[] [] []"
    spaces = "say(*(os.readlink(f'/proc/self/ns/{name}') for name in ('mnt', 'pid', 'net', 'ipc', 'user', 'cgroup')))"
    assert not set((await one.do(spaces)).split()) & set((await other.do(spaces)).split())


@pytest.mark.parametrize(("is_template", "capabilities"), [(True, "0000000000240000"), (False, "0" * 16)])
async def test_a_template_keeps_two_capabilities_and_a_worker_none(base, is_template, capabilities):
    one = await base.inside(is_template=is_template)

    status = "say(*(line.split()[1] for line in open('/proc/self/status') if line.startswith(('CapEff', 'CapPrm', 'NoNewPrivs'))))"
    assert await one.do(status) == f"{capabilities} {capabilities} 1"


ATTEMPTS = {
    "make its code writable": "import ctypes; "
    "check(libc.mount(None, b'/srv/project/app', None, ctypes.c_ulong(0x1020), None))",
    "make the root writable": "import ctypes; check(libc.mount(None, b'/', None, ctypes.c_ulong(0x1020), None))",
    "allow devices on a mount": "import ctypes; check(libc.mount(None, b'/usr', None, ctypes.c_ulong(0x1021), None))",
    "look beneath a mount": "check(libc.umount2(b'/usr', 2))",
    "look beneath its processes": "check(libc.umount2(b'/proc', 2))",
    "have more to write": "import ctypes; check(libc.mount(None, b'/.scratch', None, ctypes.c_ulong(0x20), b'size=9g'))",
    "make a device": "os.mknod('/tmp/disk', 0o60600, os.makedev(254, 0))",
    "make a user namespace": "check(libc.unshare(0x10000000))",
    "allow user namespaces": "open('/proc/sys/user/max_user_namespaces', 'w').write('9')",
    "trace its keeper": "check(libc.ptrace(16, 1, 0, 0))",
    "see its keeper's descriptors": "os.listdir('/proc/1/fd')",
    "enter its keeper's users": "check(libc.setns(os.open('/proc/1/ns/user', 0), 0))",
    "become another user": "os.setresuid(0, 0, 0)",
    "name the machine": "socket.sethostname('mine')",
    "write its code": "open('/srv/project/app/code.py', 'w')",
}


@pytest.mark.parametrize("what", ATTEMPTS)
@pytest.mark.parametrize("is_template", [True, False])
async def test_what_a_base_forks_cannot(base, tmp_path, what, is_template):
    one = await base.inside(is_template=is_template, mounts=(shown(tmp_path, "one"),))

    answer = await one.do(ATTEMPTS[what])
    assert answer != "done"
    assert "Error(" not in answer, "it is the kernel that refuses"


async def test_a_base_can_make_no_user_namespace_and_cannot_end_its_nest(base):
    assert await ask(base.running.channel, "do check(libc.unshare(0x10000000))") == "Operation not permitted"

    await ask(base.running.channel, "do os.kill(1, 9)")

    assert await (await base.inside()).do("say('on')") == "on"


async def test_a_forked_template_has_shells(base):
    template = await base.inside()
    shell = await base.bench.sandboxes.start_shell(ShellSpec(id="shell", template=template.sandbox.id))
    spaces = shell.entrance.namespaces
    enter = (
        "check(libc.setns(given[0], 0)); pid = os.fork()\n"
        "if not pid:\n"
        "    [check(libc.setns(one, 0)) for one in given[1:]]\n"
        "    os._exit(len([name for name in os.listdir('/proc') if name.isdecimal()]))\n"
        "say(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))"
    )

    assert await ask(template.channel, enter, *spaces) == "2"

    await shell.kill()


async def test_a_nested_sandbox_has_groups_of_its_own(base, bench):
    one = await base.inside(limits=Limits(memory_mib=64))
    assert await one.do("say('on')") == "on"

    groups = [group for group in bench.groups() if group.name == one.sandbox.id]

    assert groups
    assert all(len((group / "cgroup.procs").read_text().split()) == 2 for group in groups)
    assert await one.do("say(open('/proc/self/cgroup').read().count('nested'))") == "0"


async def test_the_end_of_a_nested_sandbox_is_the_end_of_all_in_it_and_of_nothing_else(base, bench):
    one, other = await base.inside(), await base.inside()

    await one.sandbox.kill()

    await one.wait_end()
    assert await other.do("say('on')") == "on"
    assert [group for group in bench.groups() if group.name == one.sandbox.id] == []


async def test_what_was_forked_outlives_the_base_and_its_sandbox_ends_with_the_last(base):
    one = await base.inside()

    base.running.sandbox.signal(signal.SIGKILL)

    assert await one.do("say('on')") == "on"
    assert not base.running.sandbox.has_ended
    await one.sandbox.kill()
    assert (await base.running.sandbox.wait()).signal == signal.SIGKILL


async def test_the_end_of_a_bases_sandbox_is_the_end_of_those_below_it(base):
    one = await base.inside()

    await base.running.sandbox.kill()

    await one.sandbox.wait()
    await one.wait_end()


async def test_a_base_has_so_many_templates_and_a_place_again_when_one_ends(base):
    full = [await base.empty(is_template=True) for _ in range(NESTED)]

    with pytest.raises(StartFailed, match=f"its base has {NESTED} templates"):
        await base.empty(is_template=True)
    await base.empty(is_template=False)

    await full[0].kill()
    await base.empty(is_template=True)


async def test_a_sandbox_below_what_is_no_base_is_refused(bench):
    await bench.start("/bin/sleep", "600")

    with pytest.raises(StartFailed, match="test-1 is no base"):
        await bench.sandboxes.start_nested(SandboxSpec(id="x", argv=("/x",)), "test-1")


async def test_what_cannot_be_placed_is_said_and_the_next_is_made(base, tmp_path):
    (tmp_path / "file").write_text("")
    mounts = (Mount(source=str(tmp_path / "file"), target="/usr/no/place"),)

    with pytest.raises(StartFailed, match="cannot place /usr/no/place"):
        await base.empty(mounts=mounts)

    assert not (await base.empty()).has_ended


async def test_a_launcher_that_is_killed_takes_all_along(base, bench):
    one = await base.inside()

    os.kill(bench.sandboxes.launcher_pid, signal.SIGKILL)

    await one.sandbox.wait()
    await one.wait_end()
    with pytest.raises((StartFailed, Unavailable)):
        await base.empty()
