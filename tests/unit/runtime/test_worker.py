"""A worker's whole life, in a real process, on every Python of this machine."""

from __future__ import annotations

import json
import mmap
import os
import re
import signal
from typing import TYPE_CHECKING, Any

import pytest

from relight.protocol.calls import CallEvent
from relight.protocol.channel import Ended, Interrupt, LoadFailed, Ready, Recall, Recalled, Run, Tokens
from relight.protocol.payload import Payload
from relight.protocol.values import dump_input, load_exception, load_result

if TYPE_CHECKING:
    from collections.abc import Callable

SQUARE = """
def square(x):
    return x * x
"""


TOKENS = """
import threading
import relight

def think(n):
    threads = [threading.Thread(target=relight.report_tokens, args=(1, 10)) for _ in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
"""


def value_of(ended: Ended) -> Any:
    assert ended.outcome is CallEvent.SUCCEEDED, ended.failure
    assert ended.result is not None
    return load_result(ended.result)


def test_a_worker_loads_runs_and_leaves_on_every_python(start_agent: Callable[..., Any], python: str) -> None:
    agent = start_agent(python)

    loaded = agent.load("square", SQUARE)

    assert isinstance(loaded, Ready), loaded
    assert loaded.import_seconds > 0
    assert [value_of(agent.call(x)) for x in (3, 7)] == [9, 49]
    assert agent.stop()[0] == 0


def test_a_call_says_what_cpu_time_it_took_with_the_processes_that_it_waited_for(agent: Any) -> None:
    spin = "deadline = time.process_time() + {}\nwhile time.process_time() < deadline: pass"
    agent.load(
        "work",
        "import subprocess, sys, threading, time\n"
        f"OWN, CHILD = {spin.format(0.05)!r}, {'import time;' + spin.format(0.1)!r}\n"
        "def work(kind):\n"
        "    if kind == 'waits':\n        threading.Event().wait(0.1)\n"
        "    elif kind == 'calculates':\n        exec(OWN)\n"
        "    else:\n        subprocess.run([sys.executable, '-S', '-c', CHILD], check=True)\n",
    )

    waits, calculates, has_others = (agent.call(kind).cpu_us for kind in ("waits", "calculates", "has others"))

    assert waits < 40_000 < calculates < has_others
    assert has_others >= 90_000


def test_tokens_are_told_before_the_end_of_their_call_from_whatever_thread(agent: Any) -> None:
    agent.load("think", TOKENS)

    agent.start(3)
    told = agent.receive(), agent.receive()
    agent.start(0, call="call-2")

    assert told[0] == Tokens(call="call-1", read=3, written=30)
    assert isinstance(told[1], Ended)
    assert isinstance(agent.receive(), Ended), "nothing was reported in the second"


def test_what_a_call_that_is_alone_writes_stands_there_without_notes(agent: Any) -> None:
    agent.load(
        "speak",
        "import sys\nprint('at import')\ndef speak():\n    print('out'); print('err', end='', file=sys.stderr)\n",
    )

    agent.call()
    _, out, err = agent.stop()

    assert out == b"at import\nout\n"
    assert err == b"err"


def test_a_failure_has_the_users_frames_and_the_exception_itself(agent: Any) -> None:
    agent.load("fail", "def fail():\n    raise KeyError('lamp')\n")

    ended = agent.call()

    assert ended.outcome is CallEvent.FAILED
    assert ended.failure.code == "function_failed"
    assert ended.failure.type_name == "KeyError"
    assert "raise KeyError('lamp')" in ended.failure.traceback
    assert "relight" not in ended.failure.traceback
    assert load_exception(ended.failure.exception).args == ("lamp",)


def test_a_call_that_exits_fails_and_the_worker_lives_on(agent: Any) -> None:
    agent.load("leave", "import sys\ndef leave(code):\n    return sys.exit(code) if code else 'here'\n")

    ended = agent.call(3)

    assert (ended.outcome, ended.failure.type_name) == (CallEvent.FAILED, "SystemExit")
    assert ended.failure.exception is None
    assert value_of(agent.call(0)) == "here"


