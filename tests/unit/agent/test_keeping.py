"""Which templates are kept, without any: numbers in, names out."""

from __future__ import annotations

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
