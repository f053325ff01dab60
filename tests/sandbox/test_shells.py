"""Shells: what a process that a template forks is shut into, and what the template itself, which holds two capabilities,
cannot do with them.  The template here is a small program that forks `sh`, or tries in itself what the test says."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Awaitable, Callable

import pytest

from relight.agent.sandboxes import Sandbox
from relight.protocol.errors import StartFailed
from relight.sandbox.spec import Limits, Mount, ShellSpec

pytestmark = pytest.mark.root

TEMPLATE = """
import ctypes, os, socket
libc = ctypes.PyDLL(None, use_errno=True)
control = socket.socket(fileno=3)

class Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))

def work(out, spaces, doors, script):
    for door in doors:
        os.write(door, b"0")
    for space in spaces:
        assert libc.setns(space, 0) == 0, os.strerror(ctypes.get_errno())
    assert libc.unshare(0x02000000) == 0, os.strerror(ctypes.get_errno())
    header = Header(0x20080522, 0)
    assert libc.capset(ctypes.byref(header), (ctypes.c_uint32 * 6)()) == 0
    libc.prctl(47, 4, 0, 0, 0)
    os.dup2(out, 1), os.dup2(out, 2)
    os.chdir("/")
    os.execve("/bin/sh", ["sh", "-c", script], {"PATH": "/usr/bin:/bin"})

print("ready", flush=True)
while True:
    data, given, _, _ = socket.recv_fds(control, 65536, 32)
    if not data:
        break
    what, _, text = data.decode().partition(" ")
    if what == "try":
        try:
            exec(text)
        except OSError as error:
            print(error.strerror, flush=True)
        continue
    out, first, *spaces = given[: 2 + int(what)]
    assert libc.setns(first, 0) == 0, os.strerror(ctypes.get_errno())
    pid = os.fork()
    if pid == 0:
        work(out, spaces[: int(what) - 1], given[1 + int(what) :], text)
    for descriptor in given:
        os.close(descriptor)
    os.waitpid(pid, 0)
    print("reaped", flush=True)
"""

Fork = Callable[[Sandbox, str], Awaitable[str]]


class Templates:
    """A template under the test's control."""

    def __init__(self, bench, running) -> None:
        self._bench = bench
        self.running = running
        self._count = 0

    async def shell(self, **limits) -> Sandbox:
        self._count += 1
        name = f"shell-{self._count}"
        spec = ShellSpec(id=name, template=self.running.sandbox.id, limits=Limits(**limits))
        return await self._bench.sandboxes.start_shell(spec)

    async def begin(self, shell: Sandbox, script: str) -> asyncio.StreamReader:
        """Fork `sh -c script` into a shell; what it writes."""
        read, write = os.pipe()
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read, "rb")
        )
        entrance = shell.entrance
        text = f"{len(entrance.namespaces)} {script}".encode()
        socket.send_fds(self.running.channel, [text], [write, *entrance.namespaces, *entrance.doors])
        os.close(write)
        return reader

    async def fork(self, script: str, **limits) -> str:
        """Fork one into a fresh shell; all that it wrote."""
        return (await (await self.begin(await self.shell(**limits), script)).read()).decode()

    async def attempt(self, python: str) -> str:
        """Execute this in the template; the line that it answers with."""
        self.running.channel.send(f"try {python}".encode())
        return await self.running.line()


@pytest.fixture
async def template(bench, tmp_path):
    """A template that is ready, and sees a folder of the test's below its /tmp."""
    (tmp_path / "shown").write_text("shown")
    mounts = (Mount(source=str(tmp_path / "shown"), target="/tmp/below/shown"),)
    running = await bench.start("/usr/bin/python3", "-I", "-S", "-c", TEMPLATE, is_template=True, mounts=mounts)
    assert await running.line() == "ready"
    return Templates(bench, running)


