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
load(order, lambda value: value)
rehearsal = Rehearsal()
before = set(sys.modules)
code = Worker(Channel(ours), load, rehearsal.find_flush).run()
after = sorted(set(sys.modules) - before)
said = theirs.recv(65536)
print(json.dumps({"code": code, "imported": after, "is_right": said.count(b"succeeded") == 2}))
"""

_FLUSH = """
import json, sys, types
from relight.runtime.rehearsal import Rehearsal

rehearsal = Rehearsal()
seen = [rehearsal.find_flush() is not None]
foreign = types.ModuleType("foreign")
foreign.__file__ = "/somewhere/foreign.so"
sys.modules["foreign"] = foreign
seen.append(rehearsal.find_flush() is not None)
print(json.dumps(seen))
"""


def test_after_a_rehearsal_a_worker_imports_nothing_for_calls_in_json_or_from_python(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def double(x: int) -> int:\n    return 2 * x\n")

    said = json.loads(_run(_WORKER, str(tmp_path)))

    assert said == {"code": 0, "imported": [], "is_right": True}


def test_what_c_may_hold_back_is_looked_for_again_where_more_was_imported() -> None:
    assert json.loads(_run(_FLUSH)) == [False, True]


def _run(program: str, *words: str) -> str:
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
