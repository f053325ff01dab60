"""Scaling and queues on a real server: what is said without a deploy holds, and calls wait as was asked."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest

import relight
from e2e.app_scaling import app, fragile, hungry, nap, narrow, paced, span
from relight.agent.resources import cores
from relight.scheduler.placement import DEFAULT_CPU
from servers import Server, serving, wait_until

FUNCTIONS = "/v1/apps/scaled/functions"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("scaling") / "data", app) as started:
        yield started


def post(server: Server, path: str, body: object = None) -> Any:
    request = urllib.request.Request(
        server.url + FUNCTIONS + path,
        data=json.dumps(body).encode() if body is not None else b"",
        headers={"Authorization": f"Bearer {server.token}"},
        method="POST",
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def test_a_burst_from_zero_is_answered_within_the_ceiling(server: Server) -> None:
    began = list(nap.map([0.1] * 200))

    shown = nap.scaling()
    assert len(began) == 200
    assert 1 < max(one.workers for one in shown.history) <= 50
    assert all(one.workers <= 50 for one in shown.history)


def test_calls_that_sleep_have_more_workers_than_nobody_would_know_to_fit(server: Server) -> None:
    unknown = int(cores() / DEFAULT_CPU)

    began = list(nap.map([0.2] * 120))

    assert len(began) == 120
    assert min(49, unknown) < nap.scaling().workers <= 50


@pytest.mark.slow
def test_what_is_said_without_a_deploy_is_in_force_at_once_and_after_a_restart(server: Server) -> None:
    said = span.update_scaling(min_workers=2, max_containers=3)
    wait_until(lambda: span.scaling().workers == 2, server)
    server.kill()
    server.start()
    again = span.scaling()
    ran = list(span.map([str(n) for n in range(20)]))

    assert (said.scaling.min_workers, said.scaling.max_workers) == (2, 3)
    assert {one.field: (one.value, one.deployed) for one in again.overrides} == {
        "min_workers": (2, None),
        "max_workers": (3, 8),
    }
    assert (len(ran), span.scaling().workers <= 3) == (20, True)
    assert span.reset_scaling().scaling.max_workers == 8


def test_a_deploy_that_says_the_same_leaves_what_was_said(server: Server) -> None:
    span.update_scaling(max_workers=4)

    app.deploy()

    assert span.scaling().scaling.max_workers == 4
    span.reset_scaling()


def test_a_paused_function_takes_calls_and_begins_none(server: Server) -> None:
    post(server, "/span/queue/pause")
    call = span.spawn("later")
    reason = server.get(f"/v1/calls/{call.id}")["call"]["pending_reason"]
    post(server, "/span/queue/resume")

    assert reason.startswith("paused: ")
    assert call.get()[0] == "later"


def test_calls_of_one_key_run_one_after_another_and_the_urgent_one_first(server: Server) -> None:
    post(server, "/span/queue/pause")
    keyed = [span.queued(key="user-7").spawn(str(n)) for n in range(4)]
    span.update_scaling(max_workers=1)
    last, urgent = span.spawn("last"), span.queued(priority=9).spawn("urgent")
    post(server, "/span/queue/resume")
    spans = [call.get() for call in keyed]

    assert all(before[2] <= after[1] for before, after in pairwise(spans))
    assert urgent.get()[1] < last.get()[1]
    span.reset_scaling()


def test_calls_begin_at_the_rate_that_was_asked(server: Server) -> None:
    times = sorted(call.get() for call in [paced.spawn() for _ in range(10)])

    assert times[9] - times[4] >= 0.7  # five at once, then one each fifth of a second
    assert times[9] - times[0] <= 5.0


def test_more_calls_than_may_wait_are_refused_and_told_when_to_come_again(server: Server) -> None:
    post(server, "/narrow/queue/pause")
    calls = [narrow.spawn(n) for n in range(5)]

    with pytest.raises(relight.LimitExceeded, match=r"^cannot take another call of narrow: 5 of its calls wait"):
        narrow.spawn(5)
    with pytest.raises(urllib.error.HTTPError) as refused:
        post(server, "/narrow/submit", {"number": 5})

    refused.value.close()
    assert (refused.value.code, int(refused.value.headers["retry-after"]) >= 1) == (429, True)
    assert post(server, "/narrow/queue/purge") == {"cancelled": 5}
    assert all(call.status() is relight.CallState.CANCELLED for call in calls)
    post(server, "/narrow/queue/resume")
    assert narrow.remote(7) == 7


def test_a_function_is_scaled_by_what_its_workers_report(server: Server) -> None:
    hungry.remote(25)

    wait_until(lambda: hungry.scaling().workers == 3, server)

    shown = hungry.scaling()
    assert (shown.reason, shown.metrics) == ("metric: for tokens=25, which its workers report", {"tokens": 25.0})


def test_what_came_to_nothing_is_found_and_made_once_more_once(server: Server) -> None:
    with pytest.raises(ValueError, match="broken"):
        fragile.remote()
    dead = server.get(f"{FUNCTIONS}/fragile/queue/dead")
    again = post(server, "/fragile/queue/rerun")["calls"]
    wait_until(lambda: server.get(f"{FUNCTIONS}/fragile/queue/dead")["calls"] != [], server)
    left = server.get(f"{FUNCTIONS}/fragile/queue/dead")

    assert (dead["dead"], len(again)) == (1, 1)
    assert [call["id"] for call in left["calls"]] == again
