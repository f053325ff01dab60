"""Profiles: written down, chosen, forgotten, and readable by their user alone."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from relight.protocol.errors import InvalidRequest, NotFound
from relight.sdk import profiles
from relight.sdk.profiles import Profile

WORK = Profile(name="work", url="https://relight.example", token="rl_w", ca="/ca.pem")
HOME = Profile(name="home", url="http://10.0.0.2:8700", token="rl_h")


def test_without_a_file_this_machines_own_server_is_used(tmp_path: Path) -> None:
    assert profiles.active(tmp_path) is None


def test_the_profile_written_last_is_in_use(tmp_path: Path) -> None:
    profiles.add(tmp_path, WORK)
    profiles.add(tmp_path, HOME)

    assert profiles.active(tmp_path) == HOME
    assert dict(profiles.read(tmp_path).known) == {"work": WORK, "home": HOME}


def test_one_is_chosen_for_a_command_or_from_now_on(tmp_path: Path) -> None:
    profiles.add(tmp_path, WORK)
    profiles.add(tmp_path, HOME)

    assert profiles.active(tmp_path, "work") == WORK
    assert profiles.active(tmp_path, "local") is None
    profiles.use(tmp_path, "work")
    assert profiles.active(tmp_path) == WORK
    profiles.use(tmp_path, "local")
    assert profiles.active(tmp_path) is None


def test_a_profile_written_again_is_replaced(tmp_path: Path) -> None:
    profiles.add(tmp_path, WORK)
    again = Profile(name="work", url="http://127.0.0.1:1", token="rl_new")
    profiles.add(tmp_path, again)

    assert dict(profiles.read(tmp_path).known) == {"work": again}


def test_a_forgotten_profile_is_used_no_more(tmp_path: Path) -> None:
    profiles.add(tmp_path, HOME)
    profiles.add(tmp_path, WORK)

    profiles.remove(tmp_path, "work")

    assert profiles.active(tmp_path) is None
    assert list(profiles.read(tmp_path).known) == ["home"]


def test_forgetting_another_one_changes_nothing_about_the_one_in_use(tmp_path: Path) -> None:
    profiles.add(tmp_path, HOME)
    profiles.add(tmp_path, WORK)

    profiles.remove(tmp_path, "home")

    assert profiles.active(tmp_path) == WORK


def test_only_the_user_may_read_the_file(tmp_path: Path) -> None:
    profiles.add(tmp_path / "new", WORK)

    assert stat.S_IMODE((tmp_path / "new" / "profiles.json").stat().st_mode) == 0o600
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["profiles.json"]


@pytest.mark.parametrize("act", ["use", "remove"])
def test_a_name_that_is_not_there_is_told_with_those_there_are(tmp_path: Path, act: str) -> None:
    profiles.add(tmp_path, WORK)

    with pytest.raises(NotFound, match="cannot find the profile 'wrok': there are 'work', 'local'"):
        getattr(profiles, act)(tmp_path, "wrok")


@pytest.mark.parametrize("name", ["local", "", "a b", "-x", "x" * 65])
def test_some_names_are_none(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidRequest, match="cannot name a profile"):
        profiles.add(tmp_path, Profile(name=name, url="http://x", token="t"))


@pytest.mark.parametrize("text", ["{", "[]", '{"profiles": []}', '{"profiles": {"a": {"url": "x"}}}'])
def test_a_file_that_is_none_of_profiles_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "profiles.json").write_text(text)

    with pytest.raises(InvalidRequest, match=r"cannot read .*profiles\.json"):
        profiles.active(tmp_path)


def test_a_current_profile_that_is_gone_is_an_error_rather_than_another_server(tmp_path: Path) -> None:
    (tmp_path / "profiles.json").write_text(json.dumps({"current": "gone", "profiles": {}}))

    with pytest.raises(NotFound, match="cannot find the profile 'gone'"):
        profiles.active(tmp_path)
