"""What the environment says to the SDK: its one reader.  Each variable has its question here, asked when it matters."""

from __future__ import annotations

import os
from pathlib import Path


def server_url() -> str:
    """Where the server is that is to be used (`RELIGHT_URL`); "" where nothing says so."""
    return os.environ.get("RELIGHT_URL", "")


def server_token() -> str:
    """What that server asks for (`RELIGHT_TOKEN`)."""
    return os.environ.get("RELIGHT_TOKEN", "")


def profile_name() -> str:
    """The profile that is to be used (`RELIGHT_PROFILE`); "" for the one that is in use."""
    return os.environ.get("RELIGHT_PROFILE", "")


def data_folder() -> Path:
    """Where the local server keeps its things (`RELIGHT_DATA_DIR`)."""
    given = os.environ.get("RELIGHT_DATA_DIR", "")
    return Path(given).expanduser().absolute() if given else Path.home() / ".relight"


def is_debugging() -> bool:
    """Whether errors shall show the way that they came through relight (`RELIGHT_DEBUG=1`)."""
    return os.environ.get("RELIGHT_DEBUG", "") not in ("", "0")
