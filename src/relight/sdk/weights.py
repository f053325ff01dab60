"""Weights as arrays over the pages of their files: nothing is read before it is used, and nothing is copied.

What maps a file before a fork shares its pages with every fork, and every process of the machine that maps the same
file: they are the page cache's own.  numpy and torch are imported when arrays of theirs are asked for; by name, since
nothing here needs a package.
"""

from __future__ import annotations

import io
import json
import math
import mmap
import os
import stat
import struct
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from relight.protocol.errors import InvalidRequest, NotFound
from relight.sdk.safetensors import ITEM_BYTES, Broken, tensors_of

if TYPE_CHECKING:
    from typing import Literal

_INDEX = ".safetensors.index.json"
_MAX_INDEX_BYTES = 100_000_000
_POPULATE_READ = 22  # Linux 5.14's MADV_POPULATE_READ, which the module mmap has no name for
_NPY_HEADER_BYTES = 65_536 + 12
_RUN_WHEN_LOADED = (".bin", ".ckpt", ".pkl", ".pt", ".pth")
_ZIP_LOCAL = struct.Struct("<4s22xHH")  # the header before each member: its mark, and how long name and extra are

_NUMPY: Mapping[str, str] = {
    **{"BOOL": "?", "U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "U32": "<u4", "I32": "<i4"},
    **{"U64": "<u8", "I64": "<i8", "F16": "<f2", "F32": "<f4", "F64": "<f8", "C64": "<c8"},
}
_TORCH: Mapping[str, str] = {
    **{"BOOL": "bool", "U8": "uint8", "I8": "int8", "U16": "uint16", "I16": "int16", "U32": "uint32", "I32": "int32"},
    **{"U64": "uint64", "I64": "int64", "F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64"},
    **{"C64": "complex64", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "F8_E8M0": "float8_e8m0fnu"},
}
assert set(_TORCH) == set(ITEM_BYTES)

Arrays = dict[str, Any]
"""Arrays of the framework that was asked for, by name."""


def load_weights(
    path: str | os.PathLike[str], *, framework: Literal["numpy", "torch"] = "numpy", warm: bool = False
) -> dict[str, Any]:
    """The arrays of a file of weights by their names, over the file's own pages: nothing is copied, nor read yet.

    `path` is a safetensors file, a folder of them, or the index (`….safetensors.index.json`) of some; or a `.npy` (its
    one array has the file's name), or what `numpy.savez` wrote.  `warm` brings all of it into memory before it returns.

    numpy's arrays are read-only.  torch has no such tensors: what is written to becomes this process's own, page by
    page, and the file stays as it is.  numpy has no BF16 and no F8: ask for torch.  While they are in use a file may be
    replaced, and never written to.  Raises NotFound when there is no such file, InvalidRequest for a broken one.
    """
    file = Path(path)
    if framework not in ("numpy", "torch"):
        raise InvalidRequest(
            f"cannot load weights from {file}: framework={framework!r} is neither 'numpy' nor 'torch'; choose one"
        )
    try:
        if file.is_dir() or file.name.endswith(_INDEX):
            return _load_folder(file, framework, warm=warm)
        return _load_file(file, framework, warm=warm)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFound(
            f"cannot load weights from {error.filename or file}: there is no such file here; a worker sees the app's own folder "
            "and the Python environment that deployed it, so put it into sys.prefix + '/share', or correct the path"
        ) from error
    except OSError as error:
        raise InvalidRequest(
            f"cannot load weights from {file}: {error.strerror or error}; let it be read by whoever runs this"
        ) from error


def _load_file(file: Path, framework: str, *, warm: bool) -> Arrays:
    load = _LOADERS.get(file.suffix)
    if load is None:
        instead = f"name a {', '.join(_LOADERS)}"
        if file.suffix in _RUN_WHEN_LOADED:
            instead = "to load it copies it, and runs what it holds: write it anew with safetensors.torch.save_file"
        raise InvalidRequest(
            f"cannot load weights from {file}: {file.suffix or 'nothing'} is no ending known; {instead}"
        )
    try:
        view = _map(file, is_writable=framework == "torch")
        module = _framework(file, framework)
        if warm:
            _warm(view)
        return load(view, file, framework, module)
    except Broken as error:
        raise InvalidRequest(f"cannot load weights from {file}: {error}") from error.__cause__


def _framework(file: Path, name: str) -> ModuleType:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise InvalidRequest(
            f"cannot load weights from {file}: there is no {error.name} for {sys.executable}; install it, or say another framework="
        ) from error


# -- the file


def _map(file: Path, *, is_writable: bool) -> mmap.mmap:
    """The file's pages.  Where they are writable, writing copies the page first: for this process alone."""
    with file.open("rb") as opened:
        about = os.fstat(opened.fileno())
        if not stat.S_ISREG(about.st_mode):
            raise Broken("it is no plain file, and nothing else can be mapped; name one")
        if not about.st_size:
            raise Broken("it is empty; fetch it again")
        return mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_COPY if is_writable else mmap.ACCESS_READ)


