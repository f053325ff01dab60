"""What a sandbox reaches: on a machine with a small internet around it, of an agent that is root and of one that is not."""

import ctypes
import errno
import json
import os
import platform
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import relight
from internet import (
    BELL,
    CAN_BE_MADE,
    CLOSED,
    ECHO,
    EVERYWHERE,
    GREETING,
    HOST,
    HOST6,
    LOOPBACK,
    MACHINE,
    METADATA,
    OTHER,
    WEB,
    Internet,
)
from sandbox.test_rootless import USER, python_of_everybody

pytestmark = [pytest.mark.root, pytest.mark.skipif(not CAN_BE_MADE, reason="needs root, and `ip`")]

AGENT = """
import asyncio, json, os, socket, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from relight.agent.sandboxes import Sandboxes
from relight.protocol.errors import StartFailed
from relight.sandbox.spec import SandboxSpec, ShellSpec

FORKING = '''
import ctypes, os, socket, sys

libc = ctypes.CDLL(None)
_, namespaces, _, _ = socket.recv_fds(socket.socket(fileno=3), 1, 16)
libc.setns(namespaces[0], 0)
if os.fork() == 0:
    for one in namespaces[1:]:
        assert libc.setns(one, 0) == 0
    exec(sys.argv[1])
    sys.stdout.flush()
    os._exit(0)
os.wait()
'''

async def run(sandboxes, number, box):
    ours, theirs = socket.socketpair()
    read, write = os.pipe()
    is_forked = box["is_forked"]
    argv = ("/usr/bin/python3", "-I", "-S", "-c", *((FORKING,) if is_forked else ()), box["program"])
    spec = SandboxSpec(id=f"box-{number}", argv=argv, network=box["network"], is_template=is_forked)
    try:
        sandbox = await sandboxes.start(spec, channel=theirs, stdout=write, stderr=write)
        if is_forked:
            shell = await sandboxes.start_shell(ShellSpec(id=f"shell-{number}", template=spec.id))
            socket.send_fds(ours, [b"1"], list(shell.entrance.namespaces))
            shell.take_listening().close()
    except StartFailed as failure:
        return ours, None, str(failure)
    finally:
        os.close(write)
        theirs.close()
    file = os.fdopen(read)
    first = await asyncio.to_thread(file.readline)
    return ours, sandbox, (first, file)

async def answer(sandboxes, boxes, numbers):
    started = [await run(sandboxes, next(numbers), box) for box in boxes]
    outputs = []
    for ours, sandbox, said in reversed(started):
        ours.close()
        if sandbox is None:
            outputs.append(said)
            continue
        outputs.append(said[0] + await asyncio.to_thread(said[1].read))
        await sandbox.kill()
        said[1].close()
    return outputs[::-1]

async def main(state):
    from itertools import count
    numbers = count()
    sandboxes = Sandboxes(Path(state))
    await sandboxes.open()
    print(json.dumps([sandboxes.launcher_pid, sandboxes.facts.egress_denial]), flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        print(json.dumps(await answer(sandboxes, json.loads(line), numbers)), flush=True)
    await sandboxes.close()

asyncio.run(main(sys.argv[2]))
"""

PROGRAM = """
import os, socket, sys, time
def reach(address, port, kind=socket.SOCK_STREAM):
    try:
        found = socket.getaddrinfo(address, port, type=kind)[0]
        with socket.socket(found[0], found[1]) as s:
            s.settimeout(5)
            s.connect(found[4])
            if kind == socket.SOCK_DGRAM:
                s.send(b"ping")
            return s.recv(100).decode().strip()
    except socket.gaierror as error:
        return "no such name" if error.errno == socket.EAI_NONAME else "nobody knows"
    except OSError as error:
        return os.strerror(error.errno) if error.errno else "timed out"
"""
FORBIDDEN = "No route to host"


