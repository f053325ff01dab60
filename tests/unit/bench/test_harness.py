"""Rounds become figures: medians of rounds, turns that are fair, promises that are held to the number."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Bench


class FakeDriver:
    """Answers with figures that say who was asked, and notes when."""

    def __init__(self, bench: Bench, peer: str, asked: list[tuple[str, str, int, int]]) -> None:
        self._bench = bench
        self._asked = asked
        self.peer = peer

    def latency(self, number: int, n: int) -> Any:
        """As if each call had taken as many microseconds as the round has a number, a hundredfold."""
        self._asked.append((self.peer, "one", number, n))
        took = number * 100.0
        return self._bench.harness.Latency(
            peer=self.peer, round=number, calls=n, p50_us=took, p90_us=took, p99_us=took, cpu_us=1.0
        )

    def throughput(self, number: int, n: int) -> Any:
        """As many calls a second as the round has a number, a thousandfold."""
        self._asked.append((self.peer, "many", number, n))
        return self._bench.harness.Throughput(
            peer=self.peer, round=number, calls=n, per_second=number * 1000.0, cpu_us=1.0
        )

    def cpu_used(self) -> dict[int, int]:
        """It uses nothing by itself."""
        return {1: 0}


def figures(bench: Bench, peer: str, p50_us: float, per_second: float) -> Any:
    return bench.harness.Figures(
        peer=peer,
        p50_us=p50_us,
        p90_us=p50_us * 2,
        p99_us=p50_us * 3,
        per_second=per_second,
        one_cpu_us=50.0,
        many_cpu_us=20.0,
        idle_cpu_percent=1.5,
    )


def plan(bench: Bench, rounds: int) -> Any:
    return bench.harness.Plan(
        rounds=rounds, warm=5, one=10, many=8000, idle_seconds=0.0, imports=1, standing_seconds=1e-9
    )


@pytest.mark.parametrize(("part", "value"), [(0.5, 51), (0.9, 91), (0.99, 100), (1.0, 100)])
def test_a_quantile_is_one_of_the_values_however_they_are_ordered(bench: Bench, part: float, value: int) -> None:
    values = [float(one) for one in (*range(51, 101), *range(1, 51))]

    assert bench.harness.quantile(values, part) == value


def test_a_quantile_of_one_value_is_that_value(bench: Bench) -> None:
    assert bench.harness.quantile([3.0], 0.99) == 3.0


def test_every_peer_has_one_turn_a_round_and_not_always_the_same_neighbour(bench: Bench) -> None:
    orders = ["".join(bench.harness.turns("abc", number)) for number in range(1, 7)]

    assert all(sorted(order) == ["a", "b", "c"] for order in orders)
    assert {order[0] for order in orders} == {"a", "b", "c"}
    assert len(set(orders)) > 3


def test_rounds_warm_every_peer_up_first_and_measure_all_of_them_in_each(bench: Bench) -> None:
    asked: list[tuple[str, str, int, int]] = []
    told: list[str] = []
    drivers = [FakeDriver(bench, peer, asked) for peer in ("relight", "ray")]

    seen = bench.harness.run_rounds(drivers, plan(bench, 2), lambda kind, _: told.append(kind))

    assert asked[:4] == [
        ("relight", "one", 0, 5),
        ("relight", "many", 0, 2000),
        ("ray", "one", 0, 5),
        ("ray", "many", 0, 2000),
    ]
    assert {(peer, what, number) for peer, what, number, _ in asked[4:]} == {
        (peer, what, number) for peer in ("relight", "ray") for what in ("one", "many") for number in (1, 2)
    }
    assert [one.round for one in seen.latencies] == [1, 1, 2, 2]
    assert told.count("latency") == told.count("throughput") == 4


def test_a_slow_peer_is_asked_for_fewer_calls_at_once(bench: Bench) -> None:
    asked: list[tuple[str, str, int, int]] = []

    bench.harness.run_rounds([FakeDriver(bench, "celery", asked)], plan(bench, 1), lambda *_: None)

    assert asked[-1] == ("celery", "many", 1, 2000)


def test_a_figure_is_the_median_of_the_rounds_so_that_one_bad_round_moves_nothing(bench: Bench) -> None:
    h = bench.harness
    p50s = (10.0, 9000.0, 12.0)
    seen = h.Seen(
        latencies=tuple(
            h.Latency(peer="ray", round=at, calls=1, p50_us=p50, p90_us=p50, p99_us=p50, cpu_us=1.0)
            for at, p50 in enumerate(p50s)
        ),
        throughputs=tuple(
            h.Throughput(peer="ray", round=at, calls=1, per_second=rate, cpu_us=1.0)
            for at, rate in enumerate((5.0, 1.0, 6.0))
        ),
        standing=(h.Standing(peer="ray", cpu_percent=3.0),),
    )

    one = h.figures_of(seen)["ray"]

    assert (one.p50_us, one.per_second, one.idle_cpu_percent) == (12.0, 5.0, 3.0)


def test_lines_are_json_and_say_what_they_are(bench: Bench) -> None:
    lines: list[str] = []

    bench.harness.tell_to(lines.append)("standing", bench.harness.Standing(peer="ray", cpu_percent=2.5))

    assert json.loads(lines[0]) == {"kind": "standing", "peer": "ray", "cpu_percent": 2.5}
    assert lines[0].endswith("\n")


def test_the_table_puts_each_peer_beside_relight(bench: Bench) -> None:
    both = {one.peer: one for one in (figures(bench, "relight", 1000, 6000), figures(bench, "ray", 500, 2000))}

    head, own, ray = bench.harness.table(both).splitlines()

    assert head.split()[:2] == ["p50", "ms"]
    assert own.split() == ["relight", "1.000", "2.000", "3.000", "6,000", "50", "20", "1.5", "1.00", "1.00"]
    assert ray.split() == ["ray", "0.500", "1.000", "1.500", "2,000", "50", "20", "1.5", "0.50", "0.33"]
    assert len(head) == len(own) == len(ray)


def test_the_table_of_others_alone_compares_with_nothing(bench: Bench) -> None:
    _, ray = bench.harness.table({"ray": figures(bench, "ray", 500, 2000)}).splitlines()

    assert ray.split() == ["ray", "0.500", "1.000", "1.500", "2,000", "50", "20", "1.5"]


@pytest.mark.parametrize(
    ("seen", "is_most", "holds"), [(3.0, True, True), (3.01, True, False), (3.0, False, True), (2.99, False, False)]
)
def test_a_promise_holds_at_its_limit_and_not_past_it(bench: Bench, seen: float, is_most: bool, holds: bool) -> None:
    target = bench.harness.Target(what="it", seen=seen, limit=3.0, unit="x", is_most=is_most)

    assert target.holds is holds
    assert ("DOES NOT HOLD" in bench.harness.verdicts([target])) is not holds


def test_calls_are_held_to_ray_in_the_same_run(bench: Bench) -> None:
    both = {one.peer: one for one in (figures(bench, "relight", 900, 6600), figures(bench, "ray", 600, 2200))}

    targets = bench.calls.call_targets(both)

    assert [round(one.seen, 3) for one in targets] == [0.9, 1.5, 3.0]
    assert all(one.holds for one in targets)


def test_without_ray_nothing_is_said_of_it_and_without_relight_nothing_at_all(bench: Bench) -> None:
    own = figures(bench, "relight", 1300, 2000)

    assert [one.what for one in bench.calls.call_targets({"relight": own})] == ["a warm .remote(), p50"]
    assert bench.calls.call_targets({"ray": figures(bench, "ray", 500, 2000)}) == []


def test_nothing_called_is_held_to_the_import_and_the_memory_of_all_processes(bench: Bench) -> None:
    imports = bench.idle.Imports(interpreters=20, start_ms=8.0, relight_ms=20.5, app_ms=60.0)
    idle = bench.idle.Idle(seconds=10.0, pss_mib={"server 1": 100.0, "agent 2": 50.0}, cpu_percent=0.2)

    targets = bench.calls.idle_targets(imports, idle)

    assert [(one.seen, one.holds) for one in targets] == [(20.5, False), (150.0, True)]


def test_a_peer_that_there_is_not_is_refused_with_those_that_there_are(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        bench.calls.main(["--only", "relight,dask"])

    said = capsys.readouterr().err
    assert "there is no peer 'dask'" in said
    assert "relight, ray, celery, pool, socket" in said
