"""The smallest init, as far as it can be seen without running it; `test_shells.py` runs it."""

from __future__ import annotations

import struct

import pytest

from relight.sandbox.reaper import program


@pytest.mark.parametrize(("machine", "number"), [("x86_64", 62), ("aarch64", 183)])
def test_it_is_an_executable_of_that_machine_which_begins_with_its_code(machine, number):
    data = program(machine)

    assert data[:7] == b"\x7fELF\x02\x01\x01"
    kind, its_number, _, entry, header_end = struct.unpack_from("<HHIQQ", data, 16)
    address, _, in_file, in_memory = struct.unpack_from("<QQQQ", data, header_end + 16)
    assert (kind, its_number) == (2, number)
    assert entry - address == header_end + 56
    assert in_file == in_memory == len(data) < 200


def test_there_is_none_for_a_machine_that_it_is_not_written_for():
    assert program("riscv64") == b""