class Agent:
    """Runs programs in sandboxes of one agent on the machine."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        assert process.stdout is not None
        self.launcher, self.denial = json.loads(process.stdout.readline())

    def run(self, *boxes: tuple[str, str], is_forked: bool = False) -> list[str]:
        """What each (network, program) wrote; each begins when the one before has written a line.

        `is_forked`: each is run by a fork of a template, in a shell.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = [
            {"network": network, "program": PROGRAM + program, "is_forked": is_forked} for network, program in boxes
        ]
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer: list[str] = json.loads(self._process.stdout.readline())
        return answer

    def reach(self, network: str, *places: tuple[str, int]) -> list[str]:
        """What comes of connecting to each place."""
        program = f"for place in {list(places)!r}: print(reach(*place), flush=True)"
        return self.run((network, program))[0].splitlines()

    @property
    def connectors(self) -> list[int]:
        """The pids of its connector, of which there should be one."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                try:
                    parent = entry.joinpath("stat").read_text().rpartition(")")[2].split()[1]
                    command = entry.joinpath("cmdline").read_bytes()
                except OSError:
                    continue
                if parent == str(self.launcher) and b"egress.connector" in command:
                    found.append(int(entry.name))
        return found


@pytest.fixture(scope="module")
def internet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Internet]:
    made = Internet(tmp_path_factory.mktemp("internet"))
    yield made
    made.close()


def without_rules() -> None:
    """Have this process, and all that it starts, find a kernel that has no rules for packets."""
    libc = ctypes.CDLL(None, use_errno=True)
    socket_number = {"x86_64": 41, "aarch64": 198}[platform.machine()]
    unsupported, allowed = 0x00050000 | errno.EPROTONOSUPPORT, 0x7FFF0000
    af_netlink, netfilter = 16, 12
    load, equal, give = 0x20, 0x15, 0x06
    steps = (
        *((load, 0, 0, 0), (equal, 0, 4, socket_number)),  # the number of the call
        *((load, 0, 0, 16), (equal, 0, 2, af_netlink)),  # its first argument
        *((load, 0, 0, 32), (equal, 1, 0, netfilter)),  # its third
        *((give, 0, 0, allowed), (give, 0, 0, unsupported)),
    )
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    described = struct.pack("HxxxxxxP", len(steps), ctypes.addressof(program))
    libc.prctl(38, 1, 0, 0, 0)
    assert libc.prctl(22, 2, ctypes.c_char_p(described), 0, 0) == 0


@contextmanager
def agent_on(internet: Internet, user: int, prepare: Callable[[], None] | None = None) -> Iterator[Agent]:
    folder = Path(tempfile.mkdtemp())
    source, state = folder / "source", folder / "state"
    shutil.copytree(Path(relight.__file__).parent, source / "relight", ignore=shutil.ignore_patterns("__pycache__"))
    state.mkdir()
    for path in (folder, source, *source.rglob("*")):
        path.chmod(0o755)
    os.chown(state, user, user)
    command = [python_of_everybody(), "-I", "-S", "-c", AGENT, str(source), str(state)]
    with internet.on_machine():
        process = subprocess.Popen(
            command, user=user, group=user, extra_groups=[], cwd="/", text=True, preexec_fn=prepare,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
    try:
        yield Agent(process)
    finally:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        try:
            process.wait(30)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
            shutil.rmtree(folder)


@pytest.fixture(scope="module", params=[0, USER], ids=["root", "user"])
def agent(request: pytest.FixtureRequest, internet: Internet) -> Iterator[Agent]:
    with agent_on(internet, request.param) as made:
        assert made.denial == ""
        yield made


def test_a_host_is_reached_outward_by_address_and_by_name_and_not_at_all_without_a_network(agent: Agent) -> None:
    places = ((HOST, GREETING), ("host.test", GREETING))

    assert agent.reach("egress", *places) == [f"hello from {HOST}"] * 2
    assert agent.reach("none", *places) == ["Network is unreachable", "nobody knows"]


def test_a_fork_in_a_shell_reaches_what_its_template_does_by_a_way_of_its_own(agent: Agent) -> None:
    tries = f'print(reach("host.test", {GREETING}), reach("{OTHER}", {GREETING}), sep="|")'

    assert agent.run(("host.test", tries), ("none", tries), is_forked=True) == [
        f"hello from {HOST}|{FORBIDDEN}\n",
        "nobody knows|Network is unreachable\n",
    ]


def test_the_machine_its_loopback_and_the_metadata_are_refused_although_the_machine_reaches_them(
    agent: Agent, internet: Internet
) -> None:
    witness = (("127.0.0.1", LOOPBACK), (MACHINE, EVERYWHERE), (METADATA, GREETING))
    assert all(internet.reaches(*place) for place in witness)

    loopback, *others = agent.reach("egress", *witness, ("::ffff:127.0.0.1", LOOPBACK), ("0.0.0.0", LOOPBACK))

    assert loopback == "Connection refused"  # by a loopback of its own, where nobody listens
    assert others == [FORBIDDEN, FORBIDDEN, "Connection refused", "Connection refused"]
    assert agent.reach("none", *witness) == ["Connection refused", *["Network is unreachable"] * 2]
    assert agent.reach(f"{METADATA}/32", *witness)[2] == f"hello from {METADATA}"


@pytest.mark.parametrize("network", ["egress", "none"])
def test_two_sandboxes_have_no_way_to_each_other_nor_the_machine_to_them(
    agent: Agent, internet: Internet, network: str
) -> None:
    listens = """
