"""Files on their way: by path, by bytes, by URL, pickled and in JSON."""

from __future__ import annotations

import gc
import io
import pickle
from pathlib import Path

import pytest

from relight.protocol import dataurl
from relight.protocol.errors import InvalidRequest, NotFound
from relight.protocol.inside import inside
from relight.protocol.plain import to_plain
from relight.sdk.file import File, SentPath


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "a.png"
    path.write_bytes(b"png")
    return path


@pytest.fixture
def _in_worker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(inside, "is_worker", True)
    monkeypatch.setattr(inside, "folder", "")


def test_a_file_of_a_path_says_what_it_is_and_reads_when_asked(picture: Path) -> None:
    file = File(picture)
    picture.write_bytes(b"other")

    assert (file.name, file.media_type, file.size, file.read(), file.path) == (
        "a.png",
        "image/png",
        5,
        b"other",
        picture,
    )
    assert repr(file) == "<relight file a.png: 5 bytes, image/png>"
    with file.open() as stream:
        assert stream.read() == b"other"


def test_a_path_that_names_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="cannot find the file"):
        File(tmp_path / "nowhere.txt")
    with pytest.raises(InvalidRequest, match="it is a folder; name one file in it"):
        File(tmp_path)
    with pytest.raises(InvalidRequest, match="cannot make a file of a BytesIO: it is not a path"):
        File(io.BytesIO(b"x"))  # type: ignore[arg-type]  # that is what is tested


def test_a_file_that_has_gone_before_it_was_read_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"a")
    file = File(path)
    path.unlink()

    with pytest.raises(NotFound, match="it was there when the File was made, and has gone since; keep it"):
        file.read()


def test_a_file_of_bytes_has_a_path_while_it_lives() -> None:
    file = File.from_bytes(b"hi", name="../../hi.txt")
    path = file.path

    assert (path.name, path.read_bytes(), file.path) == ("hi.txt", b"hi", path)
    assert (file.size, file.open().read()) == (2, b"hi")

    del file
    gc.collect()
    assert not path.exists()


def test_bytes_of_a_known_type_get_a_name() -> None:
    assert File.from_bytes(b"", media_type="image/png").name == "file.png"
    with pytest.raises(InvalidRequest, match="cannot make a file of a str"):
        File.from_bytes("text")  # type: ignore[arg-type]


def test_a_file_is_pickled_by_value(picture: Path) -> None:
    data = pickle.dumps(File(picture, name="b.gif"))
    picture.unlink()

    arrived = pickle.loads(data)

    assert (arrived.name, arrived.media_type, arrived.read()) == ("b.gif", "image/gif", b"png")


def test_in_json_a_file_is_a_data_url_and_back(picture: Path) -> None:
    said = to_plain({"image": File(picture)})

    assert said == {"image": {"url": "data:image/png;base64,cG5n", "name": "a.png"}}
    again = File.__relight_from_json__(said["image"])
    assert (again.name, again.media_type, again.read()) == ("a.png", "image/png", b"png")
    assert File.__relight_from_json__("data:text/plain;name=a%20b.txt,hi%21").read() == b"hi!"


@pytest.mark.usefixtures("_in_worker")
def test_in_a_worker_files_lie_in_the_folder_of_the_call(picture: Path) -> None:
    path = pickle.loads(pickle.dumps(SentPath(File(picture))))

    assert (path.name, path.read_bytes()) == ("a.png", b"png")
    assert path.is_relative_to(inside.folder)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("file:///etc/passwd", "neither a data: nor an https: URL"),
        ("http://example.com", "neither a data: nor an https: URL"),
        ("data:;base64,?", "does not hold base64"),
        ("data:text/plain", "not a URL of the form data:"),
        ("https://127.0.0.1:1/x.png", "cannot be fetched: .*refused.*network='none'"),
    ],
)
def test_a_url_that_cannot_be_had_says_why(url: str, says: str) -> None:
    with pytest.raises(InvalidRequest, match=rf"^cannot make a file of what is at a URL: .*{says}.*; use File\(path\)"):
        File.from_url(url)
    with pytest.raises(ValueError, match=says):
        File.__relight_from_json__(url)


def test_a_url_keeps_its_type_and_name() -> None:
    said = dataurl.Data(data=b"\x00\xff", media_type="image/png", name="a b.png")

    assert dataurl.parse(dataurl.make(said)) == said
    assert dataurl.parse("data:,a%20b") == dataurl.Data(data=b"a b")


@pytest.mark.parametrize("said", [3, None, {"name": "x"}, {"url": 3}, []])
def test_what_is_no_file_in_json_is_refused(said: object) -> None:
    with pytest.raises(ValueError, match="a file is a data: URL"):
        dataurl.url_of(said)
