"""Which templates are kept, without any: numbers in, names out."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from relight.agent.keeping import Keeping


def test_nothing_is_given_up_while_all_fits() -> None:
    keeping = Keeping(100)
    keeping.add("a", 50, 1.0)
    keeping.add("b", 50, 1.0)

    assert keeping.give_up(()) == []
    assert keeping.size == 100


def test_what_is_quick_to_make_again_for_its_size_goes_first() -> None:
    keeping = Keeping(100)
    keeping.add("dear", 60, 6.0)
    keeping.add("cheap", 60, 0.6)

    assert keeping.give_up(()) == ["cheap"]
    assert keeping.by_worth() == ["dear"]


def test_what_is_asked_for_often_stays_though_it_is_cheap() -> None:
    keeping = Keeping(100)
    keeping.add("cheap", 60, 1.0)
    for _ in range(10):
        keeping.use("cheap")
    keeping.add("dear", 60, 5.0)

    assert keeping.give_up(()) == ["dear"]


def test_what_was_dear_once_and_is_asked_for_no_more_ages() -> None:
    keeping = Keeping(100)
    keeping.add("old", 50, 3.0)
    for number in range(5):
        keeping.add(f"new-{number}", 60, 1.0)
        keeping.give_up(())
        if "old" not in keeping.by_worth():
            break

    assert "old" not in keeping.by_worth()


def test_the_spared_stay_and_the_budget_is_exceeded_for_them() -> None:
    keeping = Keeping(10)
    keeping.add("busy", 60, 0.1)
    keeping.add("idle", 60, 9.0)

    assert keeping.give_up({"busy"}) == ["idle"]
    assert keeping.size == 60


def test_what_is_gone_takes_no_room_and_cannot_be_used() -> None:
    keeping = Keeping(100)
    keeping.add("a", 90, 1.0)
    keeping.remove("a")
    keeping.use("a")

    assert (keeping.size, keeping.by_worth()) == (0, [])


class Model:
    """The same said plainly: one list, looked through each time."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.floor = 0.0
        self.kept: dict[str, tuple[int, float, int, float]] = {}  # size, cost, uses, worth

    def add(self, key: str, size: int, cost: float) -> None:
        self.kept[key] = (size, cost, 1, self.floor + cost / size)

    def use(self, key: str) -> None:
        if key in self.kept:
            size, cost, uses, _ = self.kept[key]
            self.kept[key] = (size, cost, uses + 1, self.floor + (uses + 1) * cost / size)

    def give_up(self, spared: set[str]) -> list[str]:
        gone = []
        while sum(one[0] for one in self.kept.values()) > self.budget and (open_to := set(self.kept) - spared):
            least = min(open_to, key=lambda key: (self.kept[key][3], key))
            self.floor = max(self.floor, self.kept.pop(least)[3])
            gone.append(least)
        return gone


KEYS = st.sampled_from("abcdef")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), KEYS, st.integers(1, 60), st.floats(0.01, 10)),
        st.tuples(st.just("use"), KEYS),
        st.tuples(st.just("remove"), KEYS),
        st.tuples(st.just("give_up"), st.sets(KEYS, max_size=2)),
    ),
    max_size=40,
)


@given(STEPS)
def test_what_is_kept_is_what_the_policy_says_after_any_history(steps: list[Any]) -> None:
    keeping, model = Keeping(100), Model(100)
    for what, *said in steps:
        if what == "remove":
            keeping.remove(said[0])
            model.kept.pop(said[0], None)
        else:
            assert getattr(keeping, what)(*said) == getattr(model, what)(*said)

        assert set(keeping.by_worth()) == set(model.kept)
        assert keeping.size == sum(one[0] for one in model.kept.values())


@given(STEPS)
def test_what_is_kept_fits_but_for_those_that_are_spared(steps: list[Any]) -> None:
    keeping = Keeping(100)
    for what, *said in steps:
        getattr(keeping, what)(*said)
        if what == "give_up":
            kept = set(keeping.by_worth())
            assert keeping.size <= 100 or kept <= said[0]