@pytest.mark.parametrize(
    "body",
    [
        "def wait():\n    print('in', flush=True)\n    try:\n        time.sleep(60)\n    except Exception:\n        pass\n",
        "async def wait():\n    print('in', flush=True)\n    await asyncio.sleep(60)\n",
    ],
    ids=["plain", "async"],
)
@pytest.mark.parametrize("reason", [CallEvent.CANCELLED, CallEvent.TIMED_OUT])
def test_a_running_call_is_interrupted_and_the_worker_takes_the_next(
    start_agent: Callable[..., Any], python: str, body: str, reason: CallEvent
) -> None:
    agent = start_agent(python)
    agent.load("wait", f"import asyncio, time\n{body}")
    agent.start()
    while agent.wait_line() != b"in\n":
        pass

    agent.interrupt(reason)

    ended = agent.end()
    assert (ended.outcome, ended.failure.code) == (reason, reason.value)
    agent.start(call="call-2")
    agent.interrupt(CallEvent.CANCELLED, call="call-2")
    assert agent.end().call == "call-2"


def test_a_task_that_holds_up_its_event_loop_is_interrupted_by_another_ring(
    start_agent: Callable[..., Any], python: str
) -> None:
    agent = start_agent(python)
    body = "async def spin(ends):\n    print('in', flush=True)\n    while not ends:\n        pass\n    return 'fine'\n"
    agent.load("spin", f"import asyncio\n{body}")
    agent.start(False)
    assert agent.wait_line() == b"in\n"

    agent.interrupt(CallEvent.CANCELLED)
    agent.channel.settimeout(0.3)
    with pytest.raises(TimeoutError):
        agent.receive()
    agent.channel.settimeout(20)
    agent.process.send_signal(signal.SIGUSR1)

    assert agent.end().outcome is CallEvent.CANCELLED
    assert value_of(agent.call(True)) == "fine"


def test_a_task_that_takes_long_to_obey_is_not_interrupted_by_another_ring(agent: Any) -> None:
    obey = (
        "async def obey():\n    print('in', flush=True)\n    try:\n        await asyncio.sleep(60)\n"
        "    finally:\n        print('out', flush=True)\n        time.sleep(0.5)\n        print('done', flush=True)\n"
    )
    agent.load("obey", f"import asyncio, time\n{obey}")
    agent.start()
    assert agent.wait_line() == b"in\n"

    agent.interrupt(CallEvent.CANCELLED)
    assert agent.wait_line() == b"out\n"
    agent.process.send_signal(signal.SIGUSR1)

    assert agent.wait_line() == b"done\n"
    assert agent.end().outcome is CallEvent.CANCELLED


def test_an_interrupt_that_comes_too_late_touches_nothing(agent: Any) -> None:
    agent.load("square", SQUARE)
    agent.call(2)

    agent.interrupt(CallEvent.CANCELLED)

    assert value_of(agent.call(5)) == 25


def test_an_interrupt_that_comes_with_its_call_is_not_missed(agent: Any) -> None:
    agent.load("wait", "import time\ndef wait():\n    time.sleep(60)\n")
    os.kill(agent.process.pid, signal.SIGSTOP)
    agent.start()
    agent.interrupt(CallEvent.CANCELLED)

    os.kill(agent.process.pid, signal.SIGCONT)

    assert agent.end().outcome is CallEvent.CANCELLED


def test_a_terminated_worker_finishes_its_call_and_leaves(agent: Any) -> None:
    agent.load(
        "slow", "import time\ndef slow():\n    print('in', flush=True)\n    time.sleep(0.2)\n    return 'done'\n"
    )
    agent.start()
    while agent.wait_line() != b"in\n":
        pass

    agent.process.send_signal(signal.SIGTERM)

    assert value_of(agent.end()) == "done"
    assert agent.process.wait(20) == 0


def test_an_idle_worker_leaves_when_terminated_and_runs_exit(agent: Any) -> None:
    source = "class C:\n    def bye(self):\n        print('bye')\n    bye.__relight_hook__ = 'exit'\n"
    agent.load("C", source, is_class=True)

    agent.process.send_signal(signal.SIGTERM)

    assert agent.process.communicate(timeout=20)[0] == b"bye\n"
    assert agent.process.returncode == 0


def test_a_large_result_comes_as_a_file_that_cannot_be_changed(agent: Any) -> None:
    agent.load("big", "def big(size):\n    return b'x' * size\n")

    ended = agent.call(1_000_000)

    (descriptor,) = agent.descriptors
    assert ended.result.data is None
    with pytest.raises(PermissionError):
        os.write(descriptor, b"y")
    with mmap.mmap(descriptor, ended.result.size, access=mmap.ACCESS_READ) as mapped:
        assert load_result(ended.result, mapped) == b"x" * 1_000_000


