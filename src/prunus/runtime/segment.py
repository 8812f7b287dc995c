"""Native steps that run in one wake-up of the workers, as the words that the workers read.

A call with new sizes needs new words, and texts come in all sizes. So whatever does not depend on
sizes is worked out once, in the `Template`; binding it to sizes fills in a few arrays at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from prunus.errors import InternalError
from prunus.ir import Attrs, Expr, TensorType, evaluate
from prunus.ir.ops import evaluate_attrs
from prunus.ir.types import DTYPES
from prunus.kernels.layout import TILE, last_width, tiles
from prunus.kernels.target import Target
from prunus.runtime import walker
from prunus.runtime.arena import Placement
from prunus.runtime.chains import ALONE, HEAD, Order, find_chains, find_order
from prunus.runtime.host import (
    DERIVED,
    FEEDS,
    OF_PACKING,
    FeedFunction,
    PackingFunction,
)
from prunus.runtime.packing import Packing
from prunus.runtime.program import (
    Derived,
    Feed,
    Fresh,
    NativeStep,
    OfPacking,
    Sizes,
    Stored,
    Tiles,
    Zeros,
)
from prunus.runtime.weights import Weights

MAX_SIZE = 1 << 47
"""Of any size and any number of units: no memory has more bytes."""

KEPT_ORDERS = 8
"""Orders of records that are kept: chains or not, a last tile or not, at two placements."""


@dataclass(slots=True)
class Segment:
    """A template bound to sizes and to memory.

    Attributes:
        template: What it was made from.
        names: The step of each record.
        units: Of all records together.
        header: The program's words, whose address the pool gets.
        records: What the workers read of each step.
        claims: The units still to claim; `fresh_claims` is how they start. As words, which are
            copied faster than fields.
        words: The arguments of all steps.
        fresh: Where in `words` the address of each result goes, with its name, shape and dtype.
        keep: Arrays that `words` points into.
        feeds: Each with its places in `words`, its function, and what that gets besides at these
            sizes.
        of_packing: The same of what follows from the packing.
        packing: That of the last call, whose values still stand in `words`.
        held: Those values.
    """

    template: Template
    names: list[str]
    units: int
    header: np.ndarray
    records: np.ndarray
    claims: np.ndarray
    fresh_claims: np.ndarray
    words: np.ndarray
    fresh: list[tuple[int, str, tuple[int, ...], np.dtype]]
    keep: list[np.ndarray]
    feeds: list[tuple[np.ndarray, Feed, FeedFunction, Attrs]]
    of_packing: list[tuple[np.ndarray, PackingFunction, Attrs]]
    packing: Packing | None = None
    held: list[int | np.ndarray] = field(default_factory=list)

    def feed(self, values: dict[str, np.ndarray], packing: Packing) -> list[object]:
        """Write what each call makes anew; the arrays must live until the call has ended. New
        results are entered into `values`.
        """
        made: list[object] = []
        for positions, feed, function, attrs in self.feeds:
            array = function(attrs, *[values[name] for name in feed.values])
            array = packing.pack(array) if feed.by_token else array
            self.words[positions] = array.ctypes.data
            made.append(array)
        if self.packing is not packing:
            self.packing = None  # should an interrupt come between
            self.held = [function(attrs, packing) for _, function, attrs in self.of_packing]
            for (positions, *_), value in zip(self.of_packing, self.held, strict=True):
                self.words[positions] = _word(value)
            self.packing = packing
        make = np.empty if packing.whole else np.zeros
        for position, name, shape, dtype in self.fresh:
            values[name] = make(shape, dtype)
            self.words[position] = values[name].ctypes.data
        self.claims[:] = self.fresh_claims
        # An interrupted call may have left here where it traced to.
        self.header["trace"] = self.header["trace_bytes"] = 0
        return made


class Template:
    """A segment but for the sizes.

    Args:
        steps: In order.
        weights: The constants that they read.
        target: What code is made for.
        workers: How many share the units.
    """

    def __init__(
        self, steps: Sequence[NativeStep], weights: Weights, target: Target, workers: int
    ) -> None:
        self.steps, self.target, self.workers = steps, target, workers
        self._chains = list(find_chains(steps))
        self._orders: dict[tuple[Placement, tuple[tuple[bool, bool], ...]], Order] = {}
        # Equal arguments are made once: twelve layers read one mask.
        self.feeds: dict[Feed, list[int]] = {}
        self.of_packing: dict[OfPacking, list[int]] = {}
        self._fresh: list[tuple[int, NativeStep, str, TensorType]] = []
        self._tiles: list[tuple[int, str]] = []
        self._derived: dict[Derived, list[int]] = {}
        self._sized: dict[Expr, list[tuple[int, NativeStep, str]]] = {}
        self._keep: list[np.ndarray] = []
        words: list[int] = []
        starts = []
        for step in steps:
            parameters = step.kernel.parameters
            starts.append(len(words))
            place = {name: len(words) + i for i, name in enumerate(parameters)}
            words += [0] * len(parameters)
            self._enter(step, place, words, weights)
        self._words = np.array(words, np.int64)
        self._starts = np.array(starts) * self._words.itemsize
        self._addresses: dict[int, np.ndarray] = {}

    def _enter(
        self, step: NativeStep, place: Mapping[str, int], words: list[int], weights: Weights
    ) -> None:
        """Sort a step's arguments by when they are known."""
        for name, argument in step.arguments.items():
            at = place[name]
            match argument:
                case Feed():
                    self.feeds.setdefault(argument, []).append(at)
                case OfPacking():
                    self.of_packing.setdefault(argument, []).append(at)
                case Derived():
                    self._derived.setdefault(argument, []).append(at)
                case Expr():
                    self._sized.setdefault(argument, []).append((at, step, name))
                case Fresh(value, type):
                    self._fresh.append((at, step, value, type))
                case Tiles():
                    self._tiles.append((at, argument.buffer))
                    words[place[f"{name}.features"]] = argument.rows
                    words[place[f"{name}.first"]] = argument.first
                case Stored() | Zeros():
                    array = self._array(argument, weights)
                    words[at] = array.ctypes.data
                case _:
                    words[at] = _checked(int(argument), step, name, {})

    def _array(self, argument: Stored | Zeros, weights: Weights) -> np.ndarray:
        """What an argument names, kept as long as words point into it."""
        if isinstance(argument, Stored):
            packed = weights.packed(argument.constant, argument.form)
            array: np.ndarray = getattr(packed, argument.part)
        else:
            array = np.zeros(argument.count, np.float32)
        self._keep.append(array)
        return array

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
        for dim, places in self._sized.items():
            number = evaluate(dim, sizes)
            for at, step, name in places:
                words[at] = _checked(number, step, name, sizes)
        keep = [DERIVED[each.function](evaluate_attrs(each.attrs, sizes)) for each in self._derived]
        for array, positions in zip(keep, self._derived.values(), strict=True):
            words[positions] = array.ctypes.data
        work = self._units(sizes, chained=placement.chained)
        order = self._order(placement, work)
        records = walker.STEP.zeros(len(order.steps))
        records["arguments"] = words.ctypes.data + self._starts[order.steps]
        records["kernel"] = work.kernels[order.steps]
        records["tail_kernel"] = work.tail_kernels[order.steps]
        records["tail"] = work.tail[order.steps]
        records["barrier"] = order.barriers
        records["chain"] = order.chain
        fresh_claims = self._claims(order, work, records)
        claims = walker.CLAIM.zeros(*fresh_claims.shape)
        header = walker.PROGRAM.zeros()
        header["steps"], header["records"] = len(records), records.ctypes.data
        header["claims"] = claims.ctypes.data
        header["scratch"], header["scratch_bytes"] = scratch, stride
        fresh = []
        for at, step, name, type in self._fresh:
            shape = type.sizes(sizes)
            for each in shape:
                _checked(each, step, f"a dimension of {name!r}", sizes)
            fresh.append((at, name, shape, DTYPES[type.dtype]))
        names = [self.steps[position].name for position in order.steps]
        units = int((work.count * work.per_tile).sum())
        return Segment(
            self, names, units, header, records, claims.view(np.int64),
            fresh_claims.view(np.int64), words, fresh, keep,
            [(np.array(at), each, FEEDS[each.function], evaluate_attrs(each.attrs, sizes))
             for each, at in self.feeds.items()],
            [(np.array(at), OF_PACKING[each.function], evaluate_attrs(each.attrs, sizes))
             for each, at in self.of_packing.items()],
        )  # fmt: skip

    def _units(self, sizes: Sizes, *, chained: bool) -> _Units:
        """How the work of each step is cut."""
        known: dict[int | Expr, int] = {}

        def size(dim: int | Expr) -> int:
            if dim not in known:
                known[dim] = evaluate(dim, sizes)
            return known[dim]

        tokens = [TILE if step.tokens is None else size(step.tokens) for step in self.steps]
        units = [size(step.units) for step in self.steps]
        for step, each, number in zip(self.steps, tokens, units, strict=True):
            _checked(each, step, "tokens", sizes)
            _checked(number, step, "units of a tile", sizes)
            _checked(number * tiles(each), step, "units", sizes)
        per_tile = np.array(units)
        count = np.array([tiles(each) for each in tokens])
        last = np.array([last_width(each) for each in tokens])
        full = np.where(count > 1, TILE, last)
        kernels, tail_kernels = np.zeros((2, len(count)), np.int64)
        for column, width in ((kernels, full), (tail_kernels, last)):
            # Not `np.unique`, in whose C++ a daemon thread aborts when its process ends.
            for each in set(width.tolist()):
                column[width == each] = self._kernels(each)[width == each]
        together = np.zeros(len(count), np.int64)
        for chain in self._chains if chained else ():
            if len(chain) > 1:
                # As many full tiles as give every worker the same; the rest goes step by step.
                whole = count[chain.start] - (last[chain.start] < TILE)
                together[chain.start : chain.stop] = whole // self.workers * self.workers
        tail = (count - 1) * per_tile
        return _Units(count, per_tile, together, kernels, tail_kernels, tail)

    def _order(self, placement: Placement, work: _Units) -> Order:
        """The records; kept, as they are few for all sizes."""
        firsts = [chain.start for chain in self._chains]
        alone = work.chained < work.count
        parts = tuple((bool(work.chained[i]), bool(alone[i])) for i in firsts)
        key = (placement, parts)
        if key not in self._orders:
            while len(self._orders) > KEPT_ORDERS:
                self._orders.pop(next(iter(self._orders)))
            self._orders[key] = find_order(self.steps, self._chains, parts, placement.span)
        return self._orders[key]

    def _claims(self, order: Order, work: _Units, records: np.ndarray) -> np.ndarray:
        """What is to be claimed of each record at first, [records, workers]; the units that a claim
        stands for go into the records.
        """
        per_tile, chained = work.per_tile[order.steps], work.chained[order.steps]
        alone, head = order.kinds == ALONE, order.kinds == HEAD
        records["units"] = np.where(alone, 1, per_tile)
        low = np.where(alone, chained * per_tile, 0)
        high = np.where(alone, work.count[order.steps] * per_tile, np.where(head, chained, 0))
        bounds = low[:, None] + (high - low)[:, None] * np.arange(self.workers + 1) // self.workers
        claims = walker.CLAIM.zeros(len(records), self.workers)
        claims["next"], claims["end"] = bounds[:, :-1], bounds[:, 1:]
        return claims

    def _kernels(self, width: int) -> np.ndarray:
        """The addresses of all steps' kernels for tiles of a width."""
        if width not in self._addresses:
            kernels = [step.kernel.at(width) for step in self.steps]
            self._addresses[width] = np.array([k.address(self.target) for k in kernels])
        return self._addresses[width]


