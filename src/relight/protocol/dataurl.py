"""`data:` URLs: how the bytes of a file are said in JSON, and what the schemas of files look like."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from urllib.parse import quote, unquote, unquote_to_bytes

from relight.protocol.manifest import Json

KIND = "x-relight-kind"
"""The keyword of a schema that marks files and paths, so that a command knows to read one."""

FILE = "file"
PATH = "path"


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """What a `data:` URL says."""

    data: bytes
    media_type: str = ""
    name: str = ""


def parse(url: str) -> Data:
    """The bytes in a `data:` URL.  Raises ValueError when it is none, or is not well made."""
    head, comma, body = url.partition(",")
    if not head.startswith("data:") or not comma:
        raise ValueError(f"{url[:40]!r} is not a URL of the form data:TYPE;base64,DATA")
    media_type, *marks = head[5:].split(";")
    name = next((unquote(mark[5:]) for mark in marks if mark.startswith("name=")), "")
    if "base64" not in marks:
        return Data(data=unquote_to_bytes(body), media_type=media_type, name=name)
    try:
        data = base64.b64decode(unquote(body) if "%" in body else body, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"the data: URL does not hold base64: {error}") from error
    return Data(data=data, media_type=media_type, name=name)


def make(said: Data) -> str:
    """A `data:` URL of some bytes."""
    name = f";name={quote(said.name)}" if said.name else ""
    return f"data:{said.media_type}{name};base64,{base64.b64encode(said.data).decode()}"


def url_of(value: object) -> tuple[str, str]:
    """The URL and the name in what JSON says of a file, a text or `{"url": …, "name": …}`.  Raises ValueError."""
    if isinstance(value, str):
        return value, ""
    if isinstance(value, dict) and isinstance(value.get("url"), str):
        name = value.get("name", "")
        return value["url"], name if isinstance(name, str) else ""
    raise ValueError('a file is a data: URL, or {"url": …}')


def file_schema() -> Json:
    """What a file is in JSON: a `data:` URL, or an `https:` one where the function has a network."""
    url: dict[str, Json] = {"type": "string", "pattern": "^(data:|https://)"}
    says = "a data: URL, or an https: one where the function has a network"
    return {"title": "File", "$comment": says, KIND: FILE, "anyOf": [url, _object(url)]}


def path_schema() -> Json:
    """What a path is in JSON: a `data:` URL, which becomes a file in the worker, or a path there."""
    says = "a data: URL, which becomes a file there; or a path there"
    return {
        "title": "Path",
        "$comment": says,
        KIND: PATH,
        "anyOf": [{"type": "string"}, _object({"type": "string"})],
    }


def _object(url: Json) -> Json:
    return {
        "type": "object",
        "properties": {"url": url, "name": {"type": "string"}},
        "required": ["url"],
        "additionalProperties": False,
    }
