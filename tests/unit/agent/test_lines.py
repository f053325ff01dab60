"""Lines are told in numbered batches until they are kept; who writes too much waits, and only then is anything dropped."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relight.agent import lines as bounds
from relight.agent.lines import BATCH_LINES, BATCHES_AHEAD, PATIENCE_SECONDS, WORKER_BYTES, Batch, UnkeptLines
from relight.protocol.link import LogLines

LONG = "x" * 16_000


class Writer:
    """Knows whether it has to wait."""

    def __init__(self) -> None:
        self.waits = False

    def pause(self) -> None:
        self.waits = True

    def resume(self) -> None:
        self.waits = False


def wrote(text: str, *, worker: str = "w", call: str = "c", count: int = 1) -> LogLines:
    return LogLines(worker=worker, at=1.0, source="stdout", texts=(text,) * count, call=call)


def texts(batches: Iterable[Batch | None]) -> list[str]:
    return [text for batch in batches if batch for group in batch.lines for text in group.texts]


def take_all(unkept: UnkeptLines) -> list[Batch]:
    """What is told to a server that keeps all."""
    batches = []
    while (batch := unkept.take()) is not None:
        batches.append(batch)
        unkept.acknowledge(batch.number)
    return batches


def fill(unkept: UnkeptLines, size: int, writer: Writer, worker: str = "w") -> None:
    for _ in range(size // len(LONG) + 1):
        unkept.add([wrote(LONG, worker=worker)], writer)


def test_lines_are_told_in_the_order_in_which_they_were_written():
    unkept = UnkeptLines()
    for number in range(3 * BATCH_LINES):
        unkept.add([wrote(str(number))])

    batches = take_all(unkept)

    assert texts(batches) == [str(number) for number in range(3 * BATCH_LINES)]
    assert [batch.number for batch in batches] == [1, 2, 3]
    assert unkept.is_empty


def test_what_is_not_acknowledged_is_told_again_in_the_same_batches():
    unkept = UnkeptLines()
    told = []
    for number in range(3):
        unkept.add([wrote(str(number))])
        told.append(unkept.take())

    unkept.acknowledge(1)
    unkept.rewind()
    again = [unkept.take(), unkept.take()]
    unkept.add([wrote("new")])

    assert again == told[1:]
    assert unkept.take() == Batch(4, (wrote("new"),))


def test_a_link_that_is_lost_while_batches_are_repeated_begins_with_the_first_of_them_again():
    unkept = UnkeptLines()
    for number in range(3):
        unkept.add([wrote(str(number))])
        unkept.take()

    unkept.rewind()
    unkept.take()
    unkept.rewind()

    assert texts([unkept.take() for _ in range(4)]) == ["0", "1", "2"]


def test_what_turns_out_to_be_kept_is_not_told_again_and_nobody_waits_for_it():
    unkept = UnkeptLines()
    for number in range(3):
        unkept.add([wrote(str(number), call=f"call-{number}")])
        unkept.take()

    unkept.rewind()
    unkept.take()
    unkept.acknowledge(3)

    assert unkept.take() is None
    assert unkept.is_empty
    assert not any(unkept.waits_for(f"call-{number}") for number in range(3))


def test_only_so_many_batches_are_on_their_way():
    unkept = UnkeptLines()
    for number in range(BATCHES_AHEAD + 1):
        unkept.add([wrote(str(number))])
        unkept.take()

    was_ready = unkept.is_ready
    unkept.acknowledge(1)

    assert (was_ready, unkept.is_ready) == (False, True)
    assert texts([unkept.take()]) == [str(BATCHES_AHEAD)]


def test_a_flood_of_one_worker_does_not_keep_another_waiting():
    unkept = UnkeptLines()
    for _ in range(10):
        unkept.add([wrote("flood", worker="loud", count=BATCH_LINES // 2)])
    unkept.add([wrote("word", worker="quiet")])

    first = unkept.take()

    assert first is not None
    assert "word" in texts([first])


def test_a_worker_that_writes_more_than_is_kept_waits_until_there_is_room():
    unkept, writer = UnkeptLines(), Writer()
    fill(unkept, WORKER_BYTES, writer)
    waited = writer.waits

    take_all(unkept)

    assert (waited, writer.waits) == (True, False)


def test_a_worker_that_waits_makes_no_other_wait():
    unkept, loud, quiet = UnkeptLines(), Writer(), Writer()

    fill(unkept, WORKER_BYTES, loud, "loud")
    unkept.add([wrote("word", worker="quiet")], quiet)

    assert (loud.waits, quiet.waits) == (True, False)


def test_patience_ends_when_nothing_was_kept_for_its_time_and_begins_again_with_the_next_that_is():
    unkept, writer = UnkeptLines(), Writer()
    fill(unkept, WORKER_BYTES, writer)
    steps = []

    for seconds in (0.0, PATIENCE_SECONDS - 1, PATIENCE_SECONDS):
        unkept.look(seconds)
        steps.append(writer.waits)
    fill(unkept, WORKER_BYTES, writer)
    steps.append(writer.waits)
    batch = unkept.take()
    assert batch is not None
    unkept.acknowledge(batch.number)
    unkept.add([wrote(LONG)], writer)
    steps.append(writer.waits)

    assert steps == [True, True, False, False, True]


def test_a_worker_is_held_back_as_long_as_something_is_kept():
    unkept, writer = UnkeptLines(), Writer()
    fill(unkept, 2 * WORKER_BYTES, writer)

    for step in range(3):
        unkept.look(step * PATIENCE_SECONDS)
        batch = unkept.take()
        assert batch is not None
        unkept.acknowledge(batch.number)

    assert writer.waits


def test_where_lines_had_to_be_dropped_a_line_says_how_many(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bounds, "KEPT_BYTES", 100_000)
    unkept = UnkeptLines()
    unkept.add([wrote("word", worker="quiet")])
    for number in range(2_000):
        unkept.add([wrote(str(number), worker="loud", call=f"call-{number // 1_900}")])

    told = [group for batch in take_all(unkept) for group in batch.lines]
    loud = [group for group in told if group.worker == "loud"]
    marker, kept = loud[0], loud[1:]

    dropped = int(marker.texts[0].split()[0].replace(",", ""))
    assert (marker.source, marker.call) == ("system", "call-0")
    assert dropped + len(kept) == 2_000
    assert [group.texts[0] for group in kept] == [str(number) for number in range(dropped, 2_000)]
    assert texts([Batch(1, tuple(group for group in told if group.worker == "quiet"))]) == ["word"]


def test_a_call_is_waited_for_until_its_lines_are_told_on_this_link():
    unkept = UnkeptLines()
    unkept.add([wrote("a", call="c"), wrote("b", call="c")])

    before = unkept.waits_for("c")
    unkept.take()
    told = unkept.waits_for("c")
    unkept.rewind()
    lost = unkept.waits_for("c")
    unkept.take()

    assert (before, told, lost, unkept.waits_for("c")) == (True, False, True, False)


def test_a_worker_is_remembered_until_all_it_wrote_is_kept():
    unkept = UnkeptLines()
    unkept.add([wrote("a", worker="w1"), wrote("b", worker="w2")])

    told = unkept.workers()
    take_all(unkept)

    assert (told, unkept.workers()) == ({"w1", "w2"}, set())


class KeepingServer:
    """Keeps each batch once, in order; says so when it is asked to."""

    def __init__(self) -> None:
        self.last = 0
        self.kept: list[tuple[str, str]] = []

    def hear(self, batch: Batch | None) -> None:
        if batch is None or batch.number <= self.last:
            return
        assert batch.number == self.last + 1, "a batch was left out"
        self.last = batch.number
        self.kept += [(group.worker, text) for group in batch.lines for text in group.texts]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(["write a", "write b", "tell", "lose", "acknowledge", "cut"]), max_size=60))
def test_whatever_is_lost_on_the_way_each_line_is_kept_once_and_in_order(steps: list[str]):
    unkept, server = UnkeptLines(), KeepingServer()
    written: list[tuple[str, str]] = []
    for number, step in enumerate(steps):
        if step.startswith("write"):
            worker = step[-1]
            written.append((worker, str(number)))
            unkept.add([wrote(str(number), worker=worker, call=f"call-{number % 3}")])
        elif step == "tell":
            server.hear(unkept.take())
        elif step == "acknowledge":
            unkept.acknowledge(server.last)
        else:
            if step == "lose":  # told on a link that is gone: the server never heard it
                unkept.take()
            unkept.rewind()

    unkept.rewind()
    while (batch := unkept.take()) is not None or not unkept.is_empty:
        server.hear(batch)
        unkept.acknowledge(server.last)

    for worker in "ab":
        assert [text for who, text in server.kept if who == worker] == [text for who, text in written if who == worker]
    assert not any(unkept.waits_for(f"call-{number}") for number in range(3))
    assert not unkept.workers()
