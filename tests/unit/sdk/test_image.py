"""What `Image.host()` says of this interpreter."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from relight.sdk.image import Image, _named_elsewhere


def test_the_host_is_this_interpreter() -> None:
    image = Image.host().spec

    assert (image.python, image.prefix, image.base_prefix) == (sys.executable, sys.prefix, sys.base_prefix)
    assert image.version == platform.python_version()


def test_an_interpreter_that_was_started_by_a_roundabout_path_is_named_by_a_straight_one() -> None:
    path = Path(sys.executable)
    roundabout = path.parent / ".." / path.parent.name / path.name
    program = "from relight import Image; print(Image.host().spec.python)"

    done = subprocess.run([roundabout, "-c", program], capture_output=True, text=True, check=True, timeout=30)

    assert done.stdout.strip() == str(path.parent.resolve() / path.name)


def test_relights_own_source_is_not_named() -> None:
    import relight

    assert str(Path(relight.__file__).parent.parent) not in Image.host().spec.paths


def test_folders_that_pth_files_and_editable_installs_name_are_found(tmp_path: Path) -> None:
    packages, project, editable = (tmp_path / name for name in ("packages", "project", "an editable"))
    record = packages / "e-1.dist-info" / "direct_url.json"
    for folder in (project, editable, record.parent):
        folder.mkdir(parents=True)
    (packages / "p.pth").write_text(f"# a comment\nimport sys\n{project}\n/nowhere/at/all\n")
    record.write_text(
        json.dumps({"url": f"file://{str(editable).replace(' ', '%20')}", "dir_info": {"editable": True}})
    )
    (packages / "broken-1.dist-info").mkdir()
    (packages / "broken-1.dist-info" / "direct_url.json").write_text("{")

    assert _named_elsewhere([packages]) == (str(project), str(editable))


def test_a_users_file_may_be_named_site(tmp_path: Path) -> None:
    pytest.importorskip("click", reason="the command line is not on the user's side")
    (tmp_path / "site.py").write_text(
        "import relight\n\napp = relight.App()\n\n@app.function()\ndef f(x: int) -> int: ...\n\n"
        "print(app.specs()[0].image.version)\n"
    )

    command = [sys.executable, "-m", "relight", "schema", "site.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=30)

    assert done.returncode == 0, done.stderr
    assert platform.python_version() in done.stdout
