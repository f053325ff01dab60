"""What is secret is kept sealed: by AES-GCM, under a key that lies beside the database, not in it.

A copy of the database alone, a dump or a backup of it, says nothing.  Who can read the server's folder can read both.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from relight.protocol.errors import Unavailable

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_NONCE_BYTES = 12  # what NIST SP 800-38D recommends: drawn at random, a key is good for some 2**32 seals
_KEY_BYTES = 32


class Seal:
    """Seals and opens; `path` is the file of the key, made when it is not there, readable by its owner alone."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def close(self, plain: str, purpose: str) -> bytes:
        """Seal a text.  It opens for the same purpose only: what was sealed for one row is not good for another."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher().encrypt(nonce, plain.encode(), purpose.encode())

    def open(self, sealed: bytes, purpose: str) -> str:
        """The text.  Raises Unavailable when the key is another than that it was sealed with."""
        from cryptography.exceptions import InvalidTag

        try:
            plain = self._cipher().decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], purpose.encode())
        except InvalidTag:
            raise Unavailable(
                f"cannot open what is sealed for {purpose}: it was sealed with another key than {self._path}; "
                "bring that file back, or make what it was for anew"
            ) from None
        return plain.decode()

    def _cipher(self) -> AESGCM:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # 20 ms that most servers need not pay

        return AESGCM(self._key())

    def _key(self) -> bytes:
        if not self._path.exists():
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(os.urandom(_KEY_BYTES))
                file.flush()
                os.fsync(file.fileno())
        return self._path.read_bytes()
