"""What a node has to tell is told, in order, and ends again until they are known to be kept."""

from __future__ import annotations

import asyncio

from relight.agent.lines import BATCH_LINES, BATCHES_AHEAD
from relight.agent.outbox import REPORT_BYTES, Held, Outbox
from relight.protocol.calls import CallEvent, Token
from relight.protocol.link import CallEnd, LogLines, Reports, WorkerChange
from relight.protocol.payload import Payload
from relight.protocol.templates import TemplateOutcome, TemplateState
from relight.protocol.workers import WorkerState


def end(call: str, data: bytes = b"1") -> tuple[Held, CallEnd]:
    """An attempt and its end."""
    result = Payload(format="json", data=data, size=len(data))
    token = Token(1, 1)
    told = CallEnd(call=call, token=token, outcome=CallEvent.SUCCEEDED, worker="w", result=result)
    return Held("w", call, token, 1), told


def line(text: str, call: str = "") -> LogLines:
    """Something a worker wrote."""
    return LogLines(worker="w", at=0.0, source="stdout", texts=(text,), call=call)


def change(state: WorkerState) -> WorkerChange:
    """A step of a worker's life."""
    return WorkerChange(worker="w", state=state, at=1.0)


def test_all_that_happened_in_one_turn_is_one_report():
    wakes: list[int] = []
    outbox = Outbox(lambda _: wakes.append(1))

    outbox.change(change(WorkerState.BUSY))
    outbox.lines([line("hello")])
    outbox.end(*end("call-1"))
    report = outbox.take()

    assert report is not None
    assert (len(report.ends), len(report.workers), len(report.logs)) == (1, 1, 1)
    assert outbox.take() is None
    assert wakes, "somebody has to be told that there is something to take"


def test_an_end_is_told_again_on_a_new_link_until_it_is_acknowledged():
    outbox = Outbox()
    outbox.end(*end("call-1"))
    outbox.end(*end("call-2"))
    outbox.take()

    outbox.acknowledge([("call-1", Token(1, 1))])
    outbox.rewind()
    report = outbox.take()

    assert report is not None
    assert [told.call for told in report.ends] == ["call-2"]


def test_an_end_is_told_once_on_one_link():
    outbox = Outbox()
    outbox.end(*end("call-1"))
    outbox.take()

    outbox.end(*end("call-2"))
    report = outbox.take()

    assert report is not None
    assert [told.call for told in report.ends] == ["call-2"]


def test_a_call_is_held_from_its_promise_to_its_acknowledgement():
    outbox = Outbox()
    held, told = end("call-1")

    outbox.promise(held)
    promised = list(outbox.held())
    outbox.end(held, told)
    outbox.take()
    unacknowledged = list(outbox.held())
    outbox.acknowledge([held.key])

    assert promised == unacknowledged == [held]
    assert list(outbox.held()) == []


def test_an_acknowledgement_of_another_attempt_means_nothing():
    outbox = Outbox()
    held, told = end("call-1")
    outbox.end(held, told)

    outbox.acknowledge([("call-1", Token(1, 2))])

    assert list(outbox.held()) == [held]


def test_a_departure_is_told_again_on_a_new_link_and_other_changes_are_not():
    outbox = Outbox()
    outbox.change(change(WorkerState.BUSY))
    outbox.change(change(WorkerState.GONE))
    outbox.take()

    outbox.rewind()
    report = outbox.take()

    assert report is not None
    assert [told.state for told in report.workers] == [WorkerState.GONE]


def test_lines_give_way_where_the_link_is_behind():
    outbox = Outbox()
    outbox.lines([line("hello")])
    outbox.end(*end("call-1"))

    report = outbox.take(with_lines=False)

    assert report is not None
    assert (len(report.ends), report.logs, outbox.has_lines) == (1, (), True)


