"""What the store promises of calls: idempotent submits, one newest token, one visible end, attempts that add up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relight.protocol.calls import TRANSITIONS, CallEvent, CallRequest, CallState, CallView, Token
from relight.protocol.errors import Failure, Unavailable
from relight.protocol.manifest import CodeBundle, FunctionSpec, HostImage, Manifest
from relight.protocol.payload import Payload
from relight.protocol.views import CallQuery
from relight.store.rows import Claim, End, EndQueued, NewCall, NewVersion
from relight.store.store import Store, open_store

WS = "default"


def call_id(n: int) -> str:
    return f"call-{n:026d}"


def new(n: int, *, group: str = "", function: str = "f") -> NewCall:
    payload = Payload(format="json", data=f'{{"args": [{n}]}}'.encode(), size=9)
    request = CallRequest(id=call_id(n), app="a", function=function, payload=payload, group=group)
    return NewCall(request=request, version="v1", at=100.0 + n)


def claim(n: int, token: Token, attempt: int = 1) -> Claim:
    return Claim(call=call_id(n), token=token, attempt=attempt, worker="w1", node="n1", at=200.0)


def end(n: int, token: Token, event: CallEvent = CallEvent.SUCCEEDED, *, is_charged: bool = True) -> End:
    result = Payload(format="json", data=b"1", size=1) if event is CallEvent.SUCCEEDED else None
    failure = None if result else Failure(code="x", message="why")
    return End(claim=claim(n, token), event=event, at=300.0, result=result, failure=failure, is_charged=is_charged)


async def test_a_call_that_is_submitted_twice_is_kept_once_and_stays_as_it_was(store: Store) -> None:
    first = await store.calls.submit(WS, [new(1)])
    again = await store.calls.submit(WS, [new(1, function="other"), new(2)])

    view = await store.calls.get(WS, call_id(1))
    assert (first, again) == (frozenset(), frozenset({call_id(1)}))
    assert view is not None
    assert (view.function, view.state) == ("f", CallState.QUEUED)


async def test_a_call_keeps_which_workers_it_is_for(store: Store) -> None:
    row = new(1)
    bound = replace(row, request=replace(row.request, binding='{"parameters":{"size":"7b"}}'))
    await store.calls.submit(WS, [bound])

    (unfinished,) = await store.calls.unfinished()
    view, again = await store.calls.get(WS, call_id(1)), await store.calls.request(WS, call_id(1), call_id(2))
    assert view is not None
    assert again is not None
    assert {unfinished.binding, view.binding, again.binding} == {'{"parameters":{"size":"7b"}}'}


async def test_one_call_goes_from_queued_over_running_to_succeeded(store: Store) -> None:
    store.calls.submit(WS, [new(1)])
    store.calls.claim(WS, [claim(1, Token(1, 1))])

    (view,) = await store.calls.end(WS, [end(1, Token(1, 1))])

    assert view is not None
    assert (view.state, view.attempts, view.sequence) == (CallState.SUCCEEDED, 1, 1)
    assert view.result == Payload(format="json", data=b"1", size=1)
    assert view == await store.calls.get(WS, call_id(1))


async def test_an_end_with_an_older_token_changes_nothing(store: Store) -> None:
    store.calls.submit(WS, [new(1)])
    store.calls.claim(WS, [claim(1, Token(1, 1))])
    await store.calls.claim(WS, [claim(1, Token(2, 1), attempt=2)])

    stale = await store.calls.end(WS, [end(1, Token(1, 1))])
    newest = await store.calls.end(WS, [end(1, Token(2, 1))])
    late = await store.calls.end(WS, [end(1, Token(2, 1), CallEvent.FAILED)])

    assert (stale, late) == ((None,), (None,))
    assert newest[0] is not None


async def test_the_tries_of_a_call_are_those_that_sent_it_back_and_the_one_that_has_it_or_ended_it(
    store: Store,
) -> None:
    store.calls.submit(WS, [new(1), new(2)])
    await store.calls.end(WS, [end(1, Token(1, 1), CallEvent.RETRIED)])
    await store.calls.claim(WS, [claim(1, Token(1, 2), attempt=2), claim(2, Token(1, 3))])
    running = await store.calls.attempts(WS, call_id(1))
    await store.calls.end(WS, [end(1, Token(1, 2), CallEvent.FAILED), end(2, Token(1, 3), CallEvent.RETRIED)])
    await store.calls.end_queued(WS, [EndQueued(call=call_id(2), event=CallEvent.CANCELLED, at=400.0)])

    ended = await store.calls.attempts(WS, call_id(1))
    cancelled = await store.calls.attempts(WS, call_id(2))

    assert [(one.number, one.outcome, one.detail) for one in running] == [(1, "retried", "why"), (2, "", "")]
    assert [(one.number, one.outcome, one.detail) for one in ended] == [(1, "retried", "why"), (2, "failed", "why")]
    assert [(one.number, one.outcome) for one in cancelled] == [(1, "retried")]


async def test_an_end_that_comes_before_its_claim_is_kept_says_all_that_the_claim_would(store: Store) -> None:
    store.calls.submit(WS, [new(1)])
    claimed = store.calls.claim(WS, [claim(1, Token(1, 1))])

    ended = await store.calls.end(WS, [end(1, Token(1, 1))])
    await claimed

    (attempt,) = await store.calls.attempts(WS, call_id(1))
    assert ended[0] is not None
    assert (ended[0].worker, ended[0].started_at, ended[0].attempts) == ("w1", 200.0, 1)
    assert (attempt.number, attempt.node, attempt.started_at, attempt.outcome) == (1, "n1", 200.0, "succeeded")


async def test_a_call_that_is_awaited_and_its_end_are_kept_together(store: Store) -> None:
    submitted = store.calls.submit(WS, [new(1), new(2, group="g")], is_awaited=True)
    store.calls.claim(WS, [claim(1, Token(1, 1)), claim(2, Token(1, 2))])

    first, second = await store.calls.end(WS, [end(1, Token(1, 1)), end(2, Token(1, 2), CallEvent.FAILED)])

    kept = await store.calls.existing(WS, [call_id(1), call_id(2)])
    assert await submitted == frozenset()
    assert (first, second) == (kept[call_id(1)], kept[call_id(2)])
    assert (first.state, first.submitted_at, first.started_at, first.ended_at) == (
        CallState.SUCCEEDED,
        101.0,
        200.0,
        300.0,
    )
    assert (second.group, second.failure, second.sequence) == ("g", Failure(code="x", message="why"), 2)
    assert [one.outcome for one in await store.calls.attempts(WS, call_id(1))] == ["succeeded"]
    assert await store.calls.payload(WS, [call_id(1)]) == {call_id(1): new(1).request.payload}


async def test_an_awaited_call_whose_id_was_used_before_stays_as_it_was(store: Store) -> None:
    await store.calls.submit(WS, [new(1)])
    again = store.calls.submit(WS, [new(1, function="other")], is_awaited=True)

    (ended,) = await store.calls.end(WS, [end(1, Token(1, 1))])

    assert await again == frozenset({call_id(1)})
    assert ended is not None
    assert ended.function == "f"


async def test_an_awaited_call_that_is_sent_back_waits_like_any_other(store: Store) -> None:
    submitted = store.calls.submit(WS, [new(1)], is_awaited=True)

    (back,) = await store.calls.end(WS, [end(1, Token(1, 1), CallEvent.RETRIED)])

    assert await submitted == frozenset()
    assert back is not None
    assert (back.state, back.attempts) == (CallState.QUEUED, 1)
    assert [one.outcome for one in await store.calls.attempts(WS, call_id(1))] == ["retried"]


async def test_an_end_that_sent_its_call_back_means_nothing_when_it_is_told_again(store: Store) -> None:
    store.calls.submit(WS, [new(1)])
    lost = end(1, Token(1, 1), CallEvent.LEASE_LOST)

    first, again = await store.calls.end(WS, [lost, lost])

    assert first is not None
    assert again is None


async def test_a_claim_with_an_older_token_changes_nothing(store: Store) -> None:
    store.calls.submit(WS, [new(1)])
    store.calls.claim(WS, [claim(1, Token(2, 5))])

    await store.calls.claim(WS, [claim(1, Token(1, 9))])

    (row,) = await store.calls.unfinished()
    assert row.token == Token(2, 5)
    assert len(await store.calls.attempts(WS, call_id(1))) == 1


async def test_a_try_that_nobody_ended_is_over_when_a_newer_token_has_the_call(store: Store) -> None:
    store.calls.submit(WS, [new(1)])
    store.calls.claim(WS, [claim(1, Token(1, 1))])
    await store.calls.claim(WS, [claim(1, Token(2, 1))])

    attempts = await store.calls.attempts(WS, call_id(1))

    assert [(one.outcome, one.ended_at) for one in attempts] == [("lease_lost", 200.0), ("", None)]


async def test_a_claim_of_a_call_that_has_ended_starts_nothing(store: Store) -> None:
    store.calls.submit(WS, [new(1)])
    store.calls.claim(WS, [claim(1, Token(1, 1))])
    store.calls.end(WS, [end(1, Token(1, 1))])

    await store.calls.claim(WS, [claim(1, Token(1, 2))])

    view = await store.calls.get(WS, call_id(1))
    assert view is not None
    assert (view.state, len(await store.calls.attempts(WS, call_id(1)))) == (CallState.SUCCEEDED, 1)


async def test_a_failure_keeps_its_traceback_and_the_exception_itself(store: Store) -> None:
    exception = Payload(format="pickle5", data=b"\x80\x05", size=2, python="3.11")
    failure = Failure(code="function_failed", message="bad", type_name="KeyError", traceback="…", exception=exception)
    store.calls.submit(WS, [new(1)])
    store.calls.claim(WS, [claim(1, Token(1, 1))])

    row = End(claim=claim(1, Token(1, 1)), event=CallEvent.FAILED, at=300.0, failure=failure)
    await store.calls.end(WS, [row])

    view = await store.calls.get(WS, call_id(1))
    assert view is not None
    assert (view.state, view.failure, view.result) == (CallState.FAILED, failure, None)


async def test_how_many_items_a_generator_made_is_kept_with_its_last_attempt(store: Store) -> None:
    await store.calls.submit(WS, [new(1)])
    await store.calls.claim(WS, [claim(1, Token(1, 1))])

    await store.calls.end(WS, [replace(end(1, Token(1, 1), CallEvent.RETRIED), items=7)])
    between = await store.calls.get(WS, call_id(1))
    await store.calls.end(WS, [replace(end(1, Token(1, 2)), items=3)])
    after = await store.calls.get(WS, call_id(1))

    assert between is not None
    assert after is not None
    assert (between.items, after.items) == (0, 3)


async def test_a_retried_call_says_when_it_may_run_again(store: Store) -> None:
    store.calls.submit(WS, [new(1)])
    store.calls.claim(WS, [claim(1, Token(1, 1))])

    row = End(claim=claim(1, Token(1, 1)), event=CallEvent.RETRIED, at=300.0, not_before=310.0)
    await store.calls.end(WS, [row])

    (unfinished,) = await store.calls.unfinished()
    assert (unfinished.state, unfinished.not_before, unfinished.attempts) == (CallState.QUEUED, 310.0, 1)


async def test_the_same_id_in_two_workspaces_is_two_calls(store: Store) -> None:
    first = await store.calls.submit(WS, [new(1)])
    second = await store.calls.submit("other", [new(1, function="g")])
    store.calls.claim("other", [claim(1, Token(1, 1))])
    await store.calls.end("other", [end(1, Token(1, 1))])

    mine = await store.calls.get(WS, call_id(1))
    assert (first, second) == (frozenset(), frozenset())
    assert mine is not None
    assert (mine.function, mine.state) == ("f", CallState.QUEUED)


async def test_a_lost_call_waits_again_and_its_attempts_count_only_what_is_charged(store: Store) -> None:
    store.calls.submit(WS, [new(1)])
    for n, is_charged in ((1, True), (2, False), (3, True)):
        store.calls.claim(WS, [claim(1, Token(1, n), attempt=n)])
        await store.calls.end(WS, [end(1, Token(1, n), CallEvent.LEASE_LOST, is_charged=is_charged)])

    view = await store.calls.get(WS, call_id(1))
    attempts = await store.calls.attempts(WS, call_id(1))

    (row,) = await store.calls.unfinished()
    assert view is not None
    assert (view.state, view.attempts, view.failure) == (CallState.QUEUED, 2, None)
    assert [one.outcome for one in attempts] == ["lease_lost"] * 3
    assert (row.state, row.token) == (CallState.QUEUED, Token(1, 3))


async def test_a_waiting_call_ends_without_a_worker_and_a_running_one_does_not(store: Store) -> None:
    store.calls.submit(WS, [new(1), new(2)])
    await store.calls.claim(WS, [claim(2, Token(1, 1))])
    rows = [EndQueued(call=call_id(n), event=CallEvent.CANCELLED, at=300.0) for n in (1, 2)]

    ended = await store.calls.end_queued(WS, rows)

    assert ended[0] is not None
    assert (ended[0].state, ended[1]) == (CallState.CANCELLED, None)


async def test_the_ends_of_a_group_come_in_their_order_and_can_be_read_on_from_any(store: Store) -> None:
    store.calls.submit(WS, [new(n, group="g") for n in range(5)])
    for n in (3, 0, 4):
        store.calls.claim(WS, [claim(n, Token(1, n + 1))])
        await store.calls.end(WS, [end(n, Token(1, n + 1))])

    views = await store.calls.group_ended(WS, "g", 0, 10)
    rest = await store.calls.group_ended(WS, "g", views[0].sequence, 1)
    oldest = await store.calls.group_oldest(WS, "g")

    assert [view.id for view in views] == [call_id(3), call_id(0), call_id(4)]
    assert [view.id for view in rest] == [call_id(0)]
    assert oldest is not None
    assert oldest.id == call_id(1)


async def test_calls_are_listed_newest_first_by_what_is_asked(store: Store) -> None:
    await store.calls.submit(WS, [new(n, function="f" if n % 2 else "g") for n in range(6)])

    page = await store.calls.list(WS, CallQuery(function="f", limit=2))
    rest = await store.calls.list(WS, CallQuery(function="f", limit=2, before=page[-1].id))
    none = await store.calls.list(WS, CallQuery(state=CallState.FAILED))

    assert [view.id for view in page + rest] == [call_id(n) for n in (5, 3, 1)]
    assert none == ()


async def test_another_workspace_sees_nothing(store: Store) -> None:
    await store.calls.submit(WS, [new(1)])

    assert await store.calls.get("other", call_id(1)) is None
    assert await store.calls.list("other", CallQuery()) == ()


async def test_what_was_committed_is_there_after_a_restart_and_ends_go_on_being_numbered(tmp_path: Path) -> None:
    first = await open_store(tmp_path)
    epoch = await first.epochs.begin()
    first.calls.submit(WS, [new(1), new(2)])
    first.calls.claim(WS, [claim(1, Token(epoch, 1))])
    await first.calls.end(WS, [end(1, Token(epoch, 1))])
    await first.close()

    second = await open_store(tmp_path)
    next_epoch = await second.epochs.begin()
    second.calls.claim(WS, [claim(2, Token(next_epoch, 1))])
    (view,) = await second.calls.end(WS, [end(2, Token(next_epoch, 1))])
    payloads = await second.calls.payload(WS, [call_id(2)])
    await second.close()

    assert next_epoch == epoch + 1
    assert view is not None
    assert view.sequence == 2
    assert payloads[call_id(2)].data == b'{"args": [2]}'


async def test_old_ends_are_forgotten_with_their_attempts_and_what_waits_is_kept(store: Store) -> None:
    store.calls.submit(WS, [new(1), new(2)])
    store.calls.claim(WS, [claim(1, Token(1, 1))])
    store.calls.end(WS, [end(1, Token(1, 1))])

    forgotten = await store.calls.forget(before=301.0)

    assert forgotten == 1
    assert await store.calls.attempts(WS, call_id(1)) == ()
    assert await store.calls.get(WS, call_id(2)) is not None


async def test_old_ends_are_forgotten_oldest_first_in_writes_of_bounded_size(store: Store) -> None:
    await store.calls.submit(WS, [new(n) for n in range(5)])
    await store.calls.end_queued(
        WS, [EndQueued(call=call_id(n), event=CallEvent.CANCELLED, at=300.0 + n) for n in range(5)]
    )

    counts = [await store.calls.forget(before=310.0, limit=2) for _ in range(2)]

    assert counts == [2, 2]
    assert [view.id for view in await store.calls.list(WS, CallQuery())] == [call_id(4)]
    assert await store.calls.forget(before=304.0, limit=2) == 0, "the oldest end is not that old"


async def test_a_blob_is_named_by_calls_that_carry_it_or_answer_with_it_and_by_versions(store: Store) -> None:
    given, answer, code, nobody = "ab" * 32, "cd" * 32, "ef" * 32, "01" * 32
    image = HostImage(python="/p/bin/python", prefix="/p", base_prefix="/p", version="3.11.7")
    function = FunctionSpec(name="f", module="m", qualname="f", image=image)
    manifest = Manifest(app="a", code=CodeBundle(digest=code, size=1, folder="/a"), functions=(function,))
    store.versions.deploy(NewVersion(workspace=WS, id="v1", app="a", environment="main", manifest=manifest, at=1.0))
    request = CallRequest(id=call_id(9), app="a", function="f", payload=Payload(format="raw", blob=given, size=9))
    store.calls.submit(WS, [NewCall(request=request, version="v1", at=1.0), new(1)])
    store.calls.claim(WS, [claim(9, Token(1, 1))])
    result = Payload(format="raw", blob=answer, size=9)
    row = End(claim=claim(9, Token(1, 1)), event=CallEvent.SUCCEEDED, at=2.0, result=result)
    await store.calls.end(WS, [row])

    before = await store.calls.named_blobs([given, answer, code, nobody])
    await store.calls.forget(before=3.0)
    after = await store.calls.named_blobs([given, answer, code, nobody])

    assert (before, after) == ({given, answer, code}, {code})


async def test_a_write_that_fails_says_so_and_takes_no_other_with_it(store: Store) -> None:
    good = store.calls.submit(WS, [new(1)])
    bad = store.calls.submit(WS, [NewCall(request=new(2).request, version=None, at=1.0)])  # type: ignore[arg-type]  # the point
    after = store.calls.submit(WS, [new(3)])

    with pytest.raises(Unavailable, match="cannot keep submit"):
        await bad
    assert (await good, await after) == (frozenset(), frozenset())
    assert await store.calls.get(WS, call_id(2)) is None


EVENTS = [CallEvent.SUCCEEDED, CallEvent.FAILED, CallEvent.LEASE_LOST, CallEvent.RETRIED, CallEvent.CANCELLED]
steps = st.one_of(
    st.tuples(st.just("claim"), st.integers(1, 4)),
    st.tuples(st.sampled_from(EVENTS), st.integers(1, 4)),
    st.tuples(st.just("end_queued"), st.just(0)),
)


class Model:
    """The rules of protocol.calls on one call."""

    def __init__(self) -> None:
        self.state, self.token, self.attempts = CallState.QUEUED, 0, 0

    def claim(self, n: int) -> None:
        if not self.state.is_final and n > self.token:
            self.state, self.token = CallState.RUNNING, n

    def end(self, event: CallEvent, n: int) -> bool:
        is_own = self.state is CallState.RUNNING and n == self.token
        if self.state.is_final or not (is_own or n > self.token):
            return False
        self.token, self.attempts = n, self.attempts + 1
        self.state = TRANSITIONS[(CallState.RUNNING, event)]  # an end says that it was claimed, too
        return True

    def end_queued(self) -> bool:
        if self.state is not CallState.QUEUED:
            return False
        self.state = CallState.CANCELLED
        return True


@pytest.fixture
def numbers() -> Iterator[int]:
    """Each is a call's that was not there before."""
    return count(1)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(steps, max_size=12))