async def test_a_shell_of_a_template_on_the_machines_network_is_on_it_too(bench):
    running = await bench.start("/usr/bin/python3", "-I", "-S", "-c", TEMPLATE, is_template=True, network="host")
    assert await running.line() == "ready"
    template = Templates(bench, running)

    own = os.readlink("/proc/self/ns/net")

    assert [await template.fork("readlink /proc/self/ns/net") for _ in range(2)] == [f"{own}\n"] * 2


async def test_a_forked_process_sees_its_own_tree_only(template):
    lines = (await template.fork("ps -e -o pid=,comm=")).split("\n")

    assert [line.split()[0] for line in lines if line] == ["1", "2", "3"]


async def test_a_forked_process_has_no_capability_and_gets_none(template):
    status = await template.fork("grep -E 'Cap(Inh|Prm|Eff|Amb)|NoNewPrivs' /proc/self/status")

    values = [line.split()[1] for line in status.strip().split("\n")]
    assert values == ["0" * 16] * 4 + ["1"]


LOOKS = {
    "trace": "import ctypes; libc = ctypes.CDLL(None, use_errno=True); print(libc.ptrace(16, 1, 0, 0) or 'traced')",
    "read its memory": "print(len(open('/proc/1/maps').read()))",
    "see its descriptors": "import os; print(os.listdir('/proc/1/fd'))",
    "see its program": "print(open('/.reaper', 'rb').read())",
    "replace its program": "import os; os.remove('/.reaper')",
}


@pytest.mark.parametrize("what", LOOKS)
async def test_a_forked_process_cannot_look_into_the_first_one(template, what):
    answer = await template.fork(f'exec python3 -I -S -c "{LOOKS[what]}"')

    assert "Error" in answer or answer == "-1\n"


async def test_a_forked_process_cannot_end_the_first_one(template):
    assert (await template.fork("kill -9 1; kill -TERM 1; ps -p 1 -o pid=; echo on")).split() == ["1", "on"]


async def test_nothing_is_left_of_orphans(template):
    # A zombie can be signalled, what was collected cannot.
    script = "(sh -c 'exit 3' & echo $! > /tmp/orphan); while kill -0 $(cat /tmp/orphan) 2>/dev/null; do :; done; ps -e -o comm="

    assert (await template.fork(script)).split() == [".reaper", "sh", "ps"]


async def test_a_forked_process_sees_its_group_as_the_first(template):
    assert {line.split(":")[2] for line in (await template.fork("cat /proc/self/cgroup")).split()} == {"/"}


async def test_two_shells_share_no_file_that_can_be_written(template):
    await template.fork("touch /tmp/a /dev/shm/a ~/a /home/worker/a 2>/dev/null")

    assert await template.fork("ls /tmp/a /dev/shm/a /home/worker/a 2>/dev/null") == ""


async def test_what_is_mounted_below_a_folder_of_its_own_is_there(template):
    assert await template.fork("cat /tmp/below/shown") == "shown"


async def test_two_shells_have_a_loopback_each(template):
    program = (
        "import os, socket; s = socket.create_server(('127.0.0.1', 4711));"
        " socket.create_connection(('127.0.0.1', 4711)); print(os.readlink('/proc/self/ns/net'))"
    )
    networks = [await template.fork(f'exec python3 -I -S -c "{program}"') for _ in range(2)]

    assert all(network.startswith("net:[") for network in networks)
    assert len({os.readlink("/proc/self/ns/net") + "\n", *networks}) == 3


async def test_a_forked_process_is_in_its_shells_groups_before_it_does_anything(template, bench):
    shell = await template.shell(memory_mib=64)
    reader = await template.begin(shell, "sleep 600 & echo here; sleep 600")
    assert await reader.readline() == b"here\n"

    groups = [group for group in bench.groups() if group.name == shell.id]

    assert groups
    assert all(len((group / "cgroup.procs").read_text().split()) >= 2 for group in groups)  # sh, its child
    await shell.kill()


async def test_the_end_of_a_shell_is_the_end_of_all_in_it(template, bench):
    shell = await template.shell()
    reader = await template.begin(shell, "setsid sleep 600 & echo on; sleep 600")
    assert await reader.readline() == b"on\n"

    await shell.kill()

    assert await reader.read() == b""
    assert await template.running.line() == "reaped"
    assert [group for group in bench.groups() if group.name == shell.id] == []