def test_the_end_of_a_call_waits_for_its_own_lines_and_for_no_others():
    outbox = Outbox()
    outbox.lines([line("wrote", "call-1")])
    outbox.end(*end("call-1"))
    outbox.end(*end("call-2"))

    early = outbox.take(with_lines=False)
    late = outbox.take()

    assert early is not None
    assert late is not None
    assert [told.call for told in early.ends] == ["call-2"]
    assert ([told.call for told in late.ends], late.log_batch) == (["call-1"], 1)


def test_lines_are_told_again_on_a_new_link_before_the_end_of_their_call():
    outbox = Outbox()
    outbox.lines([line("wrote", "call-1")])
    outbox.end(*end("call-1"))
    first = outbox.take()

    outbox.rewind()
    without_lines = outbox.take(with_lines=False)
    again = outbox.take()

    assert without_lines is None
    assert again == first


def test_an_end_goes_when_room_for_its_lines_is_made():
    wakes: list[int] = []
    outbox = Outbox(lambda _: wakes.append(1))
    for number in range(BATCHES_AHEAD):
        outbox.lines([line(str(number))])
        outbox.take()
    outbox.lines([line("last", "call-1")])
    outbox.end(*end("call-1"))
    before = outbox.take()
    wakes.clear()

    outbox.lines_kept(1)
    report = outbox.take()

    assert before is None
    assert wakes, "somebody has to be told that there is room"
    assert report is not None
    assert [told.call for told in report.ends] == ["call-1"]


def test_a_report_of_many_large_ends_is_several():
    outbox = Outbox()
    for number in range(3):
        outbox.end(*end(f"call-{number}", b"x" * (REPORT_BYTES // 2)))

    reports = [outbox.take(), outbox.take(), outbox.take()]

    assert [report and len(report.ends) for report in reports] == [2, 1, None]


async def test_waiting_until_all_is_told_ends_with_the_last_acknowledgement():
    outbox = Outbox()
    held, told = end("call-1")
    outbox.end(held, told)

    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(outbox.wait_told())
        await asyncio.wait([waiting], timeout=0)
        was_done = waiting.done()
        outbox.acknowledge([held.key])

    assert not was_done


async def test_waiting_until_all_is_told_waits_for_lines_too():
    outbox = Outbox()
    outbox.lines([line("last words")])
    report = outbox.take()
    assert report is not None

    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(outbox.wait_told())
        await asyncio.wait([waiting], timeout=0)
        was_done = waiting.done()
        outbox.lines_kept(report.log_batch)

    assert not was_done


def test_a_worker_is_told_to_be_gone_after_all_that_it_wrote():
    outbox = Outbox()
    outbox.lines([line(f"{number}\n") for number in range(3 * BATCH_LINES)])
    outbox.change(change(WorkerState.GONE))

    reports = []
    while (report := outbox.take()) is not None:
        reports.append(report)

    assert [len(report.logs) for report in reports] == [BATCH_LINES] * 3
    assert [len(report.workers) for report in reports] == [0, 0, 1]


def test_a_worker_is_told_to_be_gone_though_the_server_keeps_no_lines():
    outbox = Outbox()
    outbox.lines([line(f"{number}\n") for number in range((BATCHES_AHEAD + 1) * BATCH_LINES)])
    while outbox.take() is not None:
        pass

    outbox.change(change(WorkerState.GONE))
    report = outbox.take()

    assert report is not None
    assert [one.state for one in report.workers] == [WorkerState.GONE]


def test_a_departure_waits_for_lines_that_are_told_again_on_a_new_link():
    outbox = Outbox()
    outbox.lines([line("last words")])
    outbox.change(change(WorkerState.GONE))
    outbox.take()

    outbox.rewind()
    quiet, loud = outbox.take(with_lines=False), outbox.take()

    assert quiet is None
    assert loud is not None
    assert (len(loud.logs), len(loud.workers)) == (1, 1)


def test_what_became_of_a_template_is_told_once_and_by_the_hello_of_a_new_link():
    outbox = Outbox()
    ready = TemplateOutcome(key="k", state=TemplateState.READY)
    outbox.template(ready)

    assert outbox.take() == Reports(templates=(ready,))
    outbox.template(ready)
    outbox.rewind()

    assert outbox.take() is None
