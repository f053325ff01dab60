"""Forks of one template are unlike one another, with what every Python has."""

from __future__ import annotations

import sys
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="templates are Linux's")

RunTemplate = Any


@pytest.mark.parametrize(
    ("imports", "draw"),
    [
        ("random", "random.random()"),
        ("os", "os.urandom(16).hex()"),
        ("uuid", "str(uuid.uuid4())"),
        ("uuid", "str(uuid.uuid1())"),
        ("secrets", "secrets.token_hex()"),
        ("ssl", "ssl.RAND_bytes(16).hex()"),
        ("tempfile", "next(tempfile._get_candidate_names())"),
    ],
)
def test_each_fork_draws_its_own(imports: str, draw: str, run_template: RunTemplate) -> None:
    drawn = run_template(f"""
        import {imports}
        {draw}  # whatever remembers something remembers it before the fork
        frozen = freeze(prepare())
        report(forks(20, lambda: {draw}, frozen))
    """)

    assert len(set(drawn)) == 20, drawn
    assert not {"died", "hangs"} & set(drawn)


def test_the_node_of_each_forks_uuid1_is_its_own_and_no_network_cards(run_template: RunTemplate) -> None:
    nodes = run_template("""
        import uuid
        uuid.uuid1()
        report(forks(10, lambda: [uuid.uuid1().node for _ in range(2)], freeze(prepare())))
    """)

    assert len({node for node, _ in nodes}) == 10
    assert all(first == second and first >> 40 & 1 and first < 1 << 48 for first, second in nodes)


def test_a_seed_of_the_users_is_undone_for_the_module_and_kept_for_a_generator_of_his(
    run_template: RunTemplate,
) -> None:
    drawn = run_template("""
        import random
        random.seed(42)
        own = random.Random(42)
        report(forks(3, lambda: [random.random(), own.random()], freeze(prepare())))
    """)

    assert len({module for module, _ in drawn}) == 3
    assert len({own for _, own in drawn}) == 1


def test_nothing_is_imported_for_it(run_template: RunTemplate) -> None:
    ((before, after),) = run_template("""
        frozen = freeze(prepare())
        before = sorted(sys.modules)
        report(forks(1, lambda: [before, sorted(sys.modules)], frozen))
    """)

    assert before == after
