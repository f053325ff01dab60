"""The meter: its stretches tile a life, and its calls share what it ran, to the microsecond."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relight.agent.ledger import MOST_AT_ONCE, UnkeptUsage
from relight.agent.meter import MOST_TOKENS, Meter, Unmetered
from relight.protocol.calls import CallEvent, Token
from relight.protocol.errors import ProtocolError
from relight.protocol.link import CallEnd, WorkerSpec
from relight.protocol.manifest import CodeBundle, FunctionSpec, HostImage, Resources
from relight.protocol.usage import UsageRecord, add_times
from relight.protocol.workers import WorkerState as S
from relight.sandbox.spec import UNCOUNTED, Counted

IMAGE = HostImage(python="/p", prefix="/", base_prefix="/", version="3.11.0")
RESOURCES = Resources(cpu=2.0, memory_mib=512)
FUNCTION = FunctionSpec(
    name="f", module="m", qualname="f", image=IMAGE, resources=RESOURCES, tags=(("team", "search"),)
)
SPEC = WorkerSpec(
    workspace="default",
    app="shop",
    environment="main",
    version="v",
    function=FUNCTION,
    code=CodeBundle(digest="d", size=1, folder="/"),
    gpus=("gpu-0",),
    gpu_share=0.25,
)


class StillClock:
    """Two clocks that stand until they are moved; that of the wall may jump."""

    def __init__(self) -> None:
        self.wall, self.steady = 1_700_000_000.0, 10.0

    def now(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.steady

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("nobody sleeps here")


def meter() -> tuple[Meter, StillClock]:
    clock = StillClock()
    return Meter("w", SPEC, clock), clock


def end_of(call: str) -> CallEnd:
    return CallEnd(call=call, token=Token(1, 1), outcome=CallEvent.SUCCEEDED, worker="w")


def sealed(one: Meter, *, is_last: bool = False) -> UsageRecord:
    record = one.seal(is_last=is_last)
    assert record is not None
    return record


def test_a_record_says_whose_it_is_what_was_held_and_how_long_each_state_was() -> None:
    one, clock = meter()
    clock.steady += 0.25
    one.enter(S.STARTING)
    clock.steady += 1.5
    one.enter(S.BUSY)
    clock.steady += 2.0

    record = sealed(one)

    assert (record.by.app, record.by.cpu, record.by.memory_mib, record.by.gpus) == ("shop", 2.0, 512, ("gpu-0",))
    assert (record.by.gpu_share, record.by.tags) == (0.25, (("team", "search"),))
    assert record.states == ((S.PLACING, 250_000), (S.STARTING, 1_500_000), (S.BUSY, 2_000_000))
    assert record.until_us - record.since_us == 3_750_000


def test_nothing_is_sealed_twice_and_nothing_after_the_last_word() -> None:
    one, clock = meter()
    clock.steady += 1
    sealed(one)

    assert one.seal() is None
    assert sealed(one, is_last=True).is_last
    clock.steady += 1
    assert one.seal() is None
    assert one.seal(is_last=True) is None


def test_a_wall_clock_that_jumps_moves_nothing() -> None:
    one, clock = meter()
    clock.steady += 1
    first = sealed(one)
    clock.wall -= 3600
    clock.steady += 1

    second = sealed(one)

    assert (second.since_us, second.until_us) == (first.until_us, first.until_us + 1_000_000)


def test_a_call_has_the_time_that_it_ran_alone_and_an_equal_share_of_the_rest() -> None:
    one, clock = meter()
    one.enter(S.BUSY)
    one.began("a")
    clock.steady += 1
    one.began("b")
    clock.steady += 1

    assert (one.ended(end_of("a")).used_us, one.ended(end_of("never"))) == (1_500_000, end_of("never"))
    clock.steady += 1
    assert one.ended(end_of("b")).used_us == 1_500_000
    assert sealed(one).calls == 2


def test_what_others_count_is_told_by_how_much_it_grew_and_a_silence_loses_nothing() -> None:
    one, clock = meter()
    told = []
    for counted in (
        Counted(cpu_us=70, egress_bytes=1000),
        Counted(cpu_us=90, egress_bytes=1000),
        UNCOUNTED,
        Counted(cpu_us=100, egress_bytes=1500),
    ):
        clock.steady += 1
        record = one.seal(counted)
        assert record is not None
        told.append((record.cpu_us, record.egress_bytes))

    assert told == [(70, 1000), (20, 0), (None, None), (10, 500)]


def test_tokens_are_of_the_stretch_they_are_reported_in_and_of_the_call_that_reports_them() -> None:
    one, clock = meter()
    one.began("a")
    clock.steady += 1
    one.took("a", 5, 7)
    first = sealed(one)
    clock.steady += 1
    one.took("a", 1, 0)
    one.took("", 100, 0)
    ended = one.ended(end_of("a"))
    second = sealed(one)

    assert [(one.tokens_in, one.tokens_out) for one in (first, second, ended)] == [(5, 7), (101, 0), (6, 7)]
    for wrong in (-1, MOST_TOKENS + 1):
        with pytest.raises(ProtocolError, match="cannot believe"):
            one.took("", 0, wrong)


def test_where_nothing_is_metered_an_end_is_as_it_was_and_nothing_is_told() -> None:
    none = Unmetered()
    none.enter(S.BUSY)
    none.began("a")
    none.took("a", 1, 1)

    assert none.ended(end_of("a")) == end_of("a")
    assert none.seal(is_last=True) is None  # type: ignore[func-returns-value]  # which is what is asserted


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["enter", "began", "ended", "seal"]),
        st.sampled_from([S.STARTING, S.READY, S.BUSY, S.IDLE, S.DRAINING]),
        st.sampled_from("abc"),
        st.floats(min_value=0, max_value=100, allow_nan=False),
    ),
    max_size=60,
)


@given(STEPS)
def test_stretches_tile_a_life_and_calls_never_have_more_than_there_was(steps: list[tuple[str, S, str, float]]) -> None:
    one, clock = meter()
    begin = int(clock.steady * 1e6)
    records, used = [], 0
    for what, state, call, seconds in steps:
        clock.steady += seconds
        if what == "enter":
            one.enter(state)
        elif what == "began":
            one.began(call)
        elif what == "ended":
            used += one.ended(end_of(call)).used_us
        else:
            records.append(one.seal())
    records.append(one.seal(is_last=True))

    kept = [record for record in records if record is not None]
    life = int(clock.steady * 1e6) - begin
    assert [record.n for record in kept] == list(range(len(kept)))
    assert all(before.until_us == after.since_us for before, after in pairwise(kept))
    assert sum(us for _, us in add_times(*(record.states for record in kept))) == life
    assert all(sum(us for _, us in one.states) == one.until_us - one.since_us for one in kept)
    assert used <= life


def test_a_record_is_told_until_it_is_kept() -> None:
    one, clock = meter()
    unkept = UnkeptUsage()
    records = []
    for _ in range(MOST_AT_ONCE + 1):
        clock.steady += 1
        records.append(sealed(one))
        unkept.add(records[-1])

    assert [len(unkept.take()) for _ in range(3)] == [MOST_AT_ONCE, 1, 0]
    unkept.kept([("w", n) for n in range(MOST_AT_ONCE)])
    unkept.rewind()
    assert unkept.take() == (records[-1],)
    unkept.kept([("w", MOST_AT_ONCE)])
    assert unkept.is_empty
