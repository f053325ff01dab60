"""The engine of `examples/chat.py` alone: no relight, no sandbox; a process that listens as soon as it can.

    python bench/engine.py '{"path": "….gguf", "threads": 2, "settings": {…}}'

It writes the address it listens on, and ends as its standard input does.
"""

from __future__ import annotations

import json
import sys

import xllamacpp


def main(text: str) -> None:
    """Serve until nobody holds the other end of the standard input."""
    said = json.loads(text)
    params = xllamacpp.CommonParams()
    for name, value in said["settings"].items():
        setattr(params, name, value)
    params.model.path = said["path"]
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = said["threads"]
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1])
