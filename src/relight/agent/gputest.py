"""Whether the GPUs of this machine compute: two matrices are multiplied on each, by the driver alone, and the product looked at.

It needs no library but the driver's, and no compiler: the driver makes the machine's code of a few lines of its own assembler.
Each GPU is asked by a process of its own, which has ended when this says what came of it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass

from relight.agent.gpu import find_libraries, kind_of
from relight.agent.nvml import ReadsGpus

TEST_SECONDS = 60.0
"""A GPU that has not answered by then does not work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuVerdict:
    """What came of one: `why` says what is wrong ("" for nothing), `seconds` how long it took, a context included."""

    id: str
    kind: str
    why: str
    seconds: float = 0.0


def self_test(nvml: ReadsGpus) -> tuple[GpuVerdict, ...]:
    """Try every GPU, one after the other; about half a second each."""
    return tuple(try_one(device.id, kind_of(device.name)) for device in nvml.devices())


def try_one(name: str, kind: str) -> GpuVerdict:
    """Try the GPU with this id."""
    env = {"CUDA_VISIBLE_DEVICES": name, "LD_LIBRARY_PATH": find_libraries().path}
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _PROGRAM],
            env=env,
            capture_output=True,
            text=True,
            timeout=TEST_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return GpuVerdict(id=name, kind=kind, why=f"it did not answer within {TEST_SECONDS:g} s")
    last = (done.stdout.strip() or done.stderr.strip() or f"its process ended with {done.returncode}").splitlines()[-1]
    if done.returncode:
        return GpuVerdict(id=name, kind=kind, why=last)
    return GpuVerdict(id=name, kind=kind, why="", seconds=float(json.loads(last)))


_PROGRAM = r'''
import array, ctypes, json, random, sys, time

SIDE = 128
PTX = b"""
.version 6.0
.target sm_50
.address_size 64
.visible .entry multiply(.param .u64 left, .param .u64 right, .param .u64 product, .param .u32 side)
{
    .reg .pred %p<3>; .reg .b32 %r<12>; .reg .b64 %d<12>; .reg .f32 %f<4>;
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


def check(call, result):
    if result:
        sys.exit(f"{call} says {result}")


began = time.perf_counter()
try:
    cuda = ctypes.CDLL("libcuda.so.1")
except OSError as error:
    sys.exit(f"the driver's library is not there: {error}")
context, module, function = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
check("cuInit", cuda.cuInit(0))
check("cuDevicePrimaryCtxRetain", cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0))
check("cuCtxSetCurrent", cuda.cuCtxSetCurrent(context))
check("cuModuleLoadData", cuda.cuModuleLoadData(ctypes.byref(module), PTX))
check("cuModuleGetFunction", cuda.cuModuleGetFunction(ctypes.byref(function), module, b"multiply"))
left, right = (array.array("f", [random.randint(-8, 8) for _ in range(SIDE * SIDE)]) for _ in "ab")
size = ctypes.c_size_t(4 * SIDE * SIDE)
places = [ctypes.c_uint64() for _ in range(3)]
for place in places:
    check("cuMemAlloc", cuda.cuMemAlloc_v2(ctypes.byref(place), size))
for place, values in zip(places, (left, right)):
    check("cuMemcpyHtoD", cuda.cuMemcpyHtoD_v2(place, ctypes.c_void_p(values.buffer_info()[0]), size))
arguments = [*places, ctypes.c_uint32(SIDE)]
pointers = (ctypes.c_void_p * 4)(*(ctypes.addressof(one) for one in arguments))
blocks = SIDE * SIDE // 128
check("cuLaunchKernel", cuda.cuLaunchKernel(function, blocks, 1, 1, 128, 1, 1, 0, None, pointers, None))
check("cuCtxSynchronize", cuda.cuCtxSynchronize())
product = array.array("f", bytes(4 * SIDE * SIDE))
check("cuMemcpyDtoH", cuda.cuMemcpyDtoH_v2(ctypes.c_void_p(product.buffer_info()[0]), places[2], size))
for row in range(0, SIDE, 7):
    for column in range(SIDE):
        wanted = sum(left[row * SIDE + k] * right[k * SIDE + column] for k in range(SIDE))
        if product[row * SIDE + column] != wanted:
            sys.exit(f"it multiplies wrongly: {product[row * SIDE + column]} where {wanted} is right")
print(json.dumps(time.perf_counter() - began))
'''
