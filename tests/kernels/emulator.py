"""Kernels for Arm, linked into a program that runs under user-mode emulation.

The program is an aarch64 ELF file without a libc: the kernels as `Kernel.assembly` prints them, an
image of the memory that they work on, and a start that calls them one after the other and then
writes the memory to its standard output. What it wrote is put back into the arrays here, so that a
test goes on as if the kernels had run in this process.
"""

import subprocess
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from prunus.kernels.layout import LINE, TILE, last_width, tiles
from prunus.kernels.panel import Panels
from prunus.kernels.row_stream import RowStreams
from prunus.kernels.spec import Kernel
from prunus.kernels.target import parse_target
from tests.debian import require_tools
from tests.kernels.harness import Given, Guarded, _word

NEOVERSE = "llvm -mtriple=aarch64-unknown-linux-gnu -mcpu=neoverse-n1"

PACKAGES = ("qemu-user", "binutils-aarch64-linux-gnu")
"""Debian's names of what holds `TOOLS`."""

TOOLS = ("qemu-aarch64", "aarch64-linux-gnu-as", "aarch64-linux-gnu-ld")

# `calls` holds four words a call: the kernel, and its three arguments. LLVM makes memset of loops
# that write zeros. x19 and above are the caller's.
_START = """
        .globl  _start, memset
_start: ldr     x19, =calls
next:   ldp     x9, x0, [x19], #16
        cbz     x9, done
        ldp     x1, x2, [x19], #16
        blr     x9
        b       next
done:   mov     x0, #1
        ldr     x1, =memory
        ldr     x2, =memory_end
        sub     x2, x2, x1
        mov     x8, #64                     // write
        svc     #0
        mov     x0, #0
        mov     x8, #93                     // exit
        svc     #0
memset: mov     x3, x0
fill:   cbz     x2, filled
        strb    w1, [x3], #1
        sub     x2, x2, #1
        b       fill
filled: ret
        .data
        .balign 64
memory: .incbin "memory"
memory_end:
        .balign 8
"""


class Call(NamedTuple):
    """A kernel, its words, its unit and its scratch; all addresses are those of this process."""

    kernel: Kernel
    words: list[int]
    unit: int
    scratch: int


@dataclass
class Program:
    """Calls of kernels, in order, and the memory that they read and write.

    Attributes:
        folder: Where its files go.
        target: The processor.
    """

    folder: Path
    target: str = NEOVERSE
    _calls: list[Call] = field(default_factory=list)
    _memory: dict[int, np.ndarray] = field(default_factory=dict)
    _written: set[int] = field(default_factory=set)

    def add_tiles(
        self,
        make: Callable[[int], Kernel],
        tokens: int,
        arguments: Mapping[str, Given],
        *,
        units: int = 1,
        weight: RowStreams | Panels | None = None,
    ) -> None:
        """All units of a kernel that goes by the tiles of so many tokens."""
        full, tail = make(TILE), make(last_width(tokens))
        whole = (tiles(tokens) - 1) * units
        self.add_units([full] * whole + [tail] * units, arguments, weight=weight)

    def add_units(
        self,
        kernels: Iterable[Kernel],
        arguments: Mapping[str, Given],
        *,
        weight: RowStreams | Panels | None = None,
        scratch: Guarded | None = None,
    ) -> None:
        """Units 0, 1, 2, … of a step, each with its kernel.

        `weight`'s arguments come from here. `y` and `out` are written, and scratch.
        """
        for name, given in arguments.items():
            self._add_memory(given, written=name in ("y", "out"))
        if scratch is not None:
            self._add_memory(scratch, written=True)
        packed = {}
        if weight is not None:
            packed = weight.arguments()
            for each in vars(weight).values():
                self._add_memory(each, written=False)
        words = {**{name: _word(given) for name, given in arguments.items()}, **packed}
        address = 0 if scratch is None else scratch.address
        for unit, kernel in enumerate(kernels):
            self._calls.append(Call(kernel, kernel.words(words), unit, address))

    def _add_memory(self, given: Given, *, written: bool) -> None:
        array = given.bits if isinstance(given, Guarded) else given
        if isinstance(array, np.ndarray):
            self._memory[array.ctypes.data] = array
            if written:
                self._written.add(array.ctypes.data)

    def run(self) -> None:
        """Run all calls under emulation. Fails if something was written that should not be."""
        places = self._places()
        image = bytearray(max(places[at] + array.nbytes for at, array in self._memory.items()))
        for at, array in self._memory.items():
            image[places[at] : places[at] + array.nbytes] = array.tobytes()
        (self.folder / "memory").write_bytes(image)
        sources = {call.kernel.symbol: _assembly(call.kernel, self.target) for call in self._calls}
        sources["start"] = _START + self._table(places)
        for name, text in sources.items():
            (self.folder / f"{name}.s").write_text(text)
            self._tool("aarch64-linux-gnu-as", "-o", f"{name}.o", f"{name}.s")
        objects = [f"{name}.o" for name in sources]
        self._tool("aarch64-linux-gnu-ld", "-static", "-o", "program", *objects)
        with (self.folder / "result").open("wb") as result:
            self._tool("qemu-aarch64", "./program", stdout=result.fileno())
        self._take((self.folder / "result").read_bytes(), places)

    def _places(self) -> dict[int, int]:
        """Where in the image each array lies, by its address here; as far into a line as here."""
        places, end = {}, 0
        for at, array in self._memory.items():
            assert array.flags.c_contiguous
            places[at] = -(-end // LINE) * LINE + at % LINE
            end = places[at] + array.nbytes
        return places

    def _table(self, places: Mapping[int, int]) -> str:
        """The calls and their words as data, with the addresses of the image in place of ours."""

        def word(value: int) -> str:
            for at, array in self._memory.items():
                if at <= value < at + array.nbytes:
                    return f"memory + {places[at] + value - at}"
            return str(value)

        def line(values: Iterable[str]) -> str:
            return f"        .quad {', '.join(values)}"

        words = [line(map(word, call.words)) for call in self._calls]
        calls = [
            line((call.kernel.symbol, f"words{i}", str(call.unit), word(call.scratch)))
            for i, call in enumerate(self._calls)
        ]
        labelled = [f"words{i}:\n{text}" for i, text in enumerate(words)]
        return "\n".join([*labelled, "calls:", *calls, line("0"), ""])

    def _take(self, image: bytes, places: Mapping[int, int]) -> None:
        """Put the image back into the arrays."""
        for at, array in self._memory.items():
            found = np.frombuffer(image, np.uint8, array.nbytes, places[at])
            here = array.reshape(-1).view(np.uint8)
            if at in self._written:
                here[:] = found
            assert (here == found).all(), "an input was written"

    def _tool(self, *command: str, stdout: int | None = None) -> None:
        done = subprocess.run(
            command, cwd=self.folder, stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=60
        )
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"


@cache
def _assembly(kernel: Kernel, target: str) -> str:
    return kernel.assembly(parse_target(target))


def require_emulator(lock: Path) -> None:
    """Skip the test if there is no emulator or no linker, and none can be installed."""
    require_tools(TOOLS, PACKAGES, lock)
