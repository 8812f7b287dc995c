"""Attention whose scores have terms for relative positions, as DeBERTa's.

Between query i and key j lies the position `index[i, j]`, a row of a table. The query meets rows of
the one table, the key rows of another, and both products are added to q·k:

    C[r][i] = key_table[r] · q_i        for a chunk of queries and the positions that they have
    P[j][r] = k_j · query_table[r]      for the keys of a register tile and that chunk's queries

Either is a product as q·kᵀ is, in the same register tiles, and only of the positions that occur:
70 of 512 for 64 queries and 6 keys. The products lie in scratch, and each score picks its two.
Where it finds them, counted in floats from the first of the chunk or of the register tile, depends
on the index alone, so it is worked out in advance (`places_of_queries`, `places_of_keys`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from prunus.errors import GraphError
from prunus.kernels.attention import ROWS, Attention, Head, Scratch, pitch, register_tile
from prunus.kernels.emit import Emitter, Value
from prunus.kernels.layout import FLOAT, TILE
from prunus.kernels.panel import register_vectors
from prunus.kernels.target import Target


def chunk_of(target: Target) -> int:
    """Queries that the kernel takes at once."""
    return register_vectors(target) * target.lanes


def positions_scratch_bytes(key_positions: int, query_positions: int) -> int:
    """Scratch that one worker needs for the products, beyond that of `Attention`."""
    products = (key_positions + ROWS) * TILE if key_positions else 0
    return (products + ROWS * pitch(query_positions)) * FLOAT


def pack_key_table(table: np.ndarray) -> np.ndarray:
    """[heads, positions, width] as the kernel reads it: a register tile may run over the end."""
    heads, positions, width = table.shape
    packed = np.zeros((heads * positions + ROWS, width), np.float32)
    packed[: heads * positions] = table.reshape(-1, width)
    return packed


def pack_query_table(table: np.ndarray) -> np.ndarray:
    """[heads, positions, width] as the kernel reads it: [heads, width, positions], in rows that a
    vector may run over the end of.
    """
    heads, positions, width = table.shape
    packed = np.zeros((heads, width, pitch(positions)), np.float32)
    packed[..., :positions] = table.swapaxes(1, 2)
    return packed


class Places(NamedTuple):
    """Where the scores find their products.

    Attributes:
        offsets: In floats from the first product at hand, int32 [keys, queries], both in whole
            register tiles.
        spans: The first position at hand, and how many rows or vectors of them: int64 [chunks, 2]
            of queries, or [chunks, blocks, 2] where they are those of some keys.
    """

    offsets: np.ndarray
    spans: np.ndarray


def places_of_queries(index: np.ndarray, positions: int, *, chunk: int, lanes: int) -> Places:
    """Where scores find C, for an index [queries, keys] of rows of the key table, and a kernel that
    takes `chunk` queries at once in vectors of `lanes`.

    Raises:
        GraphError: a row is not in the table.
    """
    blocks = _in_blocks(index, positions, chunk)
    first, last = blocks.min(axis=(0, 1, 3)), blocks.max(axis=(0, 1, 3))
    offsets = (blocks - first[:, None]) * TILE + np.arange(chunk)
    return Places(_flat(offsets), np.stack((first, last - first + 1), axis=-1))


def places_of_keys(index: np.ndarray, positions: int, *, chunk: int, lanes: int) -> Places:
    """Where scores find P, for an index [queries, keys] of rows of the query table, and a kernel
    that takes `chunk` queries at once in vectors of `lanes`.

    Raises:
        GraphError: a row is not in the table.
    """
    blocks = _in_blocks(index, positions, chunk)
    first, last = blocks.min(axis=(1, 3)), blocks.max(axis=(1, 3))
    rows = np.arange(ROWS)[:, None, None] * pitch(positions)
    offsets = blocks - first[:, None, :, None] + rows
    vectors = (last - first) // lanes + 1
    return Places(
        _flat(offsets), np.ascontiguousarray(np.stack((first, vectors), -1).swapaxes(0, 1))
    )


def _in_blocks(index: np.ndarray, positions: int, chunk: int) -> np.ndarray:
    """int64 [blocks of keys, keys, chunks of queries, queries], the last ones repeated to fill up
    their block.
    """
    if index.min() < 0 or index.max() >= positions:
        wrong = int(index.min()) if index.min() < 0 else int(index.max())
        raise GraphError(f"the relative position {wrong} is outside its table of {positions}")
    queries, keys = index.shape
    padded = np.pad(index.T.astype(np.int64), ((0, -keys % ROWS), (0, -queries % chunk)), "edge")
    return padded.reshape(-1, ROWS, padded.shape[1] // chunk, chunk)


def _flat(offsets: np.ndarray) -> np.ndarray:
    blocks, rows, chunks, chunk = offsets.shape
    return np.ascontiguousarray(offsets.reshape(blocks * rows, chunks * chunk), dtype=np.int32)


@dataclass(frozen=True)
class RelativeAttention(Attention):
    """Attention with terms for relative positions.

    Attributes:
        key_positions: Rows of each head's table that queries meet; 0 for no such term.
        query_positions: The same of the table that keys meet.
    """

    key_positions: int = 0
    query_positions: int = 0

    @property
    def parameters(self) -> tuple[str, ...]:
        """Those of attention; queries and blocks of keys for which there are places; and of each
        term the packed table and the arrays of `Places`.
        """
        return (
            *super().parameters,
            "place.queries",
            "place.blocks",
            *(f"{term}.{word}" for term in self._terms() for word in ("table", "offsets", "spans")),
        )

    def _terms(self) -> Iterator[str]:
        if self.key_positions:
            yield "key"
        if self.query_positions:
            yield "query"

    def before_scores(self, k: Emitter, h: Head, first: Value, vectors: int) -> None:
        """C, for all positions that these queries have."""
        if not self.key_positions:
            return
        start, count = _span(k, "key.spans", first // chunk_of(k.target))
        head = k.unit % k.word("heads")
        table = k.address("key.table") + (head * self.key_positions + start) * self._row_bytes
        products = self._products(h)
        with k.loop(count, step=ROWS) as r:
            register_tile(
                k, self.key_width, ROWS, vectors,
                lambda f, i: table + (r + i) * self._row_bytes + f * FLOAT,
                lambda f: h.q.row(f) + first * FLOAT,
                lambda i, sums: k.store_row(sums, products.row(r + i)),
            )  # fmt: skip

    def before_keys(self, k: Emitter, h: Head, j: Value, first: Value, vectors: int) -> None:
        """P, for the positions that these queries have of these keys; then what the scores pick is
        put where the scores will be.
        """
        if self.query_positions:
            self._meet_queries(k, h, j, first)
        row_floats = k.word("place.queries")
        with k.loop(ROWS) as i, k.loop(vectors) as v:
            place = ((j + i) * row_floats + first + v * k.lanes) * FLOAT
            bases = {"key": self._products(h).base, "query": self._row_products(k, h).base}
            picked = [_pick(k, bases[term], f"{term}.offsets", place) for term in self._terms()]
            total = picked[0] if len(picked) == 1 else picked[0] + picked[1]
            k.store(total, h.scores.row(j + i) + v * (k.lanes * FLOAT))

    def more_of_sums(self, k: Emitter, h: Head, row: Value, sums: list[Value]) -> list[Value]:
        """With the products that `before_keys` has put in the place of the scores."""
        products = k.load_row(h.scores.row(row), len(sums))
        return [s + product for s, product in zip(sums, products, strict=True)]

    def _meet_queries(self, k: Emitter, h: Head, j: Value, first: Value) -> None:
        """P, a register tile and then a vector of positions at a time."""
        at = first // chunk_of(k.target) * k.word("place.blocks") + j // ROWS
        start, count = _span(k, "query.spans", at)
        row = pitch(self.query_positions) * FLOAT
        head = (k.unit % k.word("heads")) * (self.key_width * row)
        table = k.address("query.table") + (head + start * FLOAT)
        products = self._row_products(k, h)

        def meet(v: Value, vectors: int) -> None:
            offset = v * (k.lanes * FLOAT)
            register_tile(
                k, self.key_width, ROWS, vectors,
                lambda f, i: h.k.row(f) + (j + i) * FLOAT,
                lambda f: table + f * row + offset,
                lambda i, sums: k.store_row(sums, products.row(i) + offset),
                aligned=False,
            )  # fmt: skip

        widest = register_vectors(k.target)
        whole = count // widest * widest
        with k.loop(whole, step=widest) as v:
            meet(v, widest)
        with k.loop(count, start=whole) as v:
            meet(v, 1)

    @property
    def _row_bytes(self) -> int:
        """Of the key table."""
        return self.key_width * FLOAT

    def _products(self, h: Head) -> Scratch:
        """C: rows of one query a lane, behind the scores."""
        return Scratch(h.scores.row(h.keys + ROWS), h.scores.pitch)

    def _row_products(self, k: Emitter, h: Head) -> Scratch:
        """P: a row for each key of a register tile, behind C."""
        rows = self.key_positions + ROWS if self.key_positions else 0
        row = k.integer(pitch(self.query_positions) * FLOAT)
        return Scratch(self._products(h).row(rows), row)


def _span(k: Emitter, name: str, index: Value) -> tuple[Value, Value]:
    """The first position at hand, and the count of rows or vectors."""
    at = k.address(name) + index * 16
    return k.load_int(at, 64), k.load_int(at + 8, 64)


def _pick(k: Emitter, base: Value, offsets: str, place: Value) -> Value:
    """The products that a vector of scores finds at its offsets."""
    at = k.address(offsets) + place
    return k.vector(
        [k.load_float(base + k.load_int(at + lane * FLOAT, 32) * FLOAT) for lane in range(k.lanes)]
    )
