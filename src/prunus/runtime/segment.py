"""Native steps that run in one wake-up of the workers, as the words that the workers read.

A call with new sizes needs new words, and texts come in all sizes. So whatever does not depend on
sizes is worked out once, in the `Template`; binding it to sizes fills in a few arrays at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from prunus.ir import Expr, TensorType, evaluate
from prunus.ir.types import DTYPES
from prunus.kernels.layout import TILE, last_width, tiles
from prunus.kernels.target import Target
from prunus.runtime import walker
from prunus.runtime.arena import Placement, aligned_words
from prunus.runtime.packing import Packing
from prunus.runtime.program import Derived, Feed, Fresh, NativeStep, OfPacking, Sizes, Tiles


@dataclass(slots=True)
class Segment:
    """A template bound to sizes and to memory.

    Attributes:
        template: What it was made from.
        header: The program's words, whose address the pool gets.
        records: What the workers read of each step.
        claims: The units still to claim; `fresh_claims` is how they start.
        words: The arguments of all steps.
        fresh: Where in `words` the address of each result goes, with its name, shape and dtype.
        keep: Arrays that `words` points into.
        packing: That of the last call, whose values still stand in `words`.
        held: Those values.
    """

    template: Template
    header: np.ndarray
    records: np.ndarray
    claims: np.ndarray
    fresh_claims: np.ndarray
    words: np.ndarray
    fresh: list[tuple[int, str, tuple[int, ...], np.dtype]]
    keep: list[int | np.ndarray]
    packing: Packing | None = None
    held: list[int | np.ndarray] = field(default_factory=list)

    @property
    def units(self) -> int:
        """Of all steps together."""
        return int(self.fresh_claims[:, -1, 1].sum())

    def feed(self, values: dict[str, np.ndarray], sizes: Sizes, packing: Packing) -> list[object]:
        """Write what each call makes anew; the arrays must live until the call has ended. New
        results are entered into `values`.
        """
        made: dict[int, np.ndarray] = {}  # twelve layers read one mask
        for position, feed in self.template.feeds:
            if id(feed) not in made:
                array = feed.prepare([values[name] for name in feed.values], sizes)
                made[id(feed)] = packing.pack(array) if feed.by_token else array
            self.words[position] = made[id(feed)].ctypes.data
        if self.packing is not packing:
            self.held = [a.compute(packing, sizes) for _, a in self.template.of_packing]
            for (position, _), value in zip(self.template.of_packing, self.held, strict=True):
                self.words[position] = _word(value)
            self.packing = packing
        make = np.empty if packing.whole else np.zeros
        for position, name, shape, dtype in self.fresh:
            values[name] = make(shape, dtype)
            self.words[position] = values[name].ctypes.data
        self.claims[:] = self.fresh_claims
        return list(made.values())


class Template:
    """A segment but for the sizes.

    Args:
        steps: In order.
        types: Of all values.
        target: What code is made for.
        workers: How many share the units.
    """

    def __init__(
        self, steps: Sequence[NativeStep], types: Mapping[str, TensorType], target: Target,
        workers: int,
    ) -> None:  # fmt: skip
        self.steps, self.target, self.workers = steps, target, workers
        self.names = [step.name for step in steps]
        self.feeds: list[tuple[int, Feed]] = []
        self.of_packing: list[tuple[int, OfPacking]] = []
        self._fresh: list[tuple[int, str, TensorType]] = []
        self._tiles: list[tuple[int, str]] = []
        self._sized: list[tuple[int, Expr | Derived]] = []
        self._keep: list[np.ndarray] = []
        words: list[int] = []
        starts = []
        for step in steps:
            parameters = step.kernel(TILE).parameters
            starts.append(len(words))
            place = {name: len(words) + i for i, name in enumerate(parameters)}
            words += [0] * len(parameters)
            self._enter(step, place, words, types)
        self._words = np.array(words, np.int64)
        self._starts = np.array(starts) * self._words.itemsize
        self._addresses: dict[int, np.ndarray] = {}
        self._by_tile = np.array([step.tokens is not None for step in steps])

    def _enter(
        self, step: NativeStep, place: Mapping[str, int], words: list[int],
        types: Mapping[str, TensorType],
    ) -> None:  # fmt: skip
        """Sort a step's arguments by when they are known."""
        for name, argument in step.arguments.items():
            at = place[name]
            match argument:
                case Feed():
                    self.feeds.append((at, argument))
                case OfPacking():
                    self.of_packing.append((at, argument))
                case Fresh(value=value):
                    self._fresh.append((at, value, types[value]))
                case Tiles():
                    self._tiles.append((at, argument.buffer))
                    words[place[f"{name}.features"]] = argument.rows
                    words[place[f"{name}.first"]] = argument.first
                case Derived() | Expr():
                    self._sized.append((at, argument))
                case np.ndarray():
                    self._keep.append(argument)
                    words[at] = argument.ctypes.data
                case _:
                    words[at] = int(argument)

    def bind(
        self, sizes: Sizes, placement: Placement, base: int, scratch: int, stride: int
    ) -> Segment:
        """The segment for these sizes.

        Args:
            sizes: Of all symbols.
            placement: Where in the arena each buffer lies.
            base: Where the arena begins.
            scratch: Where the workers' scratch begins.
            stride: Bytes of scratch for each.
        """
        words = self._words.copy()
        for at, buffer in self._tiles:
            words[at] = base + placement.offsets[buffer]
        keep: list[int | np.ndarray] = []
        for at, argument in self._sized:
            if isinstance(argument, Derived):
                keep.append(argument.compute(sizes))
                words[at] = _word(keep[-1])
            else:
                words[at] = evaluate(argument, sizes)
        records = np.zeros((len(self.steps), walker.STEP_WORDS), np.int64)
        records[:, walker.STEP_ARGUMENTS] = words.ctypes.data + self._starts
        records[:, walker.STEP_BARRIER] = placement.barriers(self.steps)
        units = self._units(sizes, records)
        shares = units[:, None] * np.arange(self.workers + 1) // self.workers
        fresh_claims = np.zeros((len(units), self.workers, walker.CLAIM_BYTES // 8), np.int64)
        fresh_claims[..., 0], fresh_claims[..., 1] = shares[:, :-1], shares[:, 1:]
        claims = aligned_words(fresh_claims.size).reshape(fresh_claims.shape)
        header = aligned_words(walker.PROGRAM_WORDS)
        header[:5] = (len(units), records.ctypes.data, claims.ctypes.data, scratch, stride)
        fresh = [
            (at, name, type.sizes(sizes), DTYPES[type.dtype]) for at, name, type in self._fresh
        ]
        return Segment(self, header, records, claims, fresh_claims, words, fresh, keep)

    def _units(self, sizes: Sizes, records: np.ndarray) -> np.ndarray:
        """The units of each step; its kernels for full tiles and for the last one go into the
        records, with the first unit of the last tile.
        """
        known: dict[int | Expr, int] = {}

        def size(dim: int | Expr) -> int:
            if dim not in known:
                known[dim] = evaluate(dim, sizes)
            return known[dim]

        tokens = [TILE if step.tokens is None else size(step.tokens) for step in self.steps]
        per_tile = np.array([size(step.units) for step in self.steps])
        count = np.array([tiles(each) for each in tokens])
        last = np.array([last_width(each) for each in tokens])
        full = np.where(count > 1, TILE, last)
        for column, width in ((walker.STEP_KERNEL, full), (walker.STEP_TAIL_KERNEL, last)):
            for each in np.unique(width):
                here = width == each
                records[here, column] = self._kernels(int(each))[here]
        units: np.ndarray = count * per_tile
        records[:, walker.STEP_TAIL] = np.where(self._by_tile, units - per_tile, units)
        return units

    def _kernels(self, width: int) -> np.ndarray:
        """The addresses of all steps' kernels for tiles of a width."""
        if width not in self._addresses:
            kernels = [step.kernel(width) for step in self.steps]
            self._addresses[width] = np.array([k.address(self.target) for k in kernels])
        return self._addresses[width]


def _word(value: int | np.ndarray) -> int:
    """A word of the arguments: a number, or where an array lies."""
    return value.ctypes.data if isinstance(value, np.ndarray) else int(value)
