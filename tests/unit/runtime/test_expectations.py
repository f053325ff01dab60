"""What a template says of GPUs that its forks will have."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from relight.runtime.expectations import ExpectedGpus

CUDA = """
asked = []

def is_available():
    "Whether there is one."
    asked.append("available")
    return False

def device_count():
    asked.append("count")
    return 7
"""


@pytest.fixture
def torch_to_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("from torch import cuda\nfrom torch.cuda import is_available\n")
    (tmp_path / "torch" / "cuda.py").write_text(CUDA)
    hidden = {name: sys.modules.pop(name) for name in tuple(sys.modules) if name.partition(".")[0] == "torch"}
    monkeypatch.syspath_prepend(tmp_path)
    finders = list(sys.meta_path)
    yield
    sys.meta_path[:] = finders
    for name in [name for name in sys.modules if name.partition(".")[0] == "torch"]:
        del sys.modules[name]
    sys.modules.update(hidden)


@pytest.mark.usefixtures("torch_to_come")
@pytest.mark.parametrize("is_early", [True, False])
def test_torch_says_what_its_forks_will_have_and_the_driver_is_not_asked(is_early: bool) -> None:
    expected = ExpectedGpus(2)
    if is_early:
        expected.install()
    torch = importlib.import_module("torch")
    if not is_early:
        expected.install()

    assert (torch.cuda.is_available(), torch.cuda.device_count()) == (True, 2)
    assert torch.cuda.asked == []
    assert torch.cuda.is_available.__doc__ == "Whether there is one."


@pytest.mark.usefixtures("torch_to_come")
def test_in_a_fork_the_driver_is_asked_also_by_whoever_took_the_function_before() -> None:
    expected = ExpectedGpus(2)
    expected.install()
    torch = importlib.import_module("torch")

    expected.arrive()

    assert (torch.is_available(), torch.cuda.device_count()) == (False, 7)
    assert torch.cuda.asked == ["available", "count"]


@pytest.mark.usefixtures("torch_to_come")
def test_other_modules_are_found_as_ever_and_nothing_is_left_in_the_way() -> None:
    expected = ExpectedGpus(1)
    expected.install()

    assert expected.find_spec("torch", None) is None
    importlib.import_module("torch")
    assert expected not in sys.meta_path
