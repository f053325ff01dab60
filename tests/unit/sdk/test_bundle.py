"""Which files go along, under which names, and what is refused."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from relight.protocol.errors import InvalidRequest, TooLarge
from relight.sdk import bundle
from relight.sdk.bundle import Source, collect, pack, source_of, title_of


def write(root: Path, *names: str, text: str = "x = 1\n") -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def source(root: Path, name: str = "app.py") -> Source:
    return Source(file=root / name, module="app", folder=root)


def test_python_files_go_along_and_what_is_nobodys_source_does_not(tmp_path: Path) -> None:
    write(tmp_path, "app.py", "lib/a.py", "lib/data.json", "notes.txt")
    write(
        tmp_path,
        ".git/x.py",
        "__pycache__/y.py",
        "node_modules/z.py",
        "env/pyvenv.cfg",
        "env/lib/w.py",
        "d/relight.db",
        "d/v.py",
    )

    assert list(collect(source(tmp_path), ())) == ["app.py", "lib/a.py"]


def test_further_files_go_along_when_named(tmp_path: Path) -> None:
    write(tmp_path, "app.py", "data/a.json", "data/b.txt")

    assert list(collect(source(tmp_path), ("data/*.json",))) == ["app.py", "data/a.json"]


def test_a_pattern_that_matches_nothing_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "app.py")

    with pytest.raises(InvalidRequest, match=r"cannot include '\*\.csv'"):
        collect(source(tmp_path), ("*.csv",))


def test_the_same_files_make_the_same_bytes(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        write(tmp_path / folder, "app.py", "lib/a.py")
    (tmp_path / "two" / "app.py").touch()

    first, second = (pack(collect(source(tmp_path / folder), ())) for folder in ("one", "two"))

    assert first == second
    with tarfile.open(fileobj=io.BytesIO(first)) as archive:
        assert {(entry.name, entry.mtime, entry.uid) for entry in archive} == {("app.py", 0, 0), ("lib/a.py", 0, 0)}


def test_too_much_is_refused_naming_the_largest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "app.py")
    write(tmp_path, "large.py", text="#" * 500)
    monkeypatch.setattr(bundle, "MAX_BYTES", 100)

    with pytest.raises(TooLarge, match=r"the largest are large\.py \(500 bytes\)"):
        collect(source(tmp_path), ())


def test_in_a_home_only_what_was_imported_goes_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "app.py", "lamp_of_test.py", "other.py")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    __import__("lamp_of_test")

    assert list(collect(source(tmp_path), ())) == ["app.py", "lamp_of_test.py"]


def test_a_folder_too_large_to_walk_gives_what_was_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "app.py", "other.py")
    monkeypatch.setattr(bundle, "_MAX_ENTRIES", 1)

    assert list(collect(source(tmp_path), ())) == ["app.py"]


@pytest.mark.parametrize(
    ("name", "file", "module", "folder"),
    [
        ("x", "x.py", "x", "."),
        ("a.b.c", "a/b/c.py", "a.b.c", "."),
        ("a.b", "a/b/__init__.py", "a.b", "."),
        ("__main__", "x.py", "x", "."),
        ("__main__", "pkg/run.py", "pkg.run", "."),
    ],
)
def test_a_file_has_a_name_and_a_folder_from_which_it_is_imported(
    tmp_path: Path, name: str, file: str, module: str, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, file)
    write(tmp_path, "pkg/__init__.py")
    monkeypatch.setattr("sys.modules", {})

    found = source_of(name, str(tmp_path / file))

    assert (found.module, found.folder) == (module, (tmp_path / folder).resolve())


@pytest.mark.parametrize(("name", "file"), [("__main__", None), ("__main__", "nowhere.py"), ("x", "x.ipynb")])
def test_what_no_import_finds_is_where_python_was_started(
    tmp_path: Path, name: str, file: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "x.ipynb", "mine.py")

    found = source_of(name, file)

    assert (found.file, found.module, found.folder) == (None, "", tmp_path)
    assert list(collect(found, ())) == ["mine.py"]


def test_around_a_notebook_only_what_was_imported_goes_along_when_there_is_too_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "lamp_beside.py", "other.py")
    monkeypatch.setattr(bundle, "MAX_FILES", 1)
    monkeypatch.syspath_prepend(str(tmp_path))
    __import__("lamp_beside")

    assert list(collect(Source(file=None, module="", folder=tmp_path), ())) == ["lamp_beside.py"]


@pytest.mark.parametrize(
    ("file", "where", "title"),
    [
        ("lamps.py", {}, "lamps"),
        (None, {"__session__": "/home/me/my notes.ipynb"}, "my notes"),
        (None, {"__vsc_ipynb_file__": "/a/b.ipynb"}, "b"),
        (None, {"get_ipython": print}, "notebook"),
        (None, {}, "main"),
    ],
)
def test_an_app_is_called_after_where_it_is_made(file: str | None, where: dict[str, object], title: str) -> None:
    source = Source(file=Path(file) if file else None, module="", folder=Path("/"))

    assert title_of(source, where) == title


def test_bytes_are_packed_beside_files(tmp_path: Path) -> None:
    write(tmp_path, "app.py")

    with tarfile.open(fileobj=io.BytesIO(pack({"app.py": tmp_path / "app.py", ".relight/f.pickle": b"f"}))) as archive:
        assert archive.getnames() == ["app.py", ".relight/f.pickle"]
        content = archive.extractfile(".relight/f.pickle")
        assert content is not None
        assert content.read() == b"f"


def test_what_takes_too_much_along_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "MAX_BYTES", 10)

    with pytest.raises(TooLarge, match="cannot send f: with all that it uses it takes 11 bytes, and 10 are allowed"):
        bundle.check_by_value("f", b"x" * 11)
