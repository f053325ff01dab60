"""Profiles: servers elsewhere that `relight login` wrote down, one of which is in use.

    ~/.relight/profiles.json   {"current": "work", "profiles": {"work": {"url": …, "token": …, "ca": …}}}

The file holds tokens, so only its user may read it.  `local` is no profile but the absence of one: the server of this
machine.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from relight.protocol.errors import InvalidRequest, NotFound

FILE = "profiles.json"
LOCAL = "local"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One server.  `ca` is a file of certificates that are trusted beside (or without) those of the system."""

    name: str
    url: str
    token: str
    ca: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profiles:
    """All of them; `current` is the name of the one in use, empty for this machine's own server."""

    current: str = ""
    known: Mapping[str, Profile]

    def find(self, name: str) -> Profile:
        """One by its name.  Raises NotFound naming those there are."""
        found = self.known.get(name)
        if found is None:
            names = ", ".join(map(repr, (*self.known, LOCAL)))
            raise NotFound(
                f"cannot find the profile {name!r}: there are {names}; write another with `relight login URL`"
            )
        return found


def active(folder: Path, chosen: str = "") -> Profile | None:
    """The profile to use: the one `chosen`, else the one in use; None for this machine's own server."""
    if chosen == LOCAL:
        return None
    profiles = read(folder)
    name = chosen or profiles.current
    return profiles.find(name) if name else None


def read(folder: Path) -> Profiles:
    """The profiles of a data folder.  Raises InvalidRequest when the file is not one of profiles."""
    path = folder / FILE
    try:
        text = path.read_text(encoding="utf-8")
    except OSError:
        return Profiles(known={})
    import json  # a worker and a local server need not pay for it

    try:
        said = json.loads(text)
        known = {name: _profile(name, one) for name, one in said["profiles"].items()}
        current = str(said.get("current", ""))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidRequest(f"cannot read {path}: {error!r}; correct it, or delete it and log in again") from error
    return Profiles(current=current, known=known)


def add(folder: Path, profile: Profile) -> None:
    """Write a profile down, in the place of one of that name, and use it from now on."""
    if not _NAME.fullmatch(profile.name) or profile.name == LOCAL:
        raise InvalidRequest(
            f"cannot name a profile {profile.name!r}: it is no name for one; use up to 64 letters, digits, '.', '_' and '-', "
            f"and not {LOCAL!r}, which is this machine's own server"
        )
    profiles = read(folder)
    _write(folder, Profiles(current=profile.name, known={**profiles.known, profile.name: profile}))


def use(folder: Path, name: str) -> None:
    """Use a profile from now on; `local` for this machine's own server.  Raises NotFound."""
    profiles = read(folder)
    current = "" if name == LOCAL else profiles.find(name).name
    _write(folder, Profiles(current=current, known=profiles.known))


def remove(folder: Path, name: str) -> None:
    """Forget a profile; when it was in use, this machine's own server is.  Raises NotFound."""
    profiles = read(folder)
    profiles.find(name)
    known = {other: profile for other, profile in profiles.known.items() if other != name}
    _write(folder, Profiles(current=profiles.current if profiles.current in known else "", known=known))


def _write(folder: Path, profiles: Profiles) -> None:
    import json

    known = {
        profile.name: {"url": profile.url, "token": profile.token, **({"ca": profile.ca} if profile.ca else {})}
        for profile in profiles.known.values()
    }
    text = json.dumps({"current": profiles.current, "profiles": known}, indent=2) + "\n"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = folder / f"{FILE}.{os.getpid()}"
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(fresh, folder / FILE)  # whole or not at all: a reader never sees half of it


def _profile(name: str, said: Mapping[str, object]) -> Profile:
    return Profile(name=name, url=str(said["url"]), token=str(said["token"]), ca=str(said.get("ca", "")))