@dataclass(frozen=True, slots=True, eq=False)
class _Units:
    """The work of each step at given sizes.

    Attributes:
        count: Tiles; 1 where units are not tiles.
        per_tile: Units of each.
        chained: Tiles that go through the step as a part of its chain.
        kernels: The code for full tiles.
        tail_kernels: The code for the last one.
        tail: The first unit of the last tile.
    """

    count: np.ndarray
    per_tile: np.ndarray
    chained: np.ndarray
    kernels: np.ndarray
    tail_kernels: np.ndarray
    tail: np.ndarray


def _checked(number: int, step: NativeStep, what: str, sizes: Sizes) -> int:
    """The number, which kernels count up to: with one below 0 they would not end.

    Raises:
        InternalError: it can be no size.
    """
    if not 0 <= number <= MAX_SIZE:
        at = ", ".join(f"{name} = {size}" for name, size in sizes.items()) or "any size"
        raise InternalError(
            f"{step.op} {step.name!r}: {what} is {number} at {at}, expected 0 to {MAX_SIZE}; "
            "nothing was run. Please report this with the model"
        )
    return number


def _word(value: int | np.ndarray) -> int:
    """A word of the arguments: a number, or where an array lies."""
    return value.ctypes.data if isinstance(value, np.ndarray) else int(value)
