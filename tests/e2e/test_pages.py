"""The pages about calls, classes and notebooks: their code runs, and prints what they say it prints."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from servers import Server

DOCS = Path(__file__).parent.parent.parent / "docs"
CODE = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", ["classes", "notebooks", "sdk"])
def test_the_code_of_a_page_prints_what_the_page_says(page: str, server: Server, tmp_path: Path) -> None:
    code = "\n".join(CODE.findall((DOCS / f"{page}.md").read_text(encoding="utf-8")))
    expected = re.findall(r"^ *#> (.*)$", code, re.MULTILINE)
    (tmp_path / "page.py").write_text(code)
    start = ["-c", code] if page == "notebooks" else ["page.py"]  # the one is about what is in no file

    done = subprocess.run([sys.executable, *start], cwd=tmp_path, capture_output=True, text=True, timeout=120)

    assert (done.stdout.splitlines(), done.returncode) == (expected, 0), done.stderr
    assert len(expected) >= 4