def _warm(view: mmap.mmap) -> None:
    """Bring the pages into memory, and where the kernel can, into this process's tables too."""
    if sys.platform == "win32":
        return
    with suppress(OSError):  # one cannot be had where memory is short: then it comes when it is used
        view.madvise(mmap.MADV_WILLNEED)
    if sys.platform == "linux":
        with suppress(OSError):  # older than 5.14
            view.madvise(_POPULATE_READ)


# -- safetensors


def _load_folder(path: Path, framework: str, *, warm: bool) -> Arrays:
    """What an index says is where; without one, all that lies in the folder."""
    indices = [path] if not path.is_dir() else sorted(path.glob(f"*{_INDEX}"))
    folder = path if path.is_dir() else path.parent
    if len(indices) > 1:
        names = ", ".join(index.name for index in indices)
        raise InvalidRequest(f"cannot load weights from {path}: it has more than one index ({names}); name one of them")
    if indices:
        where = _places(indices[0])
        files = {name: _load_file(folder / name, framework, warm=warm) for name in sorted(set(where.values()))}
        missing = next((name for name, file in where.items() if name not in files[file]), None)
        if missing is not None:
            raise InvalidRequest(
                f"cannot load weights from {path}: {where[missing]} has no {missing!r}, which the index says it has; fetch it again"
            )
        return {name: files[file][name] for name, file in where.items()}
    found: Arrays = {}
    for file in sorted(folder.glob("*.safetensors")):
        arrays = _load_file(file, framework, warm=warm)
        twins = sorted(found.keys() & arrays.keys())
        if twins:
            raise InvalidRequest(
                f"cannot load weights from {path}: {twins[0]!r} is in {file.name} and in a file before it; name one file"
            )
        found |= arrays
    if not found:
        raise InvalidRequest(
            f"cannot load weights from {path}: no *.safetensors is in this folder; name another, or a file"
        )
    return found


def _places(index: Path) -> dict[str, str]:
    """In which file of the index's own folder each tensor is."""
    cannot = f"cannot load weights from {index}"
    if index.stat().st_size > _MAX_INDEX_BYTES:
        raise InvalidRequest(
            f"{cannot}: it has {index.stat().st_size:,} bytes, and {_MAX_INDEX_BYTES:,} are allowed; fetch it again"
        )
    try:
        said = json.loads(index.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"{cannot}: it is no JSON ({error}); fetch it again") from error
    where = said.get("weight_map") if isinstance(said, dict) else None
    if not isinstance(where, dict) or not where:
        raise InvalidRequest(f"{cannot}: it has no weight_map; fetch it again")
    for name, file in where.items():
        if not isinstance(file, str) or Path(file).name != file or not file.endswith(".safetensors"):
            raise InvalidRequest(
                f"{cannot}: it says that {name!r} is in {file!r}, which is no *.safetensors beside it; correct it"
            )
    return where


def _load_safetensors(view: mmap.mmap, file: Path, framework: str, module: ModuleType) -> Arrays:
    return {
        name: _array(module, view, _type(name, tensor.dtype, framework, module), tensor.shape, tensor.begin)
        for name, tensor in tensors_of(view).items()
    }


