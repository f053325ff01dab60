"""What the store promises of lines: in order, each batch once, found by what they say, dropped when they are old."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path

import pytest

from relight.protocol.errors import Unavailable
from relight.protocol.views import LogQuery, LogRecord
from relight.store.bodies import Origin, Written
from relight.store.logs import BLOCK_LINES, Batch
from relight.store.shelves import SHELF_BLOCKS
from relight.store.store import Store, open_store

WS = "default"
ORIGIN = Origin(app="a", environment="main", function="f", worker="w1", call="c1", source="stdout")
SHELF_LINES = BLOCK_LINES * SHELF_BLOCKS


def wrote(*texts: str, at: float = 1.0, **origin: str) -> Written:
    return Written(origin=ORIGIN._replace(**origin), at=at, texts=texts)


async def read(store: Store, query: LogQuery | None = None, workspace: str = WS) -> Sequence[LogRecord]:
    return (await store.logs.read(workspace, query or LogQuery())).records


async def texts(store: Store, query: LogQuery | None = None) -> list[str]:
    return [record.text for record in await read(store, query)]


async def test_lines_are_read_in_order_by_call_worker_place_source_and_text(store: Store) -> None:
    await store.logs.append(
        WS,
        [
            wrote("one"),
            wrote("two", call="c2", source="stderr"),
            wrote("three", worker="w2"),
            wrote("four", environment="staging", function="g", app="b"),
        ],
    )

    first = (await read(store))[0]

    assert await texts(store) == ["one", "two", "three", "four"]
    assert await texts(store, LogQuery(call="c1", after=first.id)) == ["three", "four"]
    assert await texts(store, LogQuery(worker="w2")) == ["three"]
    assert await texts(store, LogQuery(environment="staging")) == ["four"]
    assert await texts(store, LogQuery(app="b", function="g")) == ["four"]
    assert await texts(store, LogQuery(source="stderr")) == ["two"]
    assert await texts(store, LogQuery(search="o", limit=2)) == ["one", "two"]
    assert first == LogRecord(id=1, at=1.0, text="one", **ORIGIN._asdict())


async def test_pages_go_on_where_the_last_one_ended_over_blocks_and_what_fills_none(store: Store) -> None:
    written = [f"line {number}" for number in range(3 * BLOCK_LINES + 7)]
    for at in range(0, len(written), 100):
        await store.logs.append(WS, [wrote(*written[at : at + 100])])

    found: list[str] = []
    after = 0
    while page := (await store.logs.read(WS, LogQuery(after=after, limit=64))).records:
        found += [record.text for record in page]
        after = page[-1].id

    assert found == written


async def test_the_newest_lines_are_read_in_the_order_in_which_they_were_written(store: Store) -> None:
    written = [f"line {number}" for number in range(2 * BLOCK_LINES + 3)]
    await store.logs.append(WS, [wrote(*written)])

    assert await texts(store, LogQuery(tail=BLOCK_LINES)) == written[-BLOCK_LINES:]
    assert await texts(store, LogQuery(tail=2, search="line 1")) == ["line 198", "line 199"]
    assert await texts(store, LogQuery(tail=9, after=len(written) - 1)) == written[-1:]


async def test_whoever_goes_on_after_a_page_sees_what_came_since_and_nothing_twice(store: Store) -> None:
    await store.logs.append(WS, [wrote("no", "yes 1", "no")])
    first = await store.logs.read(WS, LogQuery(search="yes", tail=10))
    await store.logs.append(WS, [wrote("no", "yes 2")])

    second = await store.logs.read(WS, LogQuery(search="yes", after=first.upto))

    assert [record.text for record in (*first.records, *second.records)] == ["yes 1", "yes 2"]
    assert (first.upto, second.upto) == (3, 5)


async def test_lines_are_found_by_their_time(store: Store) -> None:
    for number in range(2 * BLOCK_LINES):
        await store.logs.append(WS, [wrote(str(number), at=float(number))])

    assert await texts(store, LogQuery(since=497.0)) == ["497", "498", "499"]
    assert await texts(store, LogQuery(until=2.0)) == ["0", "1", "2"]
    assert await texts(store, LogQuery(since=249.0, until=251.0)) == ["249", "250", "251"]


@pytest.mark.parametrize("search", ["100%", "a_b", "'; --", "é", "İx"])
async def test_a_search_finds_text_as_it_is_written(store: Store, search: str) -> None:
    await store.logs.append(WS, [wrote("100%", "a_b", "'; --", "1000 aXb ' ;", "é", "İx")])

    assert await texts(store, LogQuery(search=search)) == [search]


async def test_a_search_may_be_for_either_case(store: Store) -> None:
    await store.logs.append(WS, [wrote("Error", "ERROR", "terror", "Größe", "GRÖSSE")])

    assert await texts(store, LogQuery(search="error", ignore_case=True)) == ["Error", "ERROR", "terror"]
    assert await texts(store, LogQuery(search="größe", ignore_case=True)) == ["Größe", "GRÖSSE"]
    assert await texts(store, LogQuery(search="error")) == ["terror"]


async def test_a_text_with_a_line_end_stays_one_line_and_is_not_searched_for(store: Store) -> None:
    await store.logs.append(WS, [wrote("two\nlines", "", "three"), wrote("")])

    assert await texts(store) == ["two␤lines", "", "three", ""]
    assert await texts(store, LogQuery(search="two\nlines")) == []


async def test_each_workspace_has_its_own_lines_and_numbers(store: Store) -> None:
    await store.logs.append(WS, [wrote("mine")])
    await store.logs.append("other", [wrote("theirs", "too")])
    await store.logs.append(WS, [wrote("mine again")])

    assert [(one.id, one.text) for one in await read(store)] == [(1, "mine"), (2, "mine again")]
    assert [one.text for one in await read(store, workspace="other")] == ["theirs", "too"]


async def test_a_batch_that_is_told_again_is_kept_once(store: Store) -> None:
    first = Batch(written={WS: [wrote("one")]}, sender="agent-1", number=1)
    second = Batch(written={WS: [wrote("two")]}, sender="agent-1", number=2)
    other = Batch(written={WS: [wrote("three")]}, sender="agent-2", number=1)

    await store.logs.keep([first])
    await store.logs.keep([first, second])
    await store.logs.keep([second, other])

    assert await texts(store) == ["one", "two", "three"]


async def test_what_was_kept_is_there_after_a_restart_with_the_number_of_its_batch(tmp_path: Path) -> None:
    batch = Batch(written={WS: [wrote("one")]}, sender="agent-1", number=7)
    first = await open_store(tmp_path)
    await first.logs.keep([batch])
    await first.close()

    second = await open_store(tmp_path)
    await second.logs.keep([batch])
    found = await texts(second)
    await second.close()

    assert found == ["one"]


async def test_a_batch_that_cannot_be_kept_is_not_kept_in_part(store: Store) -> None:
    bad = wrote("bad", at="never")  # type: ignore[arg-type]  # the point
    batches = [
        Batch(written={WS: [wrote("good")]}, sender="s", number=1),
        Batch(written={WS: [bad]}, sender="s", number=2),
    ]

    with pytest.raises(Unavailable, match="cannot keep logs"):
        await store.logs.keep(batches)
    await store.logs.keep(batches[:1])

    assert await texts(store) == ["good"]


async def test_old_lines_are_forgotten_in_whole_blocks_and_the_rest_keep_their_numbers(store: Store) -> None:
    for number in range(2 * BLOCK_LINES + 1):
        await store.logs.append(WS, [wrote(str(number), at=float(number))])

    too_young = await store.logs.forget(before=BLOCK_LINES - 1.0)
    forgotten = await store.logs.forget(before=BLOCK_LINES + 1.0)
    left = await read(store)
    rest = await store.logs.forget(before=1e9)
    await store.logs.append(WS, [wrote("new")])

    assert (too_young, forgotten, rest) == (0, BLOCK_LINES, BLOCK_LINES + 1)
    assert (left[0].id, left[0].text) == (BLOCK_LINES + 1, str(BLOCK_LINES))
    assert [(one.id, one.text) for one in await read(store)] == [(2 * BLOCK_LINES + 2, "new")]


async def test_forgetting_is_bounded(store: Store) -> None:
    await store.logs.append(WS, [wrote(*["x"] * (5 * BLOCK_LINES))])

    counts = [await store.logs.forget(before=9.0, most_blocks=2) for _ in range(4)]

    assert counts == [2 * BLOCK_LINES, 2 * BLOCK_LINES, BLOCK_LINES, 0]


async def test_the_lines_of_a_store_from_before_there_were_blocks_are_taken_over(tmp_path: Path) -> None:
    first = (resources.files("relight.store") / "migrations" / "logs_0001_first.sql").read_text()
    connection = sqlite3.connect(tmp_path / "logs.db")
    connection.executescript(f"{first} PRAGMA user_version = 1;")
    connection.executemany(
        "INSERT INTO lines (workspace, at, app, environment, function, worker, call, source, text)"
        " VALUES (?, ?, 'a', 'main', 'f', 'w1', 'c1', 'stdout', ?)",
        [(WS if number % 3 else "other", number, f"old {number}") for number in range(600)],
    )
    connection.commit()
    connection.close()

    store = await open_store(tmp_path)
    mine, theirs = await read(store), await read(store, workspace="other")
    await store.close()

    assert [one.text for one in mine] == [f"old {number}" for number in range(600) if number % 3]
    assert mine[0] == LogRecord(id=mine[0].id, at=1.0, text="old 1", **ORIGIN._asdict())
    assert len(theirs) == 200


@pytest.fixture
async def shelved(store: Store) -> tuple[Store, list[tuple[str, Written]]]:
    """A store with a full shelf that has its index, some blocks more, and what is in them."""
    kept: list[tuple[str, Written]] = []
    for number in range(SHELF_LINES // BLOCK_LINES + 5):
        origin = {"app": f"app-{number // 100}", "call": f"call-{number}", "worker": f"worker-{number % 7}"}
        lines = [f"request {number * 7919 + at:x} took {at} ms from node-{number}" for at in range(BLOCK_LINES)]
        kept.append((WS if number % 5 else "other", wrote(*lines, at=float(number), **origin)))
        store.logs.append(kept[-1][0], [kept[-1][1]])
    await store.logs.append(WS, [wrote("request of the tail")])
    kept.append((WS, wrote("request of the tail")))
    assert await store.logs.index_next()
    return store, kept


def naive(kept: Sequence[tuple[str, Written]], query: LogQuery) -> list[str]:
    """The same question, answered by looking at all there is."""
    fields = {name: getattr(query, name) for name in ORIGIN._fields if getattr(query, name)}
    return [
        text
        for workspace, written in kept
        if workspace == WS and all(getattr(written.origin, name) == value for name, value in fields.items())
        if query.since <= written.at <= (query.until or 1e18)
        for text in written.texts
        if query.search in text
    ]


async def test_an_index_changes_no_answer(shelved: tuple[Store, list[tuple[str, Written]]]) -> None:
    store, kept = shelved
    questions = [
        *(LogQuery(search=search) for search in ("node-123", "ode-12", "took 249 ms from node-25", "f3 took", " ms")),
        *(LogQuery(search=search) for search in ("absent", "node-123 ", "zq", "~", "7", "request of", "  ")),
        *(LogQuery(search=" took", since=200.0, until=201.0), LogQuery(search="node-9", until=20.0)),
        *(LogQuery(call="call-77"), LogQuery(call="call-259"), LogQuery(call="none"), LogQuery(worker="worker-3")),
        *(LogQuery(app="app-2", search="node-2"), LogQuery(app="app-0", search="node-205"), LogQuery(source="stderr")),
    ]

    for question in questions:
        expected = naive(kept, question)
        assert await texts(store, replace(question, limit=100_000)) == expected, question
        assert await texts(store, replace(question, limit=10)) == expected[:10], question
        assert await texts(store, replace(question, tail=10)) == expected[-10:], question


async def test_an_index_that_cannot_be_made_says_so_and_is_made_the_next_time(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.logs.append(WS, [wrote(*["x"] * (SHELF_LINES + BLOCK_LINES))])

    with monkeypatch.context() as patch:
        patch.setattr("sys.executable", "/bin/false")
        with pytest.raises(Unavailable, match="cannot index the log: its process ended with 1"):
            await store.logs.index_next()

    assert await store.logs.index_next()


async def test_a_shelf_is_indexed_once_and_its_index_goes_with_its_last_block(
    shelved: tuple[Store, list[tuple[str, Written]]],
) -> None:
    store, _ = shelved

    again = await store.logs.index_next()
    while await store.logs.forget(before=SHELF_BLOCKS + 1.0):
        pass
    slices = await store.databases[-1].read(lambda one: one.execute("SELECT count(*) FROM slices").fetchone()[0])

    assert not again
    assert slices == 0
    assert await texts(store, LogQuery(search="node-25", limit=1)) == ["request 1f0def took 0 ms from node-257"]
