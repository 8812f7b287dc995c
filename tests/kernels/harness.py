"""Runs a kernel over all its units as the runtime does, on activations whose surroundings are
watched.

Whatever a kernel may not write holds a canary, a NaN that no arithmetic makes: a write outside
shows in its bits, a read outside in the results.
"""

import ctypes
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import pytest

from prunus.kernels.layout import FLOAT, TILE, last_width, padded, tiles
from prunus.kernels.spec import Argument, Kernel, TileArgument
from prunus.kernels.target import parse_target

CANARY = np.uint32(0x7FC5A5A5)
GUARD = 64
"""Floats of canary in front of and behind every buffer: more than a kernel's vector copy may read
over the end of it (`runtime.arena.GUARD`)."""

FILLER = 3.0
"""What input lanes without a token hold; they may be anything finite."""

HASWELL = "llvm -mcpu=haswell"
targets = pytest.mark.parametrize(
    "target",
    ["native", pytest.param(HASWELL, marks=pytest.mark.isa("avx2", "fma"))],
)

_FUNCTION = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p)


class Guarded:
    """Floats that start a cache line, between two guards; all hold the canary at first."""

    def __init__(self, count: int) -> None:
        whole = np.full(count + 2 * GUARD + 16, CANARY, np.uint32)
        start = (-whole.ctypes.data % 64) // FLOAT
        self.bits = whole[start : start + count + 2 * GUARD]
        self.floats = self.bits[GUARD : GUARD + count].view(np.float32)

    @property
    def address(self) -> int:
        """Of the first float behind the guard."""
        return self.floats.ctypes.data

    def check_guards(self) -> None:
        """Fails if something was written around the floats."""
        for guard in (self.bits[:GUARD], self.bits[len(self.bits) - GUARD :]):
            assert (guard == CANARY).all(), "written outside of the buffer"


class Tiled(Guarded):
    """An activation [tokens, features] in tiles: rows `first` and on of a buffer with `rows`."""

    def __init__(
        self, tokens: int, features: int, *, first: int = 0, rows: int | None = None
    ) -> None:
        self.rows = features + first if rows is None else rows
        super().__init__(self.rows * padded(tokens))
        self.tokens, self.features, self.first = tokens, features, first

    @classmethod
    def of(cls, array: np.ndarray, *, first: int = 0, rows: int | None = None) -> "Tiled":
        """The tiles of an array; lanes without a token hold `FILLER`."""
        made = cls(*array.shape, first=first, rows=rows)
        for tokens, lanes in made._tiles():
            lanes[:, : tokens.stop - tokens.start] = array[tokens].T
            lanes[:, tokens.stop - tokens.start :] = FILLER
        return made

    @property
    def argument(self) -> TileArgument:
        """How a kernel gets it."""
        return TileArgument(self.address, self.rows, self.first)

    def array(self) -> np.ndarray:
        """The activation as an array [tokens, features]."""
        out = np.empty((self.tokens, self.features), np.float32)
        for tokens, lanes in self._tiles():
            out[tokens] = lanes[:, : tokens.stop - tokens.start].T
        return out

    def lanes(self) -> np.ndarray:
        """All its lanes, those without a token included."""
        return np.concatenate([lanes.ravel() for _, lanes in self._tiles()])

    def check(self) -> None:
        """Fails if something was written around the buffer, or in its other rows."""
        self.check_guards()
        for _, rows in self._buffer_tiles():
            others = np.delete(rows, np.s_[self.first : self.first + self.features], axis=0)
            assert (others.view(np.uint32) == CANARY).all(), "written in rows of another value"

    def _tiles(self) -> Iterator[tuple[slice, np.ndarray]]:
        """The tokens of each tile, and their lanes [features, width]."""
        for tokens, rows in self._buffer_tiles():
            yield tokens, rows[self.first : self.first + self.features]

    def _buffer_tiles(self) -> Iterator[tuple[slice, np.ndarray]]:
        for tile in range(tiles(self.tokens)):
            start = tile * TILE
            width = TILE if tile < tiles(self.tokens) - 1 else last_width(self.tokens)
            at = start * self.rows
            rows = self.floats[at : at + self.rows * width].reshape(self.rows, width)
            yield slice(start, min(start + TILE, self.tokens)), rows


Given = Tiled | Guarded | np.ndarray | int
Arguments = dict[str, Given]


def run_tiles(
    make: Callable[[int], Kernel],
    target: str,
    tokens: int,
    arguments: Mapping[str, Given],
    *,
    units: int = 1,
) -> None:
    """All units of a kernel that goes by the tiles of so many tokens, in a shuffled order.

    `y` and `out` are written; everything else must stay as it is.
    """
    full, tail = make(TILE), make(last_width(tokens))
    first_of_tail = (tiles(tokens) - 1) * units
    count = tiles(tokens) * units
    _run(
        [tail if unit >= first_of_tail else full for unit in range(count)], target, arguments, None
    )


def run_units(
    kernel: Kernel, target: str, units: int, arguments: Mapping[str, Given], scratch: Guarded
) -> None:
    """Units 0, 1, 2, … of a kernel that takes scratch, in a shuffled order."""
    _run([kernel] * units, target, arguments, scratch)
    scratch.check_guards()


def _run(
    kernels: list[Kernel], target: str, arguments: Mapping[str, Given], scratch: Guarded | None
) -> None:
    before = {
        name: _bits(given).copy()
        for name, given in arguments.items()
        if not isinstance(given, int) and name not in ("y", "out")
    }
    words = {name: _word(given) for name, given in arguments.items()}
    prepared = {
        kernel: (
            _FUNCTION(kernel.address(parse_target(target))),
            np.array(kernel.words(words), np.int64),
        )
        for kernel in set(kernels)
    }
    for unit in np.random.default_rng(0).permutation(len(kernels)):
        function, packed = prepared[kernels[unit]]
        function(packed.ctypes.data, int(unit), None if scratch is None else scratch.address)
    for name, bits in before.items():
        assert (_bits(arguments[name]) == bits).all(), f"{name} was written"
    for name in ("y", "out"):
        match arguments.get(name):
            case Tiled() as tiled:
                tiled.check()
            case Guarded() as guarded:
                guarded.check_guards()


def _bits(given: Given) -> np.ndarray:
    if isinstance(given, Guarded):
        return given.bits
    assert isinstance(given, np.ndarray)
    return given.reshape(-1).view(np.uint8)


def _word(given: Given) -> Argument:
    match given:
        case Tiled():
            return given.argument
        case Guarded():
            return given.address
        case np.ndarray():
            return given.ctypes.data
    return given
