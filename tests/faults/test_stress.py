"""Calls of all lengths, given ahead, cancelled at any moment, while workers, templates, the agent and the server are killed.

A seed decides what is asked, cancelled and killed; what meets what is up to the machine.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path
from typing import Any

import pytest

import relight
from faults.app_under_stress import Broken, app, await_ahead, count, count_again, work, work_again, work_ahead
from faults.witness import LOST_TRIES, Asked, Kept, Witness, check_call, witness
from relight.agent.calls import RECALL_SECONDS, STALL_SECONDS
from servers import Server, serving, templates_of, wait_until, workers_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SPAWNED = 150
MAPPED = 120
READ = 12
ROUNDS = 10
KILLS = 8
LATE_SECONDS = 1.0
"""A machine that does much else may come to a timer so late."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path / "data", app) as started:
        yield started


class Stress:
    """Everything that is asked of one server."""

    def __init__(self, seed: int, heard: Witness) -> None:
        self._seed = seed
        self._port = heard.port
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        self.asked: dict[str, Asked] = {}
        self.deaths: list[float] = []  # of servers

    def chance(self, name: str) -> random.Random:
        """Each client its own."""
        return random.Random(f"{self._seed} {name}")

    def run(self, server: Server) -> None:
        """Ask all of it; returns when every call that was asked for has ended."""
        clients = [self.spawn, self.spawn_again, self.map, self.spawn_maps, self.give_ahead, self.read, self.read_again]
        with ThreadPoolExecutor() as pool:
            nemesis = pool.submit(self.kill, server)
            done = [pool.submit(client) for client in clients]
            try:
                for one in done:
                    one.result()
            finally:
                self._is_over.set()
            nemesis.result()

    # -- clients

    def spawn(self) -> None:
        """Calls one by one, some cancelled soon, some late."""
        self._spawn(work, self.chance("spawn"), 0)

    def spawn_again(self) -> None:
        """The same, of what may be tried again."""
        self._spawn(work_again, self.chance("spawn again"), 2)

    def _spawn(self, function: relight.Function[..., int], chance: random.Random, retries: int) -> None:
        calls: list[relight.Call[int]] = []
        for n in range(SPAWNED):
            manner, seconds = _errand(chance)
            call = function.spawn(n, manner, seconds, self._port)
            calls.append(call)
            self._note(call.id, None if manner == "raises" else 3 * n, retries)
            if chance.random() < 0.2:
                self.cancel(chance.choice(calls[-30:]))
            if chance.random() < 0.05:
                self._is_over.wait(chance.uniform(0.0, 0.3))
        for call in calls:
            self.see(call)

    def map(self) -> None:
        """Maps whose results come in their order."""
        chance = self.chance("map")
        for first in (0, MAPPED):
            errands = [_errand(chance, raises=False) for _ in range(MAPPED)]
            inputs = [(first + n, manner, seconds, self._port) for n, (manner, seconds) in enumerate(errands)]
            results = list(work_again.starmap(inputs, return_exceptions=True))
            assert len(results) == MAPPED
            assert all(result == 3 * n or is_worn_out(result) for n, result in enumerate(results, first))

    def spawn_maps(self) -> None:
        """Groups, of which members or all are cancelled."""
        chance = self.chance("spawn maps")
        for size in (40, 80, 20):
            group = self.ask_many(work, [_errand(chance, raises=False) for _ in range(size)])
            self._is_over.wait(chance.uniform(0.0, 1.0))
            for call in chance.sample(list(group[:]), size // 4):
                self.cancel(call)
            if size == 80:
                for call in group[:]:
                    self.asked[call.id].is_cancelled = True
                group.cancel()
            for call in group[:]:
                self.see(call)

    def give_ahead(self) -> None:
        """Short calls that were given to workers behind long ones, and are cancelled there."""
        chance = self.chance("give ahead")
        for _ in range(ROUNDS):
            list(self.ask_many(work_ahead, [("waits", 0.0)] * 20).results())
            errands = [("waits", chance.choice([0.0, 0.001]))] * 60
            for at in range(0, chance.choice([20, 40, 60]), 20):
                errands[at] = (chance.choice(["waits", "computes", "holds"]), chance.choice([0.08, 0.3, 1.0]))
            group = self.ask_many(work_ahead, errands)
            for call in chance.sample(list(group[:]), 10):
                self._is_over.wait(chance.choice([0.0, 0.01, 0.05]))
                self.cancel(call)
            for call in group[:]:
                self.see(call)

    def ask_many(
        self, function: relight.Function[..., int], errands: Sequence[tuple[str, float]]
    ) -> relight.CallGroup[int]:
        manners, seconds = zip(*errands, strict=True)
        group = function.spawn_map(range(len(errands)), manners, seconds, repeat(self._port))
        for n in range(len(errands)):
            self._note(group[n].id, 3 * n, 0)
        return group

    def read(self) -> None:
        """Generators, some left early."""
        self._read(count, self.chance("read"), may_be_lost=True)

    def read_again(self) -> None:
        """Generators that go on whatever is killed."""
        self._read(count_again, self.chance("read again"), may_be_lost=False)

    def _read(self, generator: Any, chance: random.Random, *, may_be_lost: bool) -> None:
        for _ in range(READ):
            size, leaves_at = chance.randrange(1, 200), chance.choice([None, None, chance.randrange(1, 200)])
            items = []
            with contextlib.closing(generator.remote(size, chance.choice([0.0, 0.001, 0.01]), self._port)) as read:
                try:
                    for item in read:
                        items.append(item)
                        if len(items) == leaves_at:
                            break
                    else:
                        assert len(items) == size
                except relight.RelightError as error:
                    if not (may_be_lost and error.code == "worker_lost") and not is_worn_out(error):
                        raise
            assert items == list(range(1, len(items) + 1))

    # -- what is done to calls

    def _note(self, call: str, result: object, retries: int) -> None:
        with self._lock:
            self.asked.setdefault(call, Asked(result=result, retries=retries))

    def cancel(self, call: relight.Call[int]) -> None:
        self.asked[call.id].is_cancelled = True
        call.cancel()

    def see(self, call: relight.Call[int]) -> None:
        try:
            self.asked[call.id].seen.append(call.get(timeout=120))
        except Broken:
            self.asked[call.id].seen.append("function_failed")
        except relight.RelightError as error:
            self.asked[call.id].seen.append(error.code)

    # -- what is done to processes

    def kill(self, server: Server) -> None:
        """Kill workers, templates, and once each the agent and the server."""
        chance = self.chance("kill")
        victims = ["worker"] * KILLS + ["template", "template", "agent", "server"]
        for victim in chance.sample(victims, len(victims)):
            if self._is_over.wait(chance.uniform(0.3, 1.5)):
                return
            with contextlib.suppress(ProcessLookupError):
                if victim == "server":
                    self.deaths.append(time.time())
                    server.kill()
                    server.start()
                elif victim == "agent":
                    server.kill_agent()
                elif found := workers_of(server) if victim == "worker" else templates_of(server):
                    os.kill(chance.choice(found), signal.SIGKILL)


def is_worn_out(result: object) -> bool:
    """Whether a call has no result because it was killed each time."""
    return isinstance(result, relight.WorkerLost) and f"it was tried {LOST_TRIES} times" in str(result)


def _errand(chance: random.Random, *, raises: bool = True) -> tuple[str, float]:
    """A manner, and for how long: most are short, so that calls are given ahead; some are long, so that it is a mistake."""
    seconds = chance.choices([0.0, 0.001, 0.03, 0.2, 0.8, 2.0], [50, 20, 15, 8, 5, 2])[0]
    manner = chance.choices(["waits", "computes", "holds"], [4, 1, 2])[0]
    return ("raises", min(seconds, 0.03)) if raises and chance.random() < 0.1 else (manner, seconds)


def kept_calls(server: Server) -> dict[str, tuple[str, Kept]]:
    """What the server keeps of every call of the app, with its function's name."""
    found: dict[str, tuple[str, Kept]] = {}
    before = ""
    while calls := server.get(f"/v1/calls?app=under_stress&limit=500&before={before}")["calls"]:
        before = calls[-1]["id"]
        for call in calls:
            found[call["id"]] = (call["function"], _kept(server.get(f"/v1/calls/{call['id']}")))
    return found


def _kept(shown: Any) -> Kept:
    call = shown["call"]
    failure = call["failure"] or {}
    return Kept(
        state=call["state"],
        code=failure.get("code", ""),
        message=failure.get("message", ""),
        charged=call["attempts"],
        ended=call["ended_at"] or 0.0,
        outcomes=tuple(one["outcome"] for one in shown["attempts"]),
    )


def complaints(server: Server) -> list[str]:
    """What nobody's kill explains: errors of the agents, and workers that they took for liars."""
    lines = (server.folder / "agent" / "agent.log").read_text().splitlines()
    return [line for line in lines if '"level": "error"' in line or "killed:protocol" in line or "Traceback" in line]


def are_at_rest(server: Server, states: Sequence[str] = ("ready", "idle")) -> bool:
    """Whether no worker has a call, and none is on its way in or out."""
    workers = server.get("/v1/workers")["workers"]
    return all(worker["state"] in states and not worker["calls"] for worker in workers)


def wrong_in(kept: dict[str, tuple[str, Kept]], stress: Stress, heard: Witness) -> list[str]:
    """Of every call, what is not as promised, with all that is known of it."""
    wrong = []
    for call, (function, one) in kept.items():
        # of a map or a generator it is known by its place what was asked, not by its name; readers may leave
        other = Asked(result="?", retries=2 if "again" in function else 0, is_cancelled=function.startswith("count"))
        asked, runs = stress.asked.get(call, other), heard.runs(call)
        wrong += [
            f"{function} {call}: {why}; {asked}; {one}; {runs}" for why in check_call(asked, one, runs, stress.deaths)
        ]
    return wrong


@pytest.mark.parametrize("seed", [1, 2])
def test_whatever_is_cancelled_and_killed_each_call_has_one_end_and_runs_as_often_as_it_was_charged(
    server: Server, seed: int
) -> None:
    with witness() as heard:
        stress = Stress(seed, heard)
        stress.run(server)
        wait_until(lambda: are_at_rest(server), server)

    kept = kept_calls(server)
    assert wrong_in(kept, stress, heard) == []
    assert len(kept) == len(stress.asked) + 2 * MAPPED + 2 * READ
    assert not [call for call in stress.asked if call not in kept]

    server.kill()  # the next one is told by the agent what its workers really have
    server.start()
    wait_until(lambda: bool(server.get("/v1/workers")["workers"]), server)
    assert are_at_rest(server), server.get("/v1/workers")
    assert kept_calls(server) == kept
    assert complaints(server) == []


@pytest.mark.parametrize("function", [work_ahead, await_ahead], ids=["plain", "on an event loop"])
def test_no_call_waits_behind_a_long_one_while_another_worker_is_free(server: Server, function: Any) -> None:
    chance = random.Random(1)
    with witness() as heard:
        stress = Stress(1, heard)
        for _ in range(ROUNDS):
            list(stress.ask_many(function, [("waits", 0.0)] * 20).results())  # short ones: others are given ahead
            errands = [("waits", 0.0)] * 120
            at = chance.randrange(60)
            errands[at] = (chance.choice(["waits", "computes", "holds"]), 60.0)
            group = stress.ask_many(function, errands)
            short = [call for n, call in enumerate(group[:]) if n != at]

            results = relight.Call.gather(*short)

            assert results == [3 * n for n in range(120) if n != at]
            assert group[at].status() is relight.CallState.RUNNING
            stress.cancel(group[at])
            stress.see(group[at])
        held = [one for call in stress.asked for one in given_back(server, call)]
        wrong = wrong_in(kept_calls(server), stress, heard)

    assert wrong == []
    assert held, "nothing was given ahead behind a long call: this shows nothing"
    assert max(held) < STALL_SECONDS + RECALL_SECONDS + LATE_SECONDS


def test_no_generator_waits_behind_one_whose_reader_does_not_go_on(server: Server) -> None:
    with witness() as heard, ThreadPoolExecutor(16) as readers:

        def read(size: int) -> list[int]:
            return list(count.remote(size, 0.0, heard.port))

        for _ in range(ROUNDS):
            list(map(read, repeat(2, 20)))  # short ones: others are given ahead
            with contextlib.closing(count.remote(1000, 0.0, heard.port)) as left:
                others = readers.map(read, repeat(3, 60))
                assert next(left) == 1
                assert list(others) == [[1, 2, 3]] * 60
                assert next(left) == 2
        calls = server.get("/v1/calls?app=under_stress&limit=1000")["calls"]
        held = [seconds for call in calls for seconds in given_back(server, call["id"])]

    assert held, "nothing was given ahead behind a generator that waits: this shows nothing"
    assert max(held) < STALL_SECONDS + RECALL_SECONDS + LATE_SECONDS


def given_back(server: Server, call: str) -> list[float]:
    """How long a call was with each worker that had to give it back."""
    tries = server.get(f"/v1/calls/{call}")["attempts"]
    return [one["ended_at"] - one["started_at"] for one in tries if one["outcome"] == "lease_lost"]
