"""What takes all there is, or lies to its agent, harms itself alone: its call ends, told why, and the neighbour answers on."""

from __future__ import annotations

from typing import Any

import pytest

from escape.conftest import Place

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(300)]
LIARS = (
    *(
        "giant_frame",
        "malformed_frame",
        "half_a_frame",
        "unknown_kind",
        "end_of_anothers_call",
        "item_of_anothers_stream",
    ),
    *("ready_again", "giant_value", "many_descriptors"),
)
HOGS = ("fork_bomb", "memory_hog", "disk_filler", "descriptor_hog", "log_flood", "endless_line", "never_answer")
PATIENCE_SECONDS = 5.0  # of a neighbour, whose call takes a millisecond where nothing else runs


def answer(place: Place, name: str) -> Any:
    return place.hogs[name]["answer"]


@pytest.mark.parametrize("name", [*HOGS, *LIARS, "two_ends", "ask_for_more"])
def test_the_neighbour_answers_on(place: Place, name: str) -> None:
    assert place.hogs[name]["neighbour"] == "pong"
    assert place.hogs[name]["neighbour_seconds"] < PATIENCE_SECONDS


@pytest.mark.parametrize("name", LIARS)
def test_who_lies_to_its_agent_is_ended(place: Place, name: str) -> None:
    assert answer(place, name).startswith("WorkerLost")


def test_a_fork_bomb_ends_at_a_limit(place: Place) -> None:
    said = answer(place, "fork_bomb")

    assert said.startswith(("EAGAIN after", "ENOMEM after", "WorkerLost"))


def test_who_takes_too_much_memory_is_told_so(place: Place) -> None:
    assert answer(place, "memory_hog").startswith("WorkerLost")
    assert "out of memory" in answer(place, "memory_hog")


def test_what_can_be_written_has_one_bound_for_all_places(place: Place) -> None:
    said = answer(place, "disk_filler")

    assert [said[folder] for folder in ("/tmp", "/dev/shm", "~")] == ["ENOSPC"] * 3
    assert 60 <= int(said["written"]) <= 64


def test_open_files_have_a_bound(place: Place) -> None:
    error, _, count = answer(place, "descriptor_hog").partition(" after ")

    assert error == "EMFILE"
    assert int(count) <= 65_536


@pytest.mark.parametrize("name", ["log_flood", "endless_line"])
def test_a_flood_of_output_slows_its_writer_alone(place: Place, name: str) -> None:
    assert answer(place, name) == "written"


def test_who_hears_nothing_is_killed_in_time(place: Place) -> None:
    assert answer(place, "never_answer").startswith("FunctionTimeout")
    assert place.hogs["never_answer"]["seconds"] < 20


def test_a_call_ends_once_whatever_its_worker_says(place: Place) -> None:
    assert answer(place, "two_ends") == "forged"  # its own call is its own to answer; the second end is no call's


def test_a_worker_asks_for_nothing_but_calls_of_its_environment(place: Place) -> None:
    said = answer(place, "ask_for_more")

    of_its_environment = {"cancel": 200, "another's call": 200}
    forbidden = ("tokens", "a token", "nodes", "apps", "logs", "starts")
    assert said == {**dict.fromkeys(forbidden, 403), **of_its_environment}


class TestTemplates:
    """As they import what is the user's."""

    def test_one_that_takes_too_much_memory_fails_its_start(self, place: Place) -> None:
        assert place.templates["memory"].startswith("DeployFailed")

    def test_one_fills_its_own_disk_alone(self, place: Place) -> None:
        told = place.templates["disk"]

        assert [told[folder] for folder in ("/tmp", "/dev/shm", "~")] == ["ENOSPC"] * 3

    @pytest.mark.parametrize("name", ["garbage", "anothers_worker"])
    def test_one_that_lies_is_ended(self, place: Place, name: str) -> None:
        assert place.templates[name].startswith("DeployFailed")

    def test_the_neighbour_answers_on(self, place: Place) -> None:
        waits = place.templates["neighbour"]

        assert [wait["answer"] for wait in waits] == ["pong"] * len(waits)
        assert max(wait["seconds"] for wait in waits) < PATIENCE_SECONDS