def _type(name: str, dtype: str, framework: str, module: ModuleType) -> Any:
    """The framework's own type for numbers of this one."""
    if framework == "numpy":
        if dtype not in _NUMPY:
            raise Broken(f"{name!r} is of type {dtype}, which numpy has not; say framework='torch', or convert it")
        return module.dtype(_NUMPY[dtype])
    found = getattr(module, _TORCH[dtype], None)
    if found is None:
        raise Broken(f"{name!r} is of type {dtype}, which torch {module.__version__} has not; install a newer one")
    return found


def _array(module: ModuleType, view: mmap.mmap, dtype: Any, shape: tuple[int, ...], begin: int) -> Any:
    count = math.prod(shape)
    if not count:
        return module.empty(shape, dtype=dtype)  # torch makes none of no bytes
    return module.frombuffer(view, dtype=dtype, count=count, offset=begin).reshape(shape)


# -- numpy's own


def _load_npy(view: mmap.mmap, file: Path, framework: str, _module: ModuleType) -> Arrays:
    return {file.stem: _as(framework, _read_npy(_framework(file, "numpy"), view, 0, len(view)), file.stem)}


def _load_npz(view: mmap.mmap, file: Path, framework: str, _module: ModuleType) -> Arrays:
    numpy = _framework(file, "numpy")
    return {name: _as(framework, _read_npy(numpy, view, begin, end), name) for name, begin, end in _members(view, file)}


def _as(framework: str, array: Any, name: str) -> Any:
    if framework == "numpy":
        return array
    try:
        return import_module("torch").from_numpy(array)
    except (TypeError, ValueError) as error:
        raise Broken(f"torch cannot have {name!r} ({error}); convert it, or say framework='numpy'") from error


def _members(view: mmap.mmap, file: Path) -> Iterator[tuple[str, int, int]]:
    """The arrays of an archive: the name, and where its bytes are."""
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error) as error:
        raise Broken(
            f"it is no archive of arrays ({error}); fetch it again, or write it anew with numpy.savez"
        ) from error
    for one in members:
        if one.compress_type != zipfile.ZIP_STORED or one.flag_bits & 1:
            raise Broken(f"{one.filename!r} is compressed, and cannot be used as it lies; write it with numpy.savez")
        local = view[one.header_offset : one.header_offset + _ZIP_LOCAL.size]
        if len(local) < _ZIP_LOCAL.size or not local.startswith(b"PK\3\4"):
            raise Broken(f"{one.filename!r} is not where the archive says; fetch it again")
        _, name_bytes, extra_bytes = _ZIP_LOCAL.unpack(local)
        begin = one.header_offset + _ZIP_LOCAL.size + name_bytes + extra_bytes
        if begin + one.file_size > len(view):
            raise Broken(f"it ends after {len(view):,} bytes, within {one.filename!r}; fetch it again")
        yield one.filename.removesuffix(".npy"), begin, begin + one.file_size


def _read_npy(numpy: ModuleType, view: mmap.mmap, begin: int, end: int) -> Any:
    head = io.BytesIO(view[begin : min(end, begin + _NPY_HEADER_BYTES)])
    formats = numpy.lib.format
    try:
        version = formats.read_magic(head)
        read = {(1, 0): formats.read_array_header_1_0, (2, 0): formats.read_array_header_2_0}.get(version)
        if read is None:
            raise ValueError(f"its version is {version}")
        shape, is_fortran, dtype = read(head)
    except (ValueError, TypeError, SyntaxError, OverflowError, RecursionError) as error:
        raise Broken(f"the header of an array is not what it should be ({error}); write it with numpy.save") from error
    if dtype.hasobject or not dtype.itemsize:
        raise Broken(f"an array is of type {dtype}, which is no numbers; store those alone")
    start, size = begin + head.tell(), math.prod(shape) * dtype.itemsize
    if any(length < 0 for length in shape) or start + size > end:
        raise Broken(
            f"an array of shape {shape} takes {size:,} bytes, and {max(end - start, 0):,} are there; fetch it again"
        )
    flat = numpy.frombuffer(view, dtype=dtype, count=math.prod(shape), offset=start)
    return flat.reshape(shape, order="F" if is_fortran else "C")


_LOADERS: Mapping[str, Callable[[mmap.mmap, Path, str, ModuleType], Arrays]] = {
    ".safetensors": _load_safetensors,
    ".npy": _load_npy,
    ".npz": _load_npz,
}
