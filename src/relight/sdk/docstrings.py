"""What a docstring says of each parameter, where it says so in Google's form (`Args:`)."""

from __future__ import annotations

import re

_SECTION = re.compile(r"^(Args|Arguments|Parameters):\s*$", re.MULTILINE)
_ENTRY = re.compile(r"^(\s+)\*{0,2}(\w+)(?:\s*\([^)]*\))?:\s*(.*)$")


def arguments_in(doc: str) -> dict[str, str]:
    """The description of each parameter, as one line."""
    section = _SECTION.search(doc)
    if section is None:
        return {}
    found: dict[str, str] = {}
    name, indent = "", -1
    for line in doc[section.end() :].lstrip("\n").splitlines():
        depth = len(line) - len(line.lstrip())
        if not line.strip() or depth == 0:
            break
        entry = _ENTRY.match(line)
        if entry and (indent < 0 or depth <= indent):
            name, indent = entry[2], depth
            found[name] = entry[3].strip()
        elif name:
            found[name] = f"{found[name]} {line.strip()}".strip()
    return found


def summary_of(doc: str) -> str:
    """The docstring without its list of parameters, which others show better."""
    section = _SECTION.search(doc)
    return doc if section is None else doc[: section.start()].rstrip()
