"""Attention of one head of one sequence, softmax included, without a transpose.

Queries lie in the lanes throughout: scores are Sᵀ[key][query], softmax goes down the keys, the
result is Oᵀ[feature][query]. The head's Q, K and V are first copied from their tiles to scratch
`[feature][token]`, since a sequence may begin and end anywhere in a tile; that is 3/(2·tokens) of
the work. Then everything is register tiles of 6 rows by a few vectors of queries, as in `panel.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, overload

import numpy as np

from prunus.ir import Expr, round_up
from prunus.kernels.emit import Emitter, Value
from prunus.kernels.layout import FLOAT, QUANTUM, TILE
from prunus.kernels.panel import register_vectors
from prunus.kernels.spec import Kernel, tile_words
from prunus.kernels.vector_math import LOG2_E, exp2_bounded

Mask = Literal["none", "key", "full"]
"""No mask; one number for each key [batch, keys]; or one for each key and query [batch or 1, heads
or 1, keys, queries]."""

ROWS = 6
"""Keys, or features, of a register tile."""

LOWEST = float(np.finfo(np.float32).min)

SLACK = QUANTUM
"""Floats between rows of scratch: a copy may run over the end of its row by a vector."""


@overload
def pitch(tokens: int) -> int: ...
@overload
def pitch(tokens: int | Expr) -> int | Expr: ...
def pitch(tokens: int | Expr) -> int | Expr:
    """Floats from one row of scratch to the next."""
    return round_up(tokens, QUANTUM) + SLACK


@overload
def scratch_bytes(*, queries: int, keys: int, key_width: int, value_width: int) -> int: ...
@overload
def scratch_bytes(
    *, queries: int | Expr, keys: int | Expr, key_width: int, value_width: int
) -> int | Expr: ...
def scratch_bytes(
    *, queries: int | Expr, keys: int | Expr, key_width: int, value_width: int
) -> int | Expr:
    """Scratch that one worker needs."""
    q = pitch(queries) * key_width
    k = pitch(keys + ROWS) * (key_width + value_width)
    scores = (keys + ROWS) * TILE
    result = pitch(queries) * value_width
    bias = pitch(keys + ROWS)
    return (q + k + scores + result + bias + QUANTUM) * FLOAT


@dataclass(frozen=True)
class Scratch:
    """A matrix in scratch: rows of floats, `pitch` bytes apart."""

    base: Value
    pitch: Value

    def row(self, index: Value | int) -> Value:
        """Where a row begins."""
        return self.base + self.pitch * index


@dataclass(frozen=True)
class Head:
    """One head of one sequence in scratch, and how many queries and keys it has."""

    queries: Value
    keys: Value
    q: Scratch
    k: Scratch
    v: Scratch
    scores: Scratch
    bias: Value
    result: Scratch


@dataclass(frozen=True)
class Attention(Kernel):
    """softmax(scale · q·kᵀ + mask) · v for the head and the sequence that the unit names.

    Attributes:
        width: Not used: a unit is a whole sequence, of any length.
        key_width: Features of a head's queries and keys.
        value_width: Features of a head's values.
        scale: Of the scores.
        mask: Its form.
        causal: Whether a query sees only the keys up to its own position.
    """

    key_width: int = 64
    value_width: int = 64
    scale: float = 0.125
    mask: Mask = "none"
    causal: bool = False

    @property
    def parameters(self) -> tuple[str, ...]:
        """Activations, heads and tokens, where each sequence starts and the last ends (int64
        [batch + 1]), and the mask with its strides in floats over sequences and heads.
        """
        sizes = ("heads", "query_tokens", "key_tokens", "query_starts", "key_starts")
        mask = ("mask", "mask.batch", "mask.head")[: {"none": 0, "key": 2, "full": 3}[self.mask]]
        return (*tile_words("q", "k", "v", "y"), *sizes, *mask)

    @property
    def loads_per_fma(self) -> float:
        """The rows of a register tile share the lanes; copies and softmax come on top."""
        return 1 / ROWS

    def emit(self, k: Emitter) -> None:
        """Copy the head, then take chunks of queries of at most a register tile."""
        sequence, head = k.unit // k.word("heads"), k.unit % k.word("heads")
        first_query, queries = _span(k, "query_starts", sequence)
        first_key, keys = _span(k, "key_starts", sequence)
        h = self._lay_out(k, queries, keys)
        q_copy = _Copy(k, "q", k.word("query_tokens"), first_query, queries)
        k_copy = _Copy(k, "k", k.word("key_tokens"), first_key, keys)
        v_copy = _Copy(k, "v", k.word("key_tokens"), first_key, keys)
        q_copy.read(head * self.key_width, self.key_width, h.q)
        k_copy.read(head * self.key_width, self.key_width, h.k)
        v_copy.read(head * self.value_width, self.value_width, h.v)
        # Keys beyond the last make the count a multiple of the register tile; they are masked
        # below.
        with k.loop(self.key_width) as f:
            end = h.k.row(f) + keys * FLOAT
            for i in range(ROWS):
                k.store_float(k.number(0.0), end + i * FLOAT)
        self._write_bias(k, h, sequence)

        widest = register_vectors(k.target)
        padded = (queries + (QUANTUM - 1)) // QUANTUM * QUANTUM
        chunk = widest * k.lanes
        whole = padded // chunk
        with k.loop(whole) as c:
            self._chunk(k, h, c * chunk, widest)
        rest = padded - whole * chunk
        for vectors in range(QUANTUM // k.lanes, widest, max(1, QUANTUM // k.lanes)):
            with k.when(rest.equals(vectors * k.lanes)):
                self._chunk(k, h, whole * chunk, vectors)
        y_copy = _Copy(k, "y", k.word("query_tokens"), first_query, queries)
        y_copy.write(head * self.value_width, self.value_width, h.result)

    def _lay_out(self, k: Emitter, queries: Value, keys: Value) -> Head:
        """Where everything lies in the worker's scratch."""
        q_pitch, k_pitch = _pitch(queries), _pitch(keys + ROWS)
        q = Scratch(k.scratch, q_pitch)
        key = Scratch(q.row(self.key_width), k_pitch)
        value = Scratch(key.row(self.key_width), k_pitch)
        result = Scratch(value.row(self.value_width), q_pitch)
        bias = result.row(self.value_width)
        scores = Scratch(bias + k_pitch, k.integer(TILE * FLOAT))
        return Head(queries, keys, q, key, value, scores, bias, result)

    def _write_bias(self, k: Emitter, h: Head, sequence: Value) -> None:
        """What is added to each key's scores: 0, the key's mask, or -inf for the keys that fill up
        the tile.
        """
        with k.loop(h.keys) as j:
            if self.mask == "key":
                at = sequence * k.word("mask.batch") + j
                value = k.load_float(k.address("mask") + at * FLOAT)
            else:
                value = k.number(0.0)
            k.store_float(_in_powers_of_two(value, k.number(LOWEST)), h.bias + j * FLOAT)
        for i in range(ROWS):
            k.store_float(k.number(float("-inf")), h.bias + (h.keys + i) * FLOAT)

    def _chunk(self, k: Emitter, h: Head, first: Value, vectors: int) -> None:
        """Scores, softmax and result for some vectors of queries from `first` on."""
        offset = first * FLOAT
        self.before_scores(k, h, first, vectors)
        top = [k.variable(k.splat(float("-inf"))) for _ in range(vectors)]

        def finish_scores(j: Value, i: int, sums: list[Value]) -> None:
            row = j + i
            sums = self.more_of_sums(k, h, row, sums)
            added = k.broadcast(h.bias + row * FLOAT)
            lanes = [k.fma(s, k.splat(self.scale * LOG2_E), added) for s in sums]
            lanes = self._masked(k, h, lanes, row, first)
            k.store_row(lanes, h.scores.row(row))
            for maximum, lane in zip(top, lanes, strict=True):
                maximum.set(lane.maximum(maximum.get()))

        with k.loop(h.keys, step=ROWS) as j:
            self.before_keys(k, h, j, first, vectors)
            register_tile(
                k, self.key_width, ROWS, vectors,
                lambda f, i: h.k.row(f) + (j + i) * FLOAT,
                lambda f: h.q.row(f) + offset,
                lambda i, sums: finish_scores(j, i, sums),
            )  # fmt: skip

        # A query whose keys are all masked has the maximum -inf; with 0 instead its powers are 0,
        # not NaN.
        shift = [(m.get() > float("-inf")).select(m.get(), k.splat(0.0)) for m in top]
        totals = [k.variable(k.splat(0.0)) for _ in range(vectors)]
        with k.loop(h.keys) as j:
            powers = []
            lanes = k.load_row(h.scores.row(j), vectors)
            for lane, high, total in zip(lanes, shift, totals, strict=True):
                powers.append(exp2_bounded(k, lane - high))
                total.set(total.get() + powers[-1])
            k.store_row(powers, h.scores.row(j))
        inverse = [(t.get() > 0.0).select(k.splat(1.0) / t.get(), k.splat(0.0)) for t in totals]

        def finish_result(f: Value, i: int, sums: list[Value]) -> None:
            scaled = [s * inv for s, inv in zip(sums, inverse, strict=True)]
            k.store_row(scaled, h.result.row(f + i) + offset)

        def mix(f: Value, rows: int) -> None:
            register_tile(
                k, h.keys, rows, vectors,
                lambda j, i: h.v.row(f + i) + j * FLOAT,
                lambda j: h.scores.row(j),
                lambda i, sums: finish_result(f, i, sums),
            )  # fmt: skip

        even = self.value_width // ROWS * ROWS
        with k.loop(even, step=ROWS) as f:
            mix(f, ROWS)
        if even < self.value_width:
            mix(k.integer(even), self.value_width - even)

    # What `RelativeAttention` does besides; nothing here.

    def before_scores(self, k: Emitter, h: Head, first: Value, vectors: int) -> None:
        """Code that runs for the queries from `first` on before their scores are computed."""

    def before_keys(self, k: Emitter, h: Head, j: Value, first: Value, vectors: int) -> None:
        """Code that runs before the scores of these queries with the keys of the register tile from
        `j` on.
        """

    def more_of_sums(self, k: Emitter, h: Head, row: Value, sums: list[Value]) -> list[Value]:
        """q·k of one key and these queries, with what else the scale applies to."""
        return sums

    def _masked(
        self, k: Emitter, h: Head, lanes: list[Value], row: Value, first: Value
    ) -> list[Value]:
        """The scores of one key with the part of the mask that depends on the query."""
        if self.mask == "full":
            # [batch, head, key, query], each key's queries padded to whole quanta.
            row_floats = (h.queries + (QUANTUM - 1)) // QUANTUM * QUANTUM
            heads = k.word("heads")
            start = (k.unit // heads) * k.word("mask.batch") + (k.unit % heads) * k.word(
                "mask.head"
            )
            inside = row.minimum(h.keys - 1)
            at = k.address("mask") + (start + inside * row_floats + first) * FLOAT
            masks = [k.load(at + v * k.lanes * FLOAT, aligned=False) for v in range(len(lanes))]
            lanes = [
                lane + _in_powers_of_two(m, k.splat(LOWEST))
                for lane, m in zip(lanes, masks, strict=True)
            ]
        if self.causal:
            key = k.splat(k.as_float(row))
            numbers = [
                k.lane_numbers() + k.splat(k.as_float(first + v * k.lanes))
                for v in range(len(lanes))
            ]
            hidden = k.splat(float("-inf"))
            lanes = [(n < key).select(hidden, lane) for n, lane in zip(numbers, lanes, strict=True)]
        return lanes


