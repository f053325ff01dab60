"""What only C can do here: flush what C code has printed and C still holds."""

from __future__ import annotations

import sys
from collections.abc import Callable


def find_flush() -> Callable[[], object] | None:
    """`fflush(NULL)`, None when nothing but Python's own C code is loaded, which holds nothing back.

    Asked once the user's module is imported, so that plain Python code does not pay for `ctypes`.
    """
    if not any(_is_foreign(getattr(module, "__file__", None)) for module in tuple(sys.modules.values())):
        return None
    try:
        import ctypes

        fflush = ctypes.CDLL(None).fflush
    except (ImportError, OSError, AttributeError):
        return None
    return lambda: fflush(None)


def _is_foreign(file: object) -> bool:
    return isinstance(file, str) and file.endswith(".so") and "/lib-dynload/" not in file