async def test_any_order_of_claims_and_ends_is_as_the_table_of_states_says(
    store: Store, numbers: Iterator[int], given: list[tuple[CallEvent | str, int]]
) -> None:
    call = next(numbers)
    model = Model()
    await store.calls.submit(WS, [new(call)])
    for what, n in given:
        if what == "claim":
            model.claim(n)
            await store.calls.claim(WS, [claim(call, Token(1, n))])
        elif what == "end_queued":
            row = EndQueued(call=call_id(call), event=CallEvent.CANCELLED, at=1.0)
            assert _changed(await store.calls.end_queued(WS, [row])) == model.end_queued()
        else:
            event = CallEvent(what)
            assert _changed(await store.calls.end(WS, [end(call, Token(1, n), event)])) == model.end(event, n)

    view = await store.calls.get(WS, call_id(call))

    assert view is not None
    assert (view.state, view.attempts) == (model.state, model.attempts)
    assert (view.sequence > 0) == model.state.is_final


def _changed(views: tuple[CallView | None, ...]) -> bool:
    return views[0] is not None


async def test_a_tree_holds_what_a_call_made_and_what_came_of_that_nearest_first(store: Store) -> None:
    made_by = {1: 0, 2: 1, 3: 1, 4: 2, 5: 4, 6: 0}
    rows = [new(n) for n in made_by]
    kin = [
        replace(row, request=replace(row.request, parent=call_id(made_by[n]) if made_by[n] else ""))
        for n, row in zip(made_by, rows, strict=True)
    ]
    await store.calls.submit(WS, kin)

    async def tree(n: int, *, limit: int = 100, depth: int = 100) -> list[str]:
        return [view.id for view in await store.calls.tree(WS, call_id(n), limit=limit, depth=depth)]

    assert await tree(1) == [call_id(n) for n in (1, 2, 3, 4, 5)]
    assert await tree(2) == [call_id(n) for n in (2, 4, 5)]
    assert await tree(1, limit=3) == [call_id(n) for n in (1, 2, 3)]
    assert await tree(1, depth=2) == [call_id(n) for n in (1, 2, 3, 4)]
    assert await tree(9) == []
    assert await store.calls.tree("other", call_id(1), limit=100, depth=100) == ()


async def test_an_unfinished_call_says_who_waits_for_it(store: Store) -> None:
    row = new(1, group="g")
    await store.calls.submit(
        WS, [replace(row, request=replace(row.request, parent=call_id(9), is_awaited=True)), new(2)]
    )

    first, second = await store.calls.unfinished()

    assert (first.parent, first.group, first.is_awaited) == (call_id(9), "g", True)
    assert (second.parent, second.group, second.is_awaited) == ("", "", False)