def _in_powers_of_two(mask: Value, lowest: Value) -> Value:
    """A mask for scores of 2^score instead of e^score. The least float, by which models hide keys,
    stays finite: a query all of whose keys have it sees them alike, as in PyTorch.
    """
    scaled = (mask * LOG2_E).maximum(lowest)
    return (mask > float("-inf")).select(scaled, mask)


def _span(k: Emitter, starts: str, sequence: Value) -> tuple[Value, Value]:
    """The first token of a sequence and the number of its tokens."""
    at = k.address(starts) + sequence * 8
    first = k.load_int(at, 64)
    return first, k.load_int(at + 8, 64) - first


def _pitch(tokens: Value) -> Value:
    """`pitch` in emitted code, in bytes."""
    return ((tokens + (QUANTUM - 1)) // QUANTUM * QUANTUM + SLACK) * FLOAT


def register_tile(
    k: Emitter,
    count: Value | int,
    rows: int,
    vectors: int,
    scalar: Callable[[Value, int], Value],
    vector: Callable[[Value], Value],
    finish: Callable[[int, list[Value]], None],
    *,
    aligned: bool = True,
) -> None:
    """Σ over `count` of a scalar for each row times vectors that all rows share; `finish` gets each
    row's sums.
    """
    sums = [[k.variable(k.splat(0.0)) for _ in range(vectors)] for _ in range(rows)]
    with k.loop(count) as i:
        start = vector(i)
        offsets = range(0, vectors * k.lanes * FLOAT, k.lanes * FLOAT)
        lanes = [k.load(start + offset, aligned=aligned) for offset in offsets]
        for row in range(rows):
            factor = k.broadcast(scalar(i, row))
            for total, lane in zip(sums[row], lanes, strict=True):
                total.set(k.fma(factor, lane, total.get()))
    for row in range(rows):
        finish(row, [total.get() for total in sums[row]])


class _Copy:
    """Moves one sequence's tokens between the tiles of an activation and scratch
    `[feature][token]`.
    """

    def __init__(self, k: Emitter, name: str, tokens: Value, first: Value, count: Value) -> None:
        self.k, self.name, self.first, self.count = k, name, first, count
        self._last = (tokens - 1) // TILE
        self._last_width = (tokens - self._last * TILE + (QUANTUM - 1)) // QUANTUM * QUANTUM

    def read(self, feature: Value, features: int, scratch: Scratch) -> None:
        """To scratch, whole vectors at a time: what runs over the end of a row lands in its
        slack.
        """
        k = self.k
        for tile_row, position, length in self._segments(feature):
            vectors = (length + (k.lanes - 1)) // k.lanes
            with k.loop(features) as f, k.loop(vectors) as v:
                lanes = k.load(tile_row(f) + v * (k.lanes * FLOAT), aligned=False)
                at = scratch.row(f) + (position + v * k.lanes) * FLOAT
                k.store(lanes, at, aligned=False)

    def write(self, feature: Value, features: int, scratch: Scratch) -> None:
        """From scratch, exactly: the neighbouring tokens belong to other sequences."""
        k = self.k
        for tile_row, position, length in self._segments(feature):
            vectors = length // k.lanes
            with k.loop(features) as f:
                source, target = scratch.row(f) + position * FLOAT, tile_row(f)
                with k.loop(vectors) as v:
                    offset = v * (k.lanes * FLOAT)
                    k.store(k.load(source + offset, aligned=False), target + offset, aligned=False)
                with k.loop(length, start=vectors * k.lanes) as lane:
                    k.store_float(k.load_float(source + lane * FLOAT), target + lane * FLOAT)

    def _segments(self, feature: Value) -> Iterator[tuple[Callable[[Value], Value], Value, Value]]:
        """The sequence's part of each tile: where its rows are, its position in the sequence, its
        length.
        """
        k, end = self.k, self.first + self.count
        with k.loop((end - 1) // TILE + 1, start=self.first // TILE) as tile:
            width = (tile < self._last).select(k.integer(TILE), self._last_width)
            begin = (tile * TILE).maximum(self.first)
            length = ((tile + 1) * TILE).minimum(end) - begin
            start = k.address(self.name) + tile * k.word(f"{self.name}.features") * (TILE * FLOAT)
            row = (k.word(f"{self.name}.first") + feature) * width + (begin - tile * TILE)
            start = start + row * FLOAT
            yield lambda f: start + f * width * FLOAT, begin - self.first, length
