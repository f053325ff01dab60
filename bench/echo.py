"""Gives back what comes on a unix socket, until it is terminated."""

from __future__ import annotations

import socket
import sys


def main(path: str) -> None:
    """Serve one connection after the other."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        while True:
            channel, _ = listener.accept()
            with channel:
                while data := channel.recv(65536):
                    channel.sendall(data)


if __name__ == "__main__":
    main(sys.argv[1])