def test_large_arguments_come_as_a_file(agent: Any) -> None:
    agent.load("count", "def count(data):\n    return len(data)\n")
    payload = dump_input((b"y" * 600_000,), {})
    descriptor = os.memfd_create("argument")
    os.write(descriptor, payload.data or b"")

    agent.send(
        Run(call="call-1", attempt=1, payload=Payload(format="pickle5", blob="0" * 64, size=payload.size)),
        (descriptor,),
    )
    os.close(descriptor)

    assert value_of(agent.end()) == 600_000


def test_the_result_is_json_where_that_is_asked_for_and_python_where_it_is_not_json(agent: Any) -> None:
    agent.load("same", "def same(x):\n    return {x}if isinstance(x, int) else [x]\n")

    as_json, as_python = (agent.call(x, accept=("json",)).result for x in ("a", 1))

    assert (as_json.format, json.loads(as_json.data)) == ("json", ["a"])
    assert (as_python.format, as_python.preview) == ("pickle5", "{1}")


def test_what_cannot_be_returned_is_said(agent: Any) -> None:
    agent.load("lock", "import threading\ndef lock():\n    return threading.Lock()\n")

    ended = agent.call()

    assert ended.failure.code == "value_not_portable"
    assert "cannot return a lock" in ended.failure.message


def test_a_class_enters_in_order_runs_methods_and_exits(start_agent: Callable[..., Any], python: str) -> None:
    source = """
class Raw:
    def __init__(self, function):
        self.__relight_raw__ = function

class Base:
    def first(self):
        self.seen.append('first')
    first.__relight_hook__ = 'enter'

class Reader(Base):
    async def second(self):
        self.seen.append('second')
    second.__relight_hook__ = 'enter'
    async def before(self):
        self.seen = ['before']
    before.__relight_hook__ = 'enter_snap'
    def bye(self):
        print('bye')
    bye.__relight_hook__ = 'exit'
    read = Raw(lambda self, x: [*self.seen, x])
"""
    agent = start_agent(python)
    agent.load("Reader", source, is_class=True)

    assert value_of(agent.call("page", method="read")) == ["before", "first", "second", "page"]
    assert agent.call(method="seen").failure.code == "not_found"
    code, out, _ = agent.stop()
    assert code == 0
    assert out.endswith(b"bye\n")


def test_a_module_that_cannot_be_imported_is_told_with_the_users_frames(agent: Any) -> None:
    failed = agent.load("f", "def f(): pass\nraise RuntimeError('no lamp')\n")

    assert isinstance(failed, LoadFailed)
    assert failed.failure.code == "start_failed"
    assert "no lamp" in failed.failure.message
    assert "app.py" in failed.failure.traceback
    assert "importlib" not in failed.failure.traceback
    assert agent.process.wait(20) == 70


def test_a_module_that_runs_its_app_is_kept_as_far_as_it_got(agent: Any) -> None:
    source = """
import relight
app = relight.App()
@app.function()
def square(x):
    return x * x
try:
    with app.run():
        raise SystemExit("a worker must not come here")
except Exception:
    raise SystemExit("nor here")
"""
    loaded = agent.load("square", source)

    assert isinstance(loaded, Ready), loaded
    assert value_of(agent.call(6)) == 36


def test_a_value_of_the_callers_main_is_one_of_the_modules(agent: Any) -> None:
    agent.load("kind", "class Lamp:\n    pass\ndef kind(value):\n    return value is Lamp\n")
    by_main = b"\x80\x05(c__main__\nLamp\nt}\x86."  # ((__main__.Lamp,), {})

    agent.send(Run(call="call-1", attempt=1, payload=Payload(format="pickle5", data=by_main)))

    assert value_of(agent.end()) is True


def test_a_function_by_value_runs(agent: Any) -> None:
    agent.load("apply", "def apply(function, x):\n    return function(x)\n")
    one = 1

    assert value_of(agent.call(lambda x: x + one, 2)) == 3


def test_a_message_without_meaning_ends_the_worker(agent: Any) -> None:
    agent.channel.sendall(b"\xff\xff\xff\xff")

    _, err = agent.process.communicate(timeout=20)

    assert agent.process.returncode == 71
    assert b"cannot read a message" in err


