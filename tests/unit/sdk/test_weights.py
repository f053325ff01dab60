"""Weights over the pages of their files: what comes, what is shared with forks, and what is refused."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

import relight
from relight.sdk import weights
from relight.sdk.weights import load_weights

numpy = pytest.importorskip("numpy", reason="needs numpy: pip install '.[dev]'")

SOURCE = Path(relight.__file__).parent.parent
TYPES = {"F32": "<f4", "F64": "<f8", "F16": "<f2", "I64": "<i8", "U16": "<u2", "U8": "u1", "BOOL": "?", "C64": "<c8"}


def write(path: Path, arrays: Mapping[str, tuple[str, tuple[int, ...], bytes]]) -> Path:
    """A safetensors file."""
    header, at = {}, 0
    for name, (dtype, shape, data) in arrays.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(data for _, _, data in arrays.values()))
    return path


def numbers(*values: float) -> tuple[str, tuple[int, ...], bytes]:
    return "F32", (len(values),), numpy.array(values, "<f4").tobytes()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "model.safetensors", {"a": numbers(1, 2, 3), "b": numbers(4)})


def run(code: str, *args: str) -> Any:
    """What the code prints as JSON, in a process of its own."""
    said = subprocess.run(
        [sys.executable, "-W", "error", "-c", dedent(code), *args],
        env={"PYTHONPATH": str(SOURCE), "PATH": os.environ["PATH"]},
        capture_output=True,
        timeout=100,
    )
    assert said.returncode == 0, said.stderr.decode()
    return json.loads(said.stdout)


@pytest.mark.parametrize("warm", [False, True])
def test_arrays_come_by_name_and_cannot_be_written_to(file: Path, warm: bool) -> None:
    arrays = load_weights(file, warm=warm)

    assert {name: array.tolist() for name, array in arrays.items()} == {"a": [1, 2, 3], "b": [4]}
    assert not any(array.flags.writeable or array.flags.owndata for array in arrays.values())
    with pytest.raises(ValueError, match="read-only"):
        arrays["a"][0] = 7


@pytest.mark.parametrize("dtype", TYPES)
def test_each_type_of_numbers_is_numpys(dtype: str, tmp_path: Path) -> None:
    expected = numpy.array([[0, 1], [1, 0], [1, 1]], TYPES[dtype])
    file = write(tmp_path / "w.safetensors", {"odd": ("U8", (1,), b"\1"), "a": (dtype, (3, 2), expected.tobytes())})

    found = load_weights(str(file))["a"]

    assert (found.dtype, found.tolist()) == (expected.dtype, expected.tolist())


def test_a_number_and_nothing_are_arrays_too(tmp_path: Path) -> None:
    file = write(tmp_path / "w.safetensors", {"number": ("I8", (), b"\7"), "none": ("F64", (0, 3), b"")})

    arrays = load_weights(file)

    assert (arrays["number"].shape, int(arrays["number"]), arrays["none"].shape) == ((), 7, (0, 3))


def test_a_folder_is_all_its_files(file: Path) -> None:
    write(file.parent / "more.safetensors", {"c": numbers(5)})

    assert sorted(load_weights(file.parent)) == ["a", "b", "c"]


@pytest.mark.parametrize("named", ["folder", "index"])
def test_an_index_says_which_of_the_files_has_what(file: Path, named: str) -> None:
    write(file.parent / "old.safetensors", {"a": numbers(9), "c": numbers(5)})
    index = file.parent / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "model.safetensors", "c": "old.safetensors"}}))

    arrays = load_weights(index if named == "index" else file.parent)

    assert {name: array.tolist() for name, array in arrays.items()} == {"a": [1, 2, 3], "c": [5]}


@pytest.mark.parametrize("order", ["C", "F"])
def test_what_numpy_saved_is_mapped_too(tmp_path: Path, order: Any) -> None:
    table = numpy.array([[1, 2, 3], [4, 5, 6]], ">i4", order=order)
    numpy.save(tmp_path / "table.npy", table)
    numpy.savez(tmp_path / "tables.npz", first=table, second=numpy.zeros((0, 2)))

    alone, together = load_weights(tmp_path / "table.npy"), load_weights(tmp_path / "tables.npz")

    assert (list(alone), sorted(together), together["second"].shape) == (["table"], ["first", "second"], (0, 2))
    for found in (alone["table"], together["first"]):
        assert (found.tolist(), found.dtype) == (table.tolist(), table.dtype)
        assert not found.flags.writeable


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
@pytest.mark.parametrize("framework", ["numpy", "torch"])
def test_a_fork_uses_the_pages_of_the_file_and_none_of_its_own(tmp_path: Path, framework: str) -> None:
    _need(framework)
    size = 8 * 1024 * 1024
    file = write(tmp_path / "w.safetensors", {"a": ("F32", (size // 4,), numpy.ones(size // 4, "<f4").tobytes())})

    total, used, own = run(
        """
        import json, os, re, sys
        from relight import load_weights
        weights = load_weights(sys.argv[1], framework=sys.argv[2], warm=True)
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            total = float(weights["a"].sum())
            text = open("/proc/self/smaps").read()
            mapped = re.search(r"^[0-9a-f]+-.*" + re.escape(sys.argv[1]) + r"$.*?^VmFlags", text, re.S | re.M)[0]
            sizes = {name: int(kib) * 1024 for name, kib in re.findall(r"^(\\w+): +(\\d+) kB$", mapped, re.M)}
            own = sizes["Private_Dirty"] + sizes["Anonymous"] + sizes["Swap"]
            os.write(writing, json.dumps([total, sizes["Rss"], own]).encode())
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        print(os.read(reading, 4096).decode())
        """,
        str(file),
        framework,
    )

    assert total == size // 4
    assert (used >= size, own) == (True, 0)


def test_torch_has_what_numpy_has_not_and_what_it_writes_stays_its_own(tmp_path: Path) -> None:
    _need("torch")
    arrays = {
        "half": ("BF16", (2,), b"\x80\x3f\x00\x40"),
        "eighth": ("F8_E4M3", (1,), b"\x38"),
        "number": ("I64", (), (5).to_bytes(8, "little")),
        "none": ("F32", (0, 2), b""),
    }
    file = write(tmp_path / "w.safetensors", arrays)
    numpy.save(tmp_path / "table.npy", numpy.arange(4.0).reshape(2, 2))
    before = file.read_bytes()

    said = run(
        """
        import json, pathlib, sys
        from relight import load_weights
        folder = pathlib.Path(sys.argv[1])
        weights = load_weights(folder / "w.safetensors", framework="torch")
        said = {name: [str(one.dtype), list(one.shape), one.float().tolist()] for name, one in weights.items()}
        weights["half"].fill_(7)
        said["written"] = weights["half"].float().tolist()
        said["table"] = load_weights(folder / "table.npy", framework="torch")["table"].tolist()
        print(json.dumps(said))
        """,
        str(tmp_path),
    )

    assert said == {
        "half": ["torch.bfloat16", [2], [1.0, 2.0]],
        "eighth": ["torch.float8_e4m3fn", [1], [1.0]],
        "number": ["torch.int64", [], 5.0],
        "none": ["torch.float32", [0, 2], []],
        "written": [7.0, 7.0],
        "table": [[0.0, 1.0], [2.0, 3.0]],
    }
    assert file.read_bytes() == before


def test_what_torch_cannot_have_is_said(tmp_path: Path) -> None:
    _need("torch")
    numpy.save(tmp_path / "names.npy", numpy.array(["a"]))

    said = run(
        """
        import json, sys, relight
        try:
            relight.load_weights(sys.argv[1], framework="torch")
        except relight.InvalidRequest as error:
            print(json.dumps(str(error)))
        """,
        str(tmp_path / "names.npy"),
    )

    assert re.search(r"names\.npy: torch cannot have 'names' \(.*\); convert it, or say framework='numpy'$", said)


def _need(package: str) -> None:
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")


# -- what is refused


def _bf16(folder: Path) -> Path:
    return write(folder / "w.safetensors", {"a": ("BF16", (1,), b"\0\0")})


def _cut(folder: Path) -> Path:
    whole = write(folder / "w.safetensors", {"a": numbers(1, 2)})
    whole.write_bytes(whole.read_bytes()[:-3])
    return whole


def _pickle(folder: Path) -> Path:
    (folder / "model.pt").write_bytes(b"\x80\x04")
    return folder / "model.pt"


def _empty(folder: Path) -> Path:
    (folder / "w.safetensors").touch()
    return folder / "w.safetensors"


def _twins(folder: Path) -> Path:
    for name in ("one", "two"):
        write(folder / f"{name}.safetensors", {"a": numbers(1)})
    return folder


def _two_indices(folder: Path) -> Path:
    for name in ("one", "two"):
        (folder / f"{name}.safetensors.index.json").write_text("{}")
    return folder


def _index(weight_map: object) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        write(folder / "w.safetensors", {"a": numbers(1)})
        text = weight_map if isinstance(weight_map, str) else json.dumps({"weight_map": weight_map})
        (folder / "w.safetensors.index.json").write_text(text)
        return folder

    return make


def _compressed(folder: Path) -> Path:
    numpy.savez_compressed(folder / "w.npz", a=numpy.ones(3))
    return folder / "w.npz"


def _written(name: str, data: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(data)
        return folder / name

    return make


def _cut_array(folder: Path) -> Path:
    numpy.save(folder / "w.npy", numpy.ones(5))
    (folder / "w.npy").write_bytes((folder / "w.npy").read_bytes()[:-8])
    return folder / "w.npy"


def _objects(folder: Path) -> Path:
    numpy.save(folder / "w.npy", numpy.array([{}]), allow_pickle=True)
    return folder / "w.npy"


def _moved(folder: Path) -> Path:
    """An archive whose list says of a member that it lies elsewhere."""
    numpy.savez(folder / "w.npz", a=numpy.ones(3))
    data = bytearray((folder / "w.npz").read_bytes())
    entry = data.index(b"PK\1\2")
    data[entry + 42 : entry + 46] = (7).to_bytes(4, "little")
    (folder / "w.npz").write_bytes(data)
    return folder / "w.npz"


REFUSED: dict[str, tuple[Callable[[Path], Path], str]] = {
    "a type that numpy has not": (_bf16, r"'a' is of type BF16, which numpy has not; say framework='torch', or conv"),
    "a file cut off": (_cut, r"it ends after \d+ bytes, and its tensors after \d+; fetch it again"),
    "a pickle": (_pickle, r"\.pt is no ending known; to load it copies it, .*: write it anew with safetensors\.torch"),
    "another file": (_written("w.gguf", b"x"), r"\.gguf is no ending known; name a \.safetensors, \.npy, \.npz"),
    "an empty file": (_empty, r"it is empty; fetch it again"),
    "an empty folder": (lambda folder: folder, r"no \*\.safetensors is in this folder; "),
    "a name in two files": (_twins, r"'a' is in two\.safetensors and in a file before it; "),
    "two indices": (_two_indices, r"it has more than one index \(one\.safe.*, two\.safe.*\); name one of them"),
    "an index that is no JSON": (_index("{"), r"it is no JSON \(.*\); fetch it again"),
    "an index of nothing": (_index({}), r"it has no weight_map; fetch it again"),
    "an index that leads elsewhere": (
        _index({"a": "../w.safetensors"}),
        r"'a' is in '\.\./w\.safetensors', which is no ",
    ),
    "an index that leads to a folder": (
        _index({"a": ".."}),
        r"'a' is in '\.\.', which is no \*\.safetensors beside it",
    ),
    "an index that is wrong": (
        _index({"b": "w.safetensors"}),
        r"w\.safetensors has no 'b', which the index says it has",
    ),
    "a compressed archive": (_compressed, r"'a\.npy' is compressed, and cannot be used as it lies; write it with num"),
    "no archive": (_written("w.npz", b"PK\3\4"), r"it is no archive of arrays \(.*\); "),
    "an archive that lies": (_moved, r"'a\.npy' is not where the archive says; fetch it again"),
    "an array cut off": (_cut_array, r"an array of shape \(5,\) takes 40 bytes, and 32 are there; fetch it again"),
    "no array": (_written("w.npy", b"\x93NUMPY\1"), r"the header of an array is not what it should be \(.*\); write"),
    "an array of a later version": (_written("w.npy", b"\x93NUMPY\3\0" + bytes(8)), r"\(its version is \(3, 0\)\)"),
    "an array of objects": (_objects, r"an array is of type object, which is no numbers; store those alone"),
}


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_mapped_is_refused_with_what_to_do(
    make: Callable[[Path], Path], message: str, tmp_path: Path
) -> None:
    with pytest.raises(
        relight.InvalidRequest, match=rf"^cannot load weights from {re.escape(str(tmp_path))}.*: .*{message}"
    ):
        load_weights(make(tmp_path))


@pytest.mark.parametrize("name", ["none.safetensors", "none/w.npy", "w.safetensors.index.json"])
def test_a_file_that_is_not_there_is_not_found(tmp_path: Path, name: str) -> None:
    with pytest.raises(relight.NotFound, match=r"there is no such file here; a worker sees .*sys\.prefix \+ '/share'"):
        load_weights(tmp_path / name)


def test_what_is_no_file_is_refused() -> None:
    link = Path(os.devnull)

    with pytest.raises(weights.Broken, match="it is no plain file"):
        weights._map(link, is_writable=False)


def test_a_framework_that_is_not_there_is_named(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numpy", None)

    with pytest.raises(
        relight.InvalidRequest, match=r"there is no numpy for .*; install it, or say another framework="
    ):
        load_weights(file)
    with pytest.raises(relight.InvalidRequest, match=r"framework='tf' is neither 'numpy' nor 'torch'"):
        load_weights(file, framework="tf")  # type: ignore[arg-type]  # that is what is tested


def test_a_folder_of_half_a_download_says_which_file_is_missing(tmp_path: Path) -> None:
    folder = _index({"a": "w.safetensors", "b": "w-2.safetensors"})(tmp_path)

    with pytest.raises(relight.NotFound, match=r"w-2\.safetensors: there is no such file here"):
        load_weights(folder)
