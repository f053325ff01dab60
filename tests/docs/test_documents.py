"""What the documents name exists: links, files, commands and decisions."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from relight.cli.main import cli

ROOT = Path(__file__).parent.parent.parent
DOCUMENTS = [ROOT / name for name in ("README.md", "STYLE.md", "CHANGELOG.md", "ARCHITECTURE.md")]
DOCUMENTS = [path for path in [*DOCUMENTS, *sorted((ROOT / "docs").rglob("*.md"))] if path.exists()]
EACH = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))

LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
NAMED_FILE = re.compile(r"`((?:src|tests|examples|docs|tools|\.ci)/[\w./-]+)`")
COMMAND = re.compile(r"(?:^|[;&|(`] ?)relight ([a-z]+)\b(?: ([a-z]+)\b)?", re.MULTILINE)
FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def commands_in(text: str) -> list[tuple[str, str]]:
    """Each `relight …` in code, as its command and the word after it."""
    code = [body for kind, body in FENCED.findall(text) if kind in ("sh", "")]
    prose = FENCED.sub("", text)
    return COMMAND.findall("\n".join([*code, *re.findall(r"`relight [^`]+", prose)]))


@EACH
def test_a_link_leads_to_a_file(document: Path) -> None:
    links = [link for link in LINK.findall(document.read_text(encoding="utf-8")) if "://" not in link]

    assert [link for link in links if not (document.parent / link).exists()] == []


@EACH
def test_a_file_that_is_named_is_there(document: Path) -> None:
    named = NAMED_FILE.findall(document.read_text(encoding="utf-8"))

    assert [name for name in named if not (ROOT / name).exists()] == []


@EACH
def test_a_command_that_is_shown_is_one(document: Path) -> None:
    context = click.Context(cli)

    for name, word in commands_in(document.read_text(encoding="utf-8")):
        command = cli.get_command(context, name)
        assert command is not None, f"`relight {name}` is no command"
        if isinstance(command, click.Group) and word:
            assert word in command.list_commands(context), f"`relight {name} {word}` is no command"


def test_the_check_of_commands_sees_one_that_is_not() -> None:
    shown = commands_in(
        "`relight fly`\n```sh\npip install . && relight run x.py\nrelight calls list\n```\nrelight lives\n"
    )

    assert shown == [("run", "x"), ("calls", "list"), ("fly", "")]
    assert cli.get_command(click.Context(cli), "fly") is None


def test_the_style_guide_names_the_budgets_that_are_held() -> None:
    budgets = (ROOT / "STYLE.md").read_text(encoding="utf-8").partition("## Budgets")[2]

    for figure in ("450 / 700", "35 / 80", "100 % / 70 %", "3 %", "1.5"):
        assert figure in budgets


def test_every_decision_is_numbered_listed_and_has_its_parts() -> None:
    folder = ROOT / "docs" / "decisions"
    index = (folder / "README.md").read_text(encoding="utf-8")

    decisions = sorted(path for path in folder.glob("*.md") if path.name != "README.md")

    numbers = [path.name.partition("-")[0] for path in decisions]
    assert len(set(numbers)) == len(numbers), f"two decisions have one number: {numbers}"
    for path, number in zip(decisions, numbers, strict=True):
        text = path.read_text(encoding="utf-8")
        assert f"({path.name})" in index, f"{path.name} is not in the list of docs/decisions/README.md"
        assert text.startswith(f"# {int(number)}. "), f"{path.name} does not begin with its number"
        assert "\n**Context.** " in text
        assert re.search(r"^(\*\*Choice\.\*\* |## What was chosen$)", text, re.MULTILINE), (
            f"{path.name} chooses nothing"
        )
        assert re.search(r"^(\*\*Cost\.\*\* |## What it costs$)", text, re.MULTILINE), f"{path.name} has no cost"


EXAMPLES = sorted(path for path in (ROOT / "examples").glob("*.py") if "relight.App(" in path.read_text("utf-8"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_on_the_page_of_examples_and_run_by_a_test(example: Path) -> None:
    page = (ROOT / "docs" / "examples.md").read_text(encoding="utf-8")
    tests = [path.read_text(encoding="utf-8") for path in (ROOT / "tests" / "e2e").glob("test_*.py")]

    assert f"](../examples/{example.name})" in page
    assert any(f'"{example.name}"' in text for text in tests)