s = socket.create_server(("0.0.0.0", 9000)); s.settimeout(0.2)
own = socket.create_connection(("127.0.0.1", 9000)); s.accept()
print("listens", flush=True); os.read(3, 1)
try: print("found by", s.accept()[1])
except TimeoutError: print("found by nobody")
"""
    tries = 'for address in ("127.0.0.1", "192.0.0.8", "100::8", "192.0.0.53"): print(reach(address, 9000), flush=True)'

    first, second = agent.run((network, listens), (network, tries))

    assert first == "listens\nfound by nobody\n"
    assert set(second.splitlines()) <= {"Connection refused", "Network is unreachable", FORBIDDEN}
    assert not internet.reaches("192.0.0.8", 9000)


def test_a_list_of_names_follows_what_they_lead_to_and_refuses_other_addresses(
    agent: Agent, internet: Internet
) -> None:
    internet.names |= {
        "moving.test": ([HOST], 0),
        "other.test": ([OTHER], 60),
        "api.moving.test": ([OTHER], 60),
        "trap.moving.test": ([METADATA, MACHINE], 60),
    }
    program = f"""
print(reach("{OTHER}", {GREETING}), reach("{HOST}", {GREETING}), sep="|")
print(reach("moving.test", {GREETING}), reach("{HOST}", {GREETING}), reach("{OTHER}", {GREETING}), sep="|", flush=True)
reach("{HOST}", {BELL})
print(reach("moving.test", {GREETING}), sep="|")
end = time.monotonic() + 6
while reach("{HOST}", {GREETING}) != "{FORBIDDEN}" and time.monotonic() < end: time.sleep(0.1)
print(reach("{HOST}", {GREETING}), reach("{OTHER}", {GREETING}), sep="|")
print(reach("other.test", {GREETING}), reach("api.moving.test", {GREETING}), reach("trap.moving.test", {GREETING}), sep="|")
"""
    internet.when_rung = lambda: internet.names.update({"moving.test": ([OTHER], 0)})

    [output] = agent.run(("*.moving.test,moving.test", program))

    assert output.splitlines() == [
        f"{FORBIDDEN}|{FORBIDDEN}",  # no name has led there yet
        f"hello from {HOST}|hello from {HOST}|{FORBIDDEN}",
        f"hello from {OTHER}",
        f"{FORBIDDEN}|hello from {OTHER}",
        f"no such name|hello from {OTHER}|{FORBIDDEN}",
    ]
    assert "other.test" not in internet.asked


def test_a_list_of_networks_permits_what_is_in_them_but_not_the_machine_unless_by_its_address(agent: Agent) -> None:
    places = ((HOST, GREETING), (MACHINE, EVERYWHERE))

    assert agent.reach("198.51.100.0/24", *places) == [f"hello from {HOST}", FORBIDDEN]
    assert agent.reach("198.51.100.1/32", *places) == [FORBIDDEN, f"hello from {MACHINE}"]


def test_connecting_fails_inside_as_it_does_outside(agent: Agent) -> None:
    assert agent.reach("egress", (HOST, CLOSED), ("no-such.test", 80)) == ["Connection refused", "no such name"]


def test_addresses_of_the_sixth_version_are_reached_too(agent: Agent, internet: Internet) -> None:
    internet.names["six.test"] = ([HOST6], 0)

    reached = agent.reach("egress", (HOST6, GREETING), ("six.test", GREETING), ("::1", GREETING), ("fe80::1", GREETING))

    assert reached[:3] == [f"hello from {HOST6}"] * 2 + ["Connection refused"]
    assert not reached[3].startswith("hello")
    assert agent.reach("six.test", (HOST6, GREETING)) == ["Permission denied"]


def test_datagrams_go_out_and_their_answers_come_back(agent: Agent) -> None:
    tries = f'print(*(reach(a, {ECHO}, socket.SOCK_DGRAM) for a in ("{HOST}", "{HOST6}", "{METADATA}")), sep="|")'

    assert agent.run(("egress", tries)) == [f"ping|ping|{FORBIDDEN}\n"]
    assert agent.run((f"{OTHER}/32", tries)) == [f"{FORBIDDEN}|Permission denied|{FORBIDDEN}\n"]


def test_a_name_with_more_addresses_than_a_datagram_holds_is_asked_for_again_by_a_stream(
    agent: Agent, internet: Internet
) -> None:
    internet.names["many.test"] = ([f"198.51.100.{number}" for number in range(100, 200)], 0)

    output = agent.run(("many.test", 'print(len(socket.getaddrinfo("many.test", 80, type=socket.SOCK_STREAM)))'))

    assert output == ["100\n"]


def test_megabytes_go_both_ways_unchanged_and_an_end_is_told_while_the_other_way_goes_on(agent: Agent) -> None:
    program = f"""
