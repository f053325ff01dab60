"""What runs on the user's Python imports on each one that this machine has, with nothing installed and no warning.

`.ci/run` goes further: it runs the unit tests of these rooms on each of them.
"""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("protocol", "sandbox", "runtime", "sdk")

IMPORT_ALL = """
import importlib, pathlib, sys
source, rooms = pathlib.Path(sys.argv[1]), sys.argv[2:]
sys.path.insert(0, str(source))
names = ["relight"]
for room in rooms:
    for path in sorted((source / "relight" / room).rglob("*.py")):
        parts = path.relative_to(source).with_suffix("").parts
        if "_vendor" not in parts and parts[-1] != "__main__":
            names.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
for name in names:
    importlib.import_module(name)
relight = sys.modules["relight"]
for name in relight.__all__:  # its public names come when they are asked for
    getattr(relight, name)
print(len(names))
"""


def pythons() -> dict[tuple[int, int], str]:
    """As `tools/pythons.py` finds them."""
    spec = importlib.util.spec_from_file_location("relight_pythons", ROOT / "tools" / "pythons.py")
    assert spec is not None, "tools/pythons.py is not there"
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: dict[tuple[int, int], str] = module.find()
    return found


@pytest.mark.parametrize(("version", "python"), [pytest.param(v, p, id=f"{v[0]}.{v[1]}") for v, p in pythons().items()])
def test_the_users_side_imports_with_nothing_installed(version: tuple[int, int], python: str) -> None:
    command = [python, "-I", "-S", "-W", "error", "-c", IMPORT_ALL, str(ROOT / "src"), *ROOMS]

    done = subprocess.run(command, capture_output=True, text=True, timeout=60)

    assert done.returncode == 0, f"Python {version[0]}.{version[1]}:\n{done.stderr}"
    assert int(done.stdout) > len(ROOMS)
