"""Workers with GPUs on a real server, whose driver is played: its devices are others, and what it says is a test's.

What a real one makes of it is measured by `bench/gpu.py` (docs/gpu.md).
"""

from __future__ import annotations

import json
import os
import re
import signal
import stat
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from command_line import Cli, in_new_folders, read_line

pytestmark = pytest.mark.root
ZERO, NULL = (Path("/dev/nvidia97"), os.makedev(1, 5)), (Path("/dev/nvidia98"), os.makedev(1, 3))

DRIVER = dedent(
    """
    from types import SimpleNamespace

    class NVMLError(Exception): pass
    nvmlMemory_v2 = 2
    def nvmlInit(): pass
    def nvmlDeviceGetCount(): return 2
    def nvmlDeviceGetHandleByIndex(number): return number
    def nvmlDeviceGetMinorNumber(number): return 97 + number
    def nvmlDeviceGetUUID(number): return f"GPU-{number}"
    def nvmlDeviceGetName(number): return ["NVIDIA L4", "NVIDIA H100 80GB HBM3"][number]
    def nvmlDeviceGetMemoryInfo(number, version=1): return SimpleNamespace(total=24 << 30, used=5 << 20)
    def nvmlDeviceGetUtilizationRates(number): return SimpleNamespace(gpu=42)
    def nvmlDeviceGetComputeRunningProcesses(number): return []
    def nvmlDeviceGetMigMode(number): raise NVMLError("Not Supported")
    """
)
APP = dedent(
    """
    import os, relight

    app = relight.App("gpus")

    def opens(path):
        try:
            with open(path, "rb") as file:
                return len(file.read(3))
        except OSError as error:
            return error.strerror

    AT_IMPORT = [opens("/dev/nvidia97"), opens("/dev/nvidia98")]

    def look():
        return {
            "import": AT_IMPORT,
            "now": [opens("/dev/nvidia97"), opens("/dev/nvidia98")],
            "named": os.environ.get("CUDA_VISIBLE_DEVICES"),
        }

    @app.function(gpu="L4", scaledown_window=0)
    def forked() -> dict:
        return look()

    @app.function(gpu="H100", scaledown_window=0)
    def other() -> dict:
        return look()

    @app.function(gpu="L4:0.5", scaledown_window=0, template=False, env={"PYTHONUTF8": "1"})
    def fresh() -> dict:
        return look()

    @app.function(scaledown_window=0)
    def without() -> dict:
        return look()
    """
)

USES = dedent(
    """
    import relight

    app = relight.App("uses")
    FOUND = open("/dev/nvidia97", "rb").read(2)

    @app.function(gpu="L4")
    def found() -> int:
        return len(FOUND)
    """
)
ASKS = dedent(
    """
    import relight
    import torch

    app = relight.App("asks")
    AT_IMPORT = torch.cuda.is_available()

    @app.function(gpu="L4")
    def found() -> list:
        return [AT_IMPORT, torch.cuda.is_available(), torch.cuda.device_count()]
    """
)
TORCH = (
    "def is_available(): return device_count() > 0\ndef device_count(): return sum(map(opens, range(97, 99)))\n"
    + dedent(
        """
    def is_initialized(): return False
    def opens(number):
        try:
            open(f"/dev/nvidia{number}", "rb").close()
        except OSError:
            return False
        return True
    """
    )
)


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    folder = tmp_path_factory.mktemp("gpus")
    (folder / "driver").mkdir()
    (folder / "driver" / "pynvml.py").write_text(DRIVER)
    (folder / "gpus.py").write_text(APP)
    for name, text in (("uses", USES), ("asks", ASKS)):
        (folder / name).mkdir()
        (folder / name / f"{name}.py").write_text(text)
    (folder / "asks" / "torch").mkdir()
    (folder / "asks" / "torch" / "__init__.py").write_text("from torch import cuda\n")
    (folder / "asks" / "torch" / "cuda.py").write_text(TORCH)
    for path, device in (ZERO, NULL):
        path.unlink(missing_ok=True)
        os.mknod(path, stat.S_IFCHR, device)
        path.chmod(0o666)
    try:
        with in_new_folders(folder) as cli:
            own = os.environ.get("PYTHONPATH", "")
            cli.variables["PYTHONPATH"] = os.pathsep.join(filter(None, (str(folder / "driver"), own)))
            server = cli.begin("up", "--port", "0", "--declare-gpu", "A100")
            try:
                assert re.match(r"relight is up at http://", read_line(server))
                deployed = cli("deploy", "gpus.py")
                assert deployed.returncode == 0, deployed.stderr
                yield cli
            finally:
                server.send_signal(signal.SIGINT)
                server.communicate(timeout=30)
    finally:
        for path, _ in (ZERO, NULL):
            path.unlink(missing_ok=True)


def call(cli: Cli, function: str) -> Any:
    called = cli("call", f"gpus/{function}")
    assert called.returncode == 0, called.stderr
    return json.loads(called.stdout)


NONE = ["Permission denied", "Permission denied"]
ABSENT = ["No such file or directory", "No such file or directory"]


def test_a_fork_has_the_device_it_was_given_and_its_template_had_none(cli: Cli) -> None:
    first, again, other = call(cli, "forked"), call(cli, "forked"), call(cli, "other")

    assert first == {"import": NONE, "now": [3, "Permission denied"], "named": "GPU-0"}
    assert again == first
    assert other == {"import": NONE, "now": ["Permission denied", 0], "named": "GPU-1"}
    levels = {group["level"] for group in cli.json("starts", "gpus/forked")["groups"]}
    assert "fork" in levels


def test_a_worker_that_is_started_by_itself_sees_the_device_it_was_given_alone(cli: Cli) -> None:
    said = call(cli, "fresh")

    assert said["now"] == [3, "No such file or directory"]
    assert said["named"] == "GPU-0"


def test_a_worker_without_a_gpu_sees_none(cli: Cli) -> None:
    assert call(cli, "without") == {"import": ABSENT, "now": ABSENT, "named": None}


@pytest.mark.slow
def test_a_module_that_uses_a_gpu_as_it_is_imported_has_one_in_workers_that_are_started_by_themselves(cli: Cli) -> None:
    deployed = cli("deploy", "uses/uses.py")
    called = cli("call", "uses/found")

    assert "no template: gpu: its modules cannot be imported without a GPU" in deployed.stdout, deployed.stdout
    assert called.stdout == "2\n", called.stderr
    (group,) = cli.json("starts", "uses/found")["groups"]
    assert group["level"] in ("boot", "import")


@pytest.mark.slow
def test_a_module_that_asks_for_a_gpu_as_it_is_imported_is_told_what_its_forks_will_have(cli: Cli) -> None:
    deployed = cli("deploy", "asks/asks.py")
    called = cli("call", "asks/found")

    assert "no template" not in deployed.stdout, deployed.stdout
    assert json.loads(called.stdout) == [True, True, 1]
    (group,) = cli.json("starts", "asks/found")["groups"]
    assert group["level"] == "fork"


def test_the_node_tells_its_gpus_and_what_they_do(cli: Cli) -> None:
    node = next(iter(cli.json("nodes")["nodes"]))
    shown = cli("nodes").stdout

    assert [(gpu["id"], gpu["kind"], gpu["is_simulated"]) for gpu in node["gpus"]] == [
        ("GPU-0", "L4", False),
        ("GPU-1", "H100-80GB", False),
        ("simulated-0-A100", "A100", True),
    ]
    assert re.search(r"L4 +42 % +5 of 24576 MiB", shown)
    assert re.search(r"A100 \(simulated\)", shown)
