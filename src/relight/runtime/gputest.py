"""A program of its own: multiply two matrices on the one GPU that it is shown, by the driver alone, and look at the product.

It needs no library but the driver's and no compiler: the driver makes the machine's code of a few lines of its assembler.  It
prints how long it took in seconds, or says what is wrong and ends with 1.  Nothing imports it: `agent/gputest.py` runs it.
"""

from __future__ import annotations

import array
import ctypes
import random
import sys
import time
from typing import Any

SIDE = 128
THREADS = 128
_LOOKED_AT = 7  # every so many rows of the product: Python takes as long for one as the GPU for all of them many times

_PTX = b"""
.version 6.0
.target sm_50
.address_size 64
.visible .entry multiply(.param .u64 left, .param .u64 right, .param .u64 product, .param .u32 side)
{
    .reg .pred %p<3>; .reg .b32 %r<11>; .reg .b64 %d<11>; .reg .f32 %f<4>;
    mov.u32 %r1, %ctaid.x; mov.u32 %r2, %ntid.x; mov.u32 %r3, %tid.x;
    mad.lo.u32 %r4, %r1, %r2, %r3;
    ld.param.u32 %r5, [side];
    mul.lo.u32 %r6, %r5, %r5; setp.ge.u32 %p1, %r4, %r6; @%p1 bra DONE;
    div.u32 %r7, %r4, %r5; rem.u32 %r8, %r4, %r5;
    ld.param.u64 %d1, [left]; ld.param.u64 %d2, [right]; ld.param.u64 %d3, [product];
    mul.lo.u32 %r9, %r7, %r5; mul.wide.u32 %d4, %r9, 4; add.u64 %d5, %d1, %d4;
    mul.wide.u32 %d6, %r8, 4; add.u64 %d7, %d2, %d6;
    mul.wide.u32 %d8, %r5, 4;
    mov.f32 %f1, 0f00000000; mov.u32 %r10, 0;
NEXT:
    ld.global.f32 %f2, [%d5]; ld.global.f32 %f3, [%d7]; fma.rn.f32 %f1, %f2, %f3, %f1;
    add.u64 %d5, %d5, 4; add.u64 %d7, %d7, %d8; add.u32 %r10, %r10, 1;
    setp.lt.u32 %p2, %r10, %r5; @%p2 bra NEXT;
    mul.wide.u32 %d9, %r4, 4; add.u64 %d10, %d3, %d9; st.global.f32 [%d10], %f1;
DONE:
    ret;
}
"""


class Driver:
    """The driver's library, whose every call is checked."""

    def __init__(self) -> None:
        try:
            self._library = ctypes.CDLL("libcuda.so.1")
        except OSError as error:
            sys.exit(f"the driver's library cannot be opened: {error}")

    def ask(self, name: str, *arguments: Any) -> None:
        """Call it; what it says other than 0 ends this program."""
        said = getattr(self._library, name)(*arguments)
        if said:
            sys.exit(f"{name} says {said}")


def main() -> None:
    """Do it all, once."""
    began = time.perf_counter()
    driver = Driver()
    context = ctypes.c_void_p()
    driver.ask("cuInit", 0)
    driver.ask("cuDevicePrimaryCtxRetain", ctypes.byref(context), 0)
    driver.ask("cuCtxSetCurrent", context)
    left, right = (array.array("f", (random.randint(-8, 8) for _ in range(SIDE * SIDE))) for _ in range(2))
    _compare(left, right, _multiply(driver, left, right))
    sys.stdout.write(f"{time.perf_counter() - began}\n")


def _multiply(driver: Driver, left: array.array[float], right: array.array[float]) -> array.array[float]:
    module, function = ctypes.c_void_p(), ctypes.c_void_p()
    driver.ask("cuModuleLoadData", ctypes.byref(module), _PTX)
    driver.ask("cuModuleGetFunction", ctypes.byref(function), module, b"multiply")
    size = ctypes.c_size_t(4 * SIDE * SIDE)
    places = [ctypes.c_uint64() for _ in range(3)]
    for place in places:
        driver.ask("cuMemAlloc_v2", ctypes.byref(place), size)
    for place, values in zip(places[:2], (left, right), strict=True):
        driver.ask("cuMemcpyHtoD_v2", place, ctypes.c_void_p(values.buffer_info()[0]), size)
    arguments = [*places, ctypes.c_uint32(SIDE)]
    pointers = (ctypes.c_void_p * len(arguments))(*map(ctypes.addressof, arguments))
    blocks = -(-SIDE * SIDE // THREADS)
    driver.ask("cuLaunchKernel", function, blocks, 1, 1, THREADS, 1, 1, 0, None, pointers, None)
    driver.ask("cuCtxSynchronize")
    product = array.array("f", bytes(4 * SIDE * SIDE))
    driver.ask("cuMemcpyDtoH_v2", ctypes.c_void_p(product.buffer_info()[0]), places[2], size)
    return product


def _compare(left: array.array[float], right: array.array[float], product: array.array[float]) -> None:
    """Small whole numbers: what is right is right to the last bit."""
    for row in range(0, SIDE, _LOOKED_AT):
        for column in range(SIDE):
            wanted = sum(left[row * SIDE + at] * right[at * SIDE + column] for at in range(SIDE))
            seen = product[row * SIDE + column]
            if seen != wanted:
                sys.exit(f"it multiplies wrongly: row {row}, column {column} is {seen}, and {wanted} would be right")


if __name__ == "__main__":
    main()