import hashlib, threading
data = os.urandom(1 << 20) * 24
s = socket.create_connection(("{HOST}", {ECHO}))
def send():
    s.sendall(data); s.shutdown(socket.SHUT_WR)
threading.Thread(target=send).start()
got = hashlib.sha256(); size = 0
while part := s.recv(1 << 20): got.update(part); size += len(part)
print(size == len(data), got.digest() == hashlib.sha256(data).digest())
"""

    assert agent.run(("egress", program)) == ["True True\n"]


def test_the_connector_has_no_rights_and_what_sandboxes_had_is_given_back(agent: Agent) -> None:
    agent.reach("egress", (HOST, GREETING))
    [pid] = agent.connectors
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    open_before = len(os.listdir(f"/proc/{pid}/fd"))
    for _ in range(3):
        agent.reach("egress", (HOST, GREETING), ("host.test", GREETING))

    assert status["CapEff"] == status["CapPrm"] == "0" * 16
    assert status["NoNewPrivs"] == "1"
    assert status["Uid"].split()[0] != "0"
    for _ in range(50):  # it hears of an end a moment after the agent
        if len(os.listdir(f"/proc/{pid}/fd")) <= open_before:
            return
        agent.reach("none")
    pytest.fail("the connector keeps what nobody needs")


def test_a_connector_that_dies_is_replaced_for_the_sandboxes_that_are_there(agent: Agent, internet: Internet) -> None:
    agent.reach("egress", (HOST, GREETING))
    [pid] = agent.connectors
    internet.when_rung = lambda: os.kill(pid, 9)
    program = f"""
print(reach("{HOST}", {BELL}))
end = time.monotonic() + 20
while not (got := reach("{HOST}", {GREETING})).startswith("hello") and time.monotonic() < end: pass
print(got)
"""

    [output] = agent.run(("egress", program))

    assert output.splitlines()[1:] == [f"hello from {HOST}"]
    assert pid not in agent.connectors


def test_what_is_asked_for_wrongly_is_said(agent: Agent) -> None:
    assert agent.run(("moon", ""))[0].startswith("cannot start sandbox box-")
    assert "'moon' is none of 'egress', 'none', 'host'" in agent.run(("moon", ""))[0]


@pytest.mark.slow
@pytest.mark.parametrize("user", [0, USER], ids=["root", "user"])
def test_without_rules_for_packets_programs_reach_by_a_proxy_what_they_may(internet: Internet, user: int) -> None:
    internet.names["web.test"] = ([HOST], 0)
    program = f"""
import urllib.request, http.client
def get(url, proxy="192.0.0.53:3128"):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({{"http": proxy}}))
    try: return opener.open(url, timeout=5).read().decode().strip()
    except urllib.error.HTTPError as error: return f"{{error.code}} " + error.read().decode().strip().partition(":")[0]
print(get("http://web.test:{WEB}/a"), get("http://{HOST}:{WEB}/b"), get("http://{METADATA}:{WEB}/"), sep="|")
tunnel = http.client.HTTPConnection("192.0.0.53", 3128); tunnel.set_tunnel("web.test", {ECHO}); tunnel.connect()
tunnel.sock.sendall(b"ping")
print(tunnel.sock.recv(100).decode(), reach("{HOST}", {GREETING}), reach("127.0.0.1", {LOOPBACK}), sep="|")
"""

    with agent_on(internet, user, without_rules) as agent:
        open_to_all, listed = (agent.run((network, program))[0].splitlines() for network in ("egress", "web.test"))

    assert "nft" in agent.denial
    assert open_to_all == [
        f"/a of web.test:{WEB}|/b of {HOST}:{WEB}|403 cannot reach {METADATA}",
        "ping|Network is unreachable|Connection refused",
    ]
    assert listed == [f"/a of web.test:{WEB}|/b of {HOST}:{WEB}|403 cannot reach {METADATA}", open_to_all[1]]
