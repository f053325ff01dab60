"""What a template does ahead, so that no worker does it at its first call."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

_WORKER = """
import json, socket, sys
from relight.protocol.channel import Load, Run, Stop
from relight.protocol.codec import pack
from relight.protocol.payload import JSON, PICKLE, Payload
from relight.protocol.values import dump_input
from relight.runtime.channel import Channel
from relight.runtime.loader import load
from relight.runtime.rehearsal import Rehearsal
from relight.runtime.worker import Worker

order = Load(module="mine", qualname="double", is_class=False, paths=(sys.argv[1],), mark="m")
in_json = Payload(format=JSON, data=b'{"args": [], "kwargs": {"x": 21}}')
ours, theirs = socket.socketpair()
for message in (
    order,
    Run(call="a", attempt=1, payload=in_json, accept=(JSON,)),
    Run(call="b", attempt=1, payload=dump_input((21,), {}), accept=(PICKLE,)),
    Stop(),
):
    data = pack(message)
    theirs.sendall(len(data).to_bytes(4, "big") + data)
rehearsal = Rehearsal(load(order, lambda value: value))
before = set(sys.modules)
code = Worker(Channel(ours), load, rehearsal.find_flush).run()
after = sorted(set(sys.modules) - before)
said = theirs.recv(65536)
print(json.dumps({"code": code, "imported": after, "is_right": said.count(b"succeeded") == 2}))
"""

_FLUSH = """
import json, sys, types
from relight.runtime.loader import Loaded
from relight.runtime.rehearsal import Rehearsal

rehearsal = Rehearsal(Loaded(len, lambda value: value))
seen = [rehearsal.find_flush() is not None]
foreign = types.ModuleType("foreign")
foreign.__file__ = "/somewhere/foreign.so"
sys.modules["foreign"] = foreign
seen.append(rehearsal.find_flush() is not None)
print(json.dumps(seen))
"""

_COPIED = """
import gc, os, resource, socket, sys
from relight.protocol.channel import Load, Run, Stop
from relight.protocol.codec import pack
from relight.protocol.payload import JSON, Payload
from relight.runtime.channel import Channel
from relight.runtime.loader import Loaded
from relight.runtime.rehearsal import Rehearsal
from relight.runtime.worker import Worker


def live():
    "The pages that a worker has copied, from its fork to its end."
    ours, theirs = socket.socketpair()
    for message in (
        Load(module="", qualname="x", is_class=False, paths=(), mark="m"),
        Run(call="a", attempt=1, payload=Payload(format=JSON, data=b'{"args": [], "kwargs": {"x": 1}}'), accept=(JSON,)),
        Stop(),
    ):
        data = pack(message)
        theirs.sendall(len(data).to_bytes(4, "big") + data)
    gc.collect()
    gc.freeze()
    said, says = os.pipe()
    if not (pid := os.fork()):
        began = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        Worker(Channel(ours), lambda order, run: loaded, lambda: None).live()
        ended = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        os.write(says, str(ended - began).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    return int(os.read(said, 16))


loaded = Loaded(lambda x: x, lambda value: value)
before = live()
loaded.inputs = Rehearsal(loaded).inputs
print(live() / before)
"""

_LEFT = """
import json, os, signal, socket, threading
from relight.protocol.inside import inside
from relight.runtime.loader import Loaded
from relight.runtime.rehearsal import Rehearsal


def seen():
    return [
        len(os.listdir("/proc/self/fd")),
        threading.active_count(),
        [str(signal.getsignal(number)) for number in (signal.SIGUSR1, signal.SIGTERM)],
        [inside.app, inside.call, inside.environment, inside.folder, inside.platform],
        os.environ.get("RELIGHT_WORKER", ""),
    ]


def never(x: int) -> int:
    raise SystemExit("it was called")


before = seen()
Rehearsal(Loaded(never, lambda value: value))
print(json.dumps([before, seen()]))
"""


def test_after_a_rehearsal_a_worker_imports_nothing_for_calls_in_json_or_from_python(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def double(x: int) -> int:\n    return 2 * x\n")

    said = json.loads(_run(_WORKER, str(tmp_path)))

    assert said == {"code": 0, "imported": [], "is_right": True}


def test_what_c_may_hold_back_is_looked_for_again_where_more_was_imported() -> None:
    assert json.loads(_run(_FLUSH)) == [False, True]


def test_a_worker_has_fewer_pages_copied_after_a_rehearsal() -> None:
    assert float(_run(_COPIED)) < 0.8


def test_a_rehearsal_calls_nothing_of_the_users_and_leaves_nothing_behind() -> None:
    before, after = json.loads(_run(_LEFT))

    assert after == before


def _run(program: str, *words: str) -> str:
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
