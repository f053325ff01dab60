"""Sandboxes of an agent that is not root: the same walls, one uid, and what cannot be had is said."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import relight

USER = 1001
AGENT = """
import asyncio, json, os, socket, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from relight.agent.sandboxes import Sandboxes
from relight.protocol.errors import StartFailed
from relight.sandbox.facts import explain
from relight.sandbox.spec import Isolation, Mount, SandboxSpec

async def main(state, isolation, script, sources):
    sandboxes = Sandboxes(Path(state), isolation=Isolation(isolation))
    await sandboxes.open()
    ours, theirs = socket.socketpair()
    read, write = os.pipe()
    mounts = tuple(Mount(source=source, target=source) for source in sources)
    spec = SandboxSpec(id="one", argv=("/bin/sh", "-c", "read -r _ <&3; " + script), mounts=mounts)
    answer = {"isolation": sandboxes.isolation.value, "facts": {f.name: f.holds for f in explain(sandboxes.facts)}}
    try:
        sandbox = await sandboxes.start(spec, channel=theirs, stdout=write, stderr=write)
        answer["outer_uid"] = os.stat(f"/proc/{sandbox.pid}").st_uid
        os.close(write)
        ours.sendall(b"go\\n")
        answer["code"] = (await sandbox.wait()).code
        answer["output"] = os.fdopen(read).read()
    except StartFailed as failure:
        answer["failure"] = str(failure)
    await sandboxes.close()
    print(json.dumps(answer))

asyncio.run(main(sys.argv[2], sys.argv[3], sys.argv[4], sys.argv[5:]))
"""
Agent = Callable[..., dict[str, object]]


def python_of_everybody() -> str:
    """A Python that another user can run and that the agent can run on."""
    for candidate in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        check = [candidate, "-I", "-S", "-c", "import sys; sys.exit(sys.version_info < (3, 11))"]
        try:
            if subprocess.run(check, user=USER, group=USER, extra_groups=[], capture_output=True).returncode == 0:
                return candidate
        except OSError:
            continue
    pytest.skip("no Python 3.11 here that another user can run")


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that the other user can see."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def agent(shared: Path) -> Agent:
    """Runs a script in one sandbox of an agent of another user; what it said, and how it ended."""
    if os.geteuid() != 0:
        pytest.skip("needs root to become another user")
    python = python_of_everybody()
    source = shared / "source"
    package = Path(relight.__file__).parent
    shutil.copytree(package, source / "relight", ignore=shutil.ignore_patterns("__pycache__"))
    for path in (source, *source.rglob("*")):
        path.chmod(0o755)
    state = shared / "state"
    state.mkdir()
    os.chown(state, USER, USER)

    def run(script: str, *sources: Path, isolation: str = "namespaces") -> dict[str, object]:
        command = [python, "-I", "-S", "-c", AGENT, str(source), str(state), isolation, script, *map(str, sources)]
        done = subprocess.run(
            command, user=USER, group=USER, extra_groups=[], cwd="/", capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        answer: dict[str, object] = json.loads(done.stdout)
        return answer

    return run


@pytest.mark.root
def test_without_root_the_walls_are_the_same_and_the_uid_is_the_agents(agent, shared):
    secret = shared / "state" / "secret"
    secret.write_text("s3cret")

    answer = agent(f"id -u; ps -e -o pid=; cat {secret}; ls /root; grep CapEff /proc/self/status; exit 4")

    assert (answer["isolation"], answer["outer_uid"], answer["code"]) == ("namespaces", USER, 4)
    output = str(answer["output"])
    assert output.startswith("1000\n")
    assert "s3cret" not in output
    assert output.count("No such file") == 2
    assert "0000000000000000" in output


@pytest.mark.root
def test_without_root_what_is_not_enforced_is_said(agent):
    facts = agent("true")["facts"]

    said = {name: facts[name] for name in facts if name not in ("system calls", "landlock")}  # the kernel's to permit
    assert said == {
        "isolation": True, "users": False, "network": True, "limit.memory": False, "limit.cpu": False, "limit.pids": False,
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.root
def test_without_root_own_folders_can_be_shown_and_others_are_named(agent, shared):
    mine, theirs = shared / "mine", shared / "theirs"
    for folder in (mine, theirs):
        folder.mkdir()
        (folder / "file").write_text(folder.name)
        folder.chmod(0o700)
    os.chown(mine, USER, USER)
    (mine / "file").chmod(0o644)

    assert agent(f"cat {mine}/file; touch {mine}/x 2>/dev/null || echo -no", mine)["output"] == "mine-no\n"
    refused = str(agent("true", theirs)["failure"])
    assert f"{theirs}, to be mounted, cannot be read by uid {USER}" in refused


@pytest.mark.root
def test_without_root_groups_or_namespaces_strays_still_die_with_the_worker(agent):
    answer = agent("sleep 600 & (setsid sleep 600 & echo $!); echo $!; exit 6", isolation="process")

    assert (answer["isolation"], answer["code"]) == ("process", 6)
    for pid in map(int, str(answer["output"]).split()):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