async def test_workers_outlive_their_template_and_its_sandbox_ends_with_the_last(template):
    shell = await template.shell()
    reader = await template.begin(shell, "echo on; sleep 0.2; echo still on")
    assert await reader.readline() == b"on\n"

    template.running.sandbox.signal(signal.SIGKILL)

    assert await reader.read() == b"still on\n"
    assert not template.running.sandbox.has_ended
    await shell.kill()
    assert (await template.running.sandbox.wait()).signal == signal.SIGKILL


async def test_what_connects_to_a_shells_door_comes_to_the_agent(template):
    shell = await template.shell()
    listening = shell.take_listening()
    listening.setblocking(False)
    program = "import socket; s=socket.socket(socket.AF_UNIX); s.connect('/.scratch/door.sock'); s.send(b'hello')"
    await template.begin(shell, f'exec python3 -I -S -c "{program}"')

    connection, _ = await asyncio.get_running_loop().sock_accept(listening)

    assert await asyncio.get_running_loop().sock_recv(connection, 100) == b"hello"
    connection.close()
    listening.close()


async def test_a_shell_of_no_template_is_refused(template, bench):
    await bench.start("/bin/sleep", "600")

    with pytest.raises(StartFailed, match="test-2 is no template"):
        await bench.sandboxes.start_shell(ShellSpec(id="x", template="test-2"))


MOUNT = "libc.mount.restype = ctypes.c_int; n = libc.mount({}); print(os.strerror(ctypes.get_errno()) if n else 'done', flush=True)"
ATTEMPTS = {
    "make a mount writable": MOUNT.format('None, b"/usr", None, ctypes.c_ulong(0x1020), None'),
    "make the root writable": MOUNT.format('None, b"/", None, ctypes.c_ulong(0x1020), None'),
    "allow devices on a mount": MOUNT.format('None, b"/usr", None, ctypes.c_ulong(0x1021), None'),
    "look beneath a mount": "n = libc.umount2(b'/usr', 2); print(os.strerror(ctypes.get_errno()) if n else 'done', flush=True)",
    "mount a disk": MOUNT.format('b"/dev/vda", b"/tmp", b"ext4", ctypes.c_ulong(0), None'),
    "make a device": "os.mknod('/tmp/disk', 0o60600, os.makedev(254, 0)); print('done', flush=True)",
    "make a user namespace": "n = libc.unshare(0x10000000); print(os.strerror(ctypes.get_errno()) if n else 'done', flush=True)",
    "allow user namespaces": "open('/proc/sys/user/max_user_namespaces', 'w').write('9'); print('done', flush=True)",
    "trace its keeper": "n = libc.ptrace(16, 1, 0, 0); print(os.strerror(ctypes.get_errno()) if n else 'done', flush=True)",
    "see its keeper's descriptors": "os.listdir('/proc/1/fd'); print('done', flush=True)",
    "become another user": "os.setresuid(0, 0, 0); print('done', flush=True)",
    "load a module": "n = libc.syscall(313, 3, b'', 0); print(os.strerror(ctypes.get_errno()) if n else 'done', flush=True)",
    "reboot": "n = libc.reboot(0x89abcdef); print(os.strerror(ctypes.get_errno()) if n else 'done', flush=True)",
    "set the clock": "import time; time.clock_settime(time.CLOCK_REALTIME, time.time()); print('done', flush=True)",
    "name the machine": "import socket as s; s.sethostname('mine'); print('done', flush=True)",
}


@pytest.mark.parametrize("what", ATTEMPTS)
async def test_a_template_cannot(template, what):
    answer = await template.attempt(ATTEMPTS[what])

    assert answer != "done"


async def test_a_template_cannot_end_its_keeper(template):
    await template.attempt("os.kill(1, 9); print('sent', flush=True)")

    assert await template.fork("echo on") == "on\n"
