"""The meter: its stretches tile a life, and its calls share what it ran, to the microsecond."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from relight.agent.ledger import MOST_AT_ONCE, UnkeptUsage
from relight.agent.meter import Meter
from relight.protocol.link import WorkerSpec
from relight.protocol.manifest import CodeBundle, FunctionSpec, HostImage, Resources
from relight.protocol.usage import UsageRecord, add_times
from relight.protocol.workers import WorkerState as S

IMAGE = HostImage(python="/p", prefix="/", base_prefix="/", version="3.11.0")
FUNCTION = FunctionSpec(name="f", module="m", qualname="f", image=IMAGE, resources=Resources(cpu=2.0, memory_mib=512))
SPEC = WorkerSpec(
    workspace="default",
    app="shop",
    environment="main",
    version="v",
    function=FUNCTION,
    code=CodeBundle(digest="d", size=1, folder="/"),
    gpus=("gpu-0",),
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

    assert (one.ended("a"), one.ended("never")) == (1_500_000, 0)
    clock.steady += 1
    assert one.ended("b") == 1_500_000
    assert sealed(one).calls == 2


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
            used += one.ended(call)
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