def test_a_worker_whose_agent_is_gone_leaves(agent: Any) -> None:
    agent.load("square", SQUARE)

    agent.channel.close()

    assert agent.process.wait(20) == 0


# -- calls behind the one that runs

HOLD = """
import time

def hold(seconds):
    print("began", flush=True)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
    return seconds
"""


def test_calls_that_come_together_run_one_after_the_other(agent: Any) -> None:
    agent.load("double", "def double(x):\n    return 2 * x\n")

    for n in range(20):
        agent.start(n, call=f"call-{n}")
    ends = [agent.end() for _ in range(20)]

    assert [(end.call, value_of(end)) for end in ends] == [(f"call-{n}", 2 * n) for n in range(20)]


def test_calls_that_have_not_begun_are_given_back_while_another_runs(agent: Any) -> None:
    agent.load("hold", HOLD)
    for n in (1, 2, 3):
        agent.start(0.3 if n == 1 else 0, call=f"call-{n}")
    while b"began" not in agent.wait_line():
        pass

    agent.send(Recall(calls=("call-3", "call-9")))
    agent.process.send_signal(signal.SIGUSR1)

    assert agent.receive() == Recalled(calls=("call-3",))
    assert [agent.end().call, agent.end().call] == ["call-1", "call-2"]


DEAF = """
import signal, time
def deaf(seconds):
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    print("began", flush=True)
    time.sleep(seconds)
    return seconds
"""


def test_a_worker_that_heard_no_signal_looks_for_what_was_recalled_before_it_begins_another_call(agent: Any) -> None:
    agent.load("deaf", DEAF)
    for n in (1, 2, 3):
        agent.start(0.3 if n == 1 else n, call=f"call-{n}")
    while b"began" not in agent.wait_line():
        pass

    agent.send(Recall(calls=("call-2", "call-3")))
    agent.process.send_signal(signal.SIGUSR1)
    agent.start(0, call="call-2")

    assert agent.end().call == "call-1"
    assert agent.receive() == Recalled(calls=("call-2", "call-3"))
    assert (again := agent.end()).call == "call-2"
    assert value_of(again) == 0, "the attempt that was recalled would have slept"


def test_a_call_interrupted_before_its_turn_does_not_begin(agent: Any) -> None:
    agent.load("hold", HOLD)
    agent.start(0.2, call="call-1")
    agent.start(60, call="call-2")
    while b"began" not in agent.wait_line():
        pass

    agent.interrupt(CallEvent.CANCELLED, call="call-2")

    assert [(end.call, end.outcome) for end in (agent.end(), agent.end())] == [
        ("call-1", CallEvent.SUCCEEDED),
        ("call-2", CallEvent.CANCELLED),
    ]


def test_what_a_call_behind_another_writes_stands_after_its_own_note(agent: Any) -> None:
    agent.load("say", "def say(x):\n    print(x, end='')\n")
    for n in (1, 2, 3):
        run = Run(call=f"call-{n}", attempt=1, payload=dump_input((f"line {n}",), {}), is_behind=n > 1)
        agent.send(run)
    for _ in range(3):
        agent.end()
    agent.start("alone", call="call-4")
    agent.end()

    _, out, _ = agent.stop()

    said = re.sub(rb"\0\S+", b"MARK", out).decode()
    assert re.sub(r"MARK end call-2\n", "", said) == (
        "line 1MARK begin call-2\nline 2MARK begin call-3\nline 3MARK end call-3\nalone"
    )


def test_what_waits_behind_a_call_and_is_none_leaves_its_note_behind_on_nobody(agent: Any) -> None:
    agent.load("say", "def say(x):\n    print(x, end='')\n")
    for n in (1, 2):
        agent.send(Run(call=f"call-{n}", attempt=1, payload=dump_input((f"line {n}",), {}), is_behind=n > 1))
    agent.send(Interrupt(call="call-0", reason=CallEvent.CANCELLED))
    for _ in range(2):
        agent.end()
    agent.start("alone", call="call-3")
    agent.end()

    _, out, _ = agent.stop()

    said = re.sub(rb"\0\S+", b"MARK", out).decode()
    assert said == "line 1MARK begin call-2\nline 2MARK end call-2\nalone"
