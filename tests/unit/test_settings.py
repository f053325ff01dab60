"""Settings: where values come from, what is refused, and that the docs show all of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from relight.protocol.errors import InvalidRequest
from relight.settings import Settings, read_settings, rules

DOCS = Path(__file__).parents[2] / "docs" / "settings.md"


def test_without_anything_said_the_defaults_hold(tmp_path: Path) -> None:
    settings = read_settings({"data_dir": tmp_path}, {})

    assert settings == Settings(data_dir=tmp_path)


def test_the_command_wins_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('port = 1\nhost = "file"\nnode = "file"\n')
    environ = {"RELIGHT_DATA_DIR": str(tmp_path), "RELIGHT_PORT": "2", "RELIGHT_HOST": "environment"}

    settings = read_settings({"port": 3, "host": None}, environ)

    assert (settings.port, settings.host, settings.node) == (3, "environment", "file")


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("port", "80", 80),
        ("lease_seconds", "1.5", 1.5),
        ("with_agent", "no", False),
        ("allowed_hosts", "a.example, b.example", ("a.example", "b.example")),
        ("log_level", "debug", "debug"),
    ],
)
def test_a_variable_is_read_by_the_type_of_its_setting(tmp_path: Path, name: str, text: str, value: object) -> None:
    settings = read_settings({"data_dir": tmp_path}, {f"RELIGHT_{name.upper()}": text})

    assert getattr(settings, name) == value


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("port", "65536"),
        ("port", "http"),
        ("lease_seconds", "nan"),
        ("lease_seconds", "0"),
        ("with_agent", "perhaps"),
        ("log_level", "loud"),
    ],
)
def test_a_value_out_of_its_range_is_refused_with_the_setting_named(tmp_path: Path, name: str, text: str) -> None:
    with pytest.raises(InvalidRequest, match=f"cannot set {name}=.*from the environment: it must be"):
        read_settings({"data_dir": tmp_path}, {f"RELIGHT_{name.upper()}": text})


def test_an_unknown_name_is_refused_with_the_nearest_one(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("prot = 8700\n")

    with pytest.raises(InvalidRequest, match=r"cannot set 'prot' from .*config.toml.*did you mean 'port'\?"):
        read_settings({"data_dir": tmp_path}, {})
    with pytest.raises(InvalidRequest, match="RELIGHT_LEASE_SECOND"):
        read_settings({"data_dir": tmp_path / "none"}, {"RELIGHT_LEASE_SECOND": "3"})


def test_a_value_of_the_wrong_type_in_the_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("host = 7\n")

    with pytest.raises(InvalidRequest, match=r"host=7 .*must be text"):
        read_settings({"data_dir": tmp_path}, {})


def test_a_file_that_is_not_toml_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("port: 8700\n")

    with pytest.raises(InvalidRequest, match=r"cannot read .*config\.toml"):
        read_settings({"data_dir": tmp_path}, {})


def test_the_file_cannot_move_the_folder_it_lies_in(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('data_dir = "/elsewhere"\n')

    with pytest.raises(InvalidRequest, match="use --data-dir"):
        read_settings({"data_dir": tmp_path}, {})


def test_variables_of_the_client_are_no_settings(tmp_path: Path) -> None:
    environ = {"RELIGHT_URL": "http://x", "RELIGHT_TOKEN": "t", "RELIGHT_DEBUG": "1", "RELIGHT_CI_NO_SKIP": "1"}

    assert read_settings({"data_dir": tmp_path}, environ) == Settings(data_dir=tmp_path)


def test_the_docs_show_every_setting_with_its_default_and_range() -> None:
    page = DOCS.read_text()
    defaults = Settings()

    for name, rule in rules().items():
        row = next(line for line in page.splitlines() if line.startswith(f"| `{name}` "))
        assert rule.says in row, name
        assert rule.range in row, name
        assert f"`{shown(getattr(defaults, name))}`" in row, name


def test_the_docs_name_no_setting_that_is_not_there() -> None:
    names = {line.split("`")[1] for line in DOCS.read_text().splitlines() if line.startswith("| `")}

    assert names == set(rules())


def shown(value: object) -> str:
    """A default as the docs write it."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if value not in ("", ()) else "empty"
