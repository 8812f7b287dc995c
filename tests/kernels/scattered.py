"""Run alone: compiles and runs a model in a process that has memory in small pieces only, gigabytes
apart, as in one that has mapped and freed much. Prints `the same` where the answers are.
"""

import ctypes
from itertools import pairwise

import numpy as np

from prunus.ir import interpret
from prunus.plan import make_options
from tests.native.decisions import run
from tests.native.encoder import encoder, sentences
from tests.planned import planned

PAGE, GIB = 4096, 1 << 30
RESERVED, APART, PIECES = 1 << 40, 8 * GIB, 100
PRIVATE, ANONYMOUS, FIXED, NORESERVE = 0x02, 0x20, 0x10, 0x4000
"""Of Linux' mmap."""

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]


def reserve(size: int, address: int | None = None) -> int:
    """Addresses that nothing else gets."""
    flags = PRIVATE | ANONYMOUS | NORESERVE | (FIXED if address is not None else 0)
    found = libc.mmap(address, size, 0, flags, -1, 0)
    assert found is not None and found != ctypes.c_void_p(-1).value, "mmap failed"
    return int(found)


def scatter() -> None:
    """Leave gaps of three pages, far apart. The system gives the highest that is large enough."""
    base = reserve(RESERVED)
    with open("/proc/self/maps") as file:
        spans = [line.split()[0].split("-") for line in file if "vsyscall" not in line]
    used = sorted((int(begin, 16), int(end, 16)) for begin, end in spans)
    for (_, end), (begin, _) in pairwise(used):
        if end >= base and end < begin < 1 << 47:
            reserve(begin - end, end)
    for piece in range(1, PIECES + 1):
        libc.munmap(base + RESERVED - piece * APART, 3 * PAGE)


def main() -> None:
    """Compile without the cache's help, run, and compare."""
    graph, inputs = encoder(), sentences(2, 9)
    executable = planned(graph, make_options(threads=2, tune="cost"))
    scatter()
    found = run(executable, inputs)
    real = inputs["attention_mask"].astype(bool)
    for one, other in zip(found, interpret(graph, inputs), strict=True):
        np.testing.assert_allclose(one[real], other[real], rtol=1e-3, atol=1e-3)
    print("the same")


if __name__ == "__main__":
    main()
