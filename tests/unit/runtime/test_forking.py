"""A fork of one thread leaves out what `threading` does for others, and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys

_FORK = """
import json, os, sys, threading
from relight.runtime.forking import fork

heard = []
os.register_at_fork(after_in_child=lambda: heard.append("ours"))
settle = threading._after_fork.__code__
release = threading.Event()
others = [threading.Thread(target=release.wait) for _ in range(int(sys.argv[1]))]
for other in others:
    other.start()
sys.setprofile(lambda frame, event, arg: frame.f_code is settle and event == "call" and heard.append("threading"))
pid = fork()
sys.setprofile(None)
if not pid:
    inner = threading.Thread(target=heard.append, args=("inner",))
    inner.start()
    inner.join()
    main = threading.main_thread()
    print(json.dumps({
        "heard": heard,
        "is_whole": threading._after_fork.__code__ is settle,
        "threads": threading.active_count(),
        "is_main": threading.current_thread() is main and main.ident == threading.get_ident(),
        "is_known": main.native_id == threading.get_native_id(),
    }), flush=True)
    os._exit(0)
os.waitpid(pid, 0)
release.set()
assert threading._after_fork.__code__ is settle
"""


def test_a_fork_of_one_thread_leaves_the_hook_of_threading_out_and_runs_all_others() -> None:
    said = _fork(0)

    assert said["heard"] == ["ours", "inner"]
    assert said["is_known"]
    assert (said["is_whole"], said["is_main"], said["threads"]) == (True, True, 1)


def test_a_fork_of_several_threads_is_pythons_own() -> None:
    said = _fork(1)

    assert sorted(said["heard"]) == ["inner", "ours", "threading"]
    assert (said["is_whole"], said["is_main"], said["threads"]) == (True, True, 1)


def _fork(others: int) -> dict[str, object]:
    words = [sys.executable, "-W", "ignore", "-c", _FORK, str(others)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stderr
    said: dict[str, object] = json.loads(done.stdout)
    return said
