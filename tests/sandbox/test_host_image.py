"""The host's Python as mounts: exactly what it needs, nothing on a deployer's mere word, and it runs."""

import dataclasses
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from relight.builder.host import host_mounts
from relight.protocol.errors import InvalidRequest
from relight.protocol.manifest import HostImage

VERSION = "{}.{}.{}".format(*sys.version_info)
MINOR = "python{}.{}".format(*sys.version_info)


@pytest.fixture
def image(tmp_path: Path) -> HostImage:
    """A virtual environment upon a small Python installation that looks right."""
    base, prefix = tmp_path / "base", tmp_path / "venv"
    (base / "lib" / MINOR).mkdir(parents=True)
    (base / "bin").mkdir()
    (base / "bin" / MINOR).write_text("#!/bin/sh\n")
    (base / "bin" / MINOR).chmod(0o755)
    (prefix / "bin").mkdir(parents=True)
    (prefix / "pyvenv.cfg").write_text(f"home = {base}/bin\n")
    (prefix / "bin" / "python3").symlink_to(base / "bin" / MINOR)
    (prefix / "bin" / "python").symlink_to("python3")
    return HostImage(python=f"{prefix}/bin/python", prefix=str(prefix), base_prefix=str(base), version=VERSION)


def shown(image: HostImage, **more: object) -> list[str]:
    return sorted(mount.target for mount in host_mounts(image, **more))  # type: ignore[arg-type]


def test_an_environment_needs_itself_and_what_it_is_based_on(image):
    mounts = host_mounts(image)

    assert shown(image) == [image.base_prefix, image.prefix]
    assert not any(mount.writable for mount in mounts)


def test_the_systems_own_python_needs_no_mount():
    system = Path("/usr/bin/python3")
    if not system.exists():
        pytest.skip("no system Python here")
    version = subprocess.run([system, "-V"], capture_output=True, text=True, check=True).stdout.split()[1]

    image = HostImage(python=str(system), prefix="/usr", base_prefix="/usr", version=version)

    assert host_mounts(image) == ()


def test_a_folder_of_source_is_shown_and_one_within_another_once(image, tmp_path):
    source = tmp_path / "project" / "src"
    (source / "pkg").mkdir(parents=True)
    (source / "pkg" / "__init__.py").touch()
    image = dataclasses.replace(image, paths=(str(source), str(source / "pkg"), image.prefix))

    assert shown(image) == [image.base_prefix, str(source), image.prefix]


def test_a_folder_behind_a_link_is_shown_under_both_names(image, tmp_path):
    (tmp_path / "alias").symlink_to(image.base_prefix)
    python = Path(image.prefix, "bin", "python3")
    python.unlink()
    python.symlink_to(tmp_path / "alias" / "bin" / MINOR)

    mounts = {mount.target: mount.source for mount in host_mounts(image)}

    assert mounts == {path: os.path.realpath(path) for path in (image.prefix, image.base_prefix, f"{tmp_path}/alias")}


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/etc",
        "/etc/ssl",
        "/root",
        "/home",
        "/tmp",
        "/var",
        "/proc",
        "/sys",
        "/dev",
        "/opt",
        "relative",
        "/a/../etc",
    ],
)
def test_what_holds_more_than_an_environment_is_refused(image, path):
    for field in ("prefix", "base_prefix"):
        with pytest.raises(InvalidRequest, match="cannot mount"):
            host_mounts(dataclasses.replace(image, **{field: path}))
    with pytest.raises(InvalidRequest, match="cannot mount"):
        host_mounts(dataclasses.replace(image, paths=(path,)))


def test_a_link_to_such_a_folder_is_refused_as_well(image, tmp_path):
    (tmp_path / "innocent").symlink_to("/etc")

    with pytest.raises(InvalidRequest, match="/etc holds more than one environment"):
        host_mounts(dataclasses.replace(image, paths=(f"{tmp_path}/innocent",)))


def test_a_folder_that_is_no_python_and_one_without_modules_are_refused(image, tmp_path):
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "id_rsa").touch()

    for field, why in (("prefix", "it has no bin/python"), ("base_prefix", "it has no bin/python")):
        with pytest.raises(InvalidRequest, match=why):
            host_mounts(dataclasses.replace(image, **{field: str(secrets)}))
    with pytest.raises(InvalidRequest, match="there is no Python module in it"):
        host_mounts(dataclasses.replace(image, paths=(str(secrets),)))


def test_the_platforms_own_data_is_refused_from_above_and_from_below(image, tmp_path):
    inside = Path(image.prefix) / "data"

    for forbidden in (str(inside), str(tmp_path)):
        with pytest.raises(InvalidRequest, match="relight keeps its own data in"):
            host_mounts(image, forbidden=(forbidden,))
    assert shown(image, forbidden=(str(tmp_path / "elsewhere"),)) == [image.base_prefix, image.prefix]


def test_a_python_that_leads_outside_of_what_is_shown_is_refused(image, tmp_path):
    stray = tmp_path / "stray"
    stray.write_text("#!/bin/sh\n")
    stray.chmod(0o755)
    Path(image.prefix, "bin", "python3").unlink()
    Path(image.prefix, "bin", "python3").symlink_to(stray)

    with pytest.raises(InvalidRequest, match=f"it leads to {stray}, outside of"):
        host_mounts(image)


def test_a_python_that_is_not_there_is_refused(image):
    Path(image.base_prefix, "bin", MINOR).chmod(0o644)
    with pytest.raises(InvalidRequest, match="is no program"):
        host_mounts(image)


@pytest.mark.root
async def test_a_real_environment_runs_in_a_sandbox_at_its_own_paths(bench, tmp_path):
    venv.create(tmp_path / "env", with_pip=False, symlinks=True)
    site = tmp_path / "env" / "lib" / MINOR / "site-packages"
    (site / "extra.py").write_text("x = 42\n")
    python = str(tmp_path / "env" / "bin" / "python")
    image = HostImage(python=python, prefix=str(tmp_path / "env"), base_prefix=sys.base_prefix, version=VERSION)

    program = "import sys, ssl, ctypes, sqlite3, extra; print(sys.executable, sys.prefix, sys.base_prefix, extra.x)"
    output, _ = await bench.run(python, "-c", program, mounts=host_mounts(image, forbidden=(str(bench.state),)))

    assert output.split() == [python, image.prefix, image.base_prefix, "42"]
