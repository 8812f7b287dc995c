"""The kernel for dense weights and for r×c blocks: a register tile of a few outputs by a few
vectors of tokens.

A panel is up to 6 consecutive rows of the weight that read the same inputs: all of them (dense), or
those in the blocks of a block row. Each input's lanes are loaded once and used by every row of the
panel, so the FMAs bind and not the loads: with 6 rows by 4 vectors, 24 FMAs share 4 vector loads.
Sums stay in registers from the first input to the epilogue.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from prunus.kernels.cost import panel_share
from prunus.kernels.emit import Emitter, Value, vectors_of
from prunus.kernels.epilogue import Epilogue
from prunus.kernels.layout import FLOAT
from prunus.kernels.row_stream import split_rows
from prunus.kernels.spec import Kernel, tile_words
from prunus.kernels.target import Target
from prunus.sparsity import BlockSparse

MAX_ROWS = 6
"""Rows of a panel. With 4 vectors and their loads, 6 rows fill the 32 registers of AVX-512; with 2
vectors, the 16 of AVX2."""

VALUES_AHEAD = 4096
"""Bytes between a value and the one that is fetched while it is used. With few tokens a dense layer
waits for its weights: BERT-base at 1 × 16 tokens took 21.1 ms without this, 17.7 with 512, 16.9
with 1024 and 2048, 16.2 with 4096. Free at 128 tokens."""

_PANEL_WORDS = 5


def panel_rows(block_rows: int) -> int:
    """The rows of the panels that blocks of so many rows are cut into: few loads, few zeros."""
    return min(
        range(1, MAX_ROWS + 1),
        key=lambda rows: -(-block_rows // rows) * rows / panel_share(rows),
    )


@dataclass(frozen=True)
class Panels:
    """A weight [outputs, inputs] packed for the kernel.

    Attributes:
        rows: Rows of a panel in memory; absent ones are zero.
        table: Per panel the first and the number of its columns, its first value, its first row
            and the number of its rows: int64 [panels, 5].
        groups: Bounds of groups of panels with equal work: int64 [groups + 1].
        columns: The inputs that the panels read: int32; empty for a dense weight, which reads all.
        values: float32 [columns of each panel, rows].
    """

    rows: int
    table: np.ndarray
    groups: np.ndarray
    columns: np.ndarray
    values: np.ndarray

    @property
    def nbytes(self) -> int:
        """Bytes that a pass over the weight reads."""
        return self.table.nbytes + self.columns.nbytes + self.values.nbytes

    def arguments(self) -> dict[str, int]:
        """Argument words; the arrays must stay alive while the kernel runs."""
        return {
            "row_groups": len(self.groups) - 1,
            "table": self.table.ctypes.data,
            "groups": self.groups.ctypes.data,
            "columns": self.columns.ctypes.data,
            "values": self.values.ctypes.data,
        }


def pack_dense(weight: np.ndarray, *, groups: int) -> Panels:
    """Panels of a dense weight [outputs, inputs]."""
    outputs, inputs = weight.shape
    rows = max(1, min(MAX_ROWS, outputs))
    count = -(-outputs // rows)
    values = np.zeros((count, inputs, rows), np.float32)
    whole = outputs // rows
    values[:whole] = weight[: whole * rows].reshape(whole, rows, inputs).transpose(0, 2, 1)
    if whole < count:
        values[whole, :, : outputs - whole * rows] = weight[whole * rows :].T
    panel = np.arange(count)
    first_row = panel * rows
    table = np.column_stack(
        (
            np.zeros(count),
            np.full(count, inputs),
            panel * inputs * rows,
            first_row,
            np.minimum(rows, outputs - first_row),
        )
    )
    bounds = split_rows(np.ones(count), groups)
    return Panels(rows, table.astype(np.int64), bounds, np.empty(0, np.int32), values.reshape(-1))


def pack_blocks(weight: BlockSparse, *, groups: int) -> Panels:
    """Panels of an r×c block-sparse weight: each block row is cut into panels of at most 6 rows."""
    (outputs, inputs), (r, c) = weight.shape, weight.block
    rows = panel_rows(r)
    starts = np.arange(0, r, rows)
    block_rows = len(weight.indptr) - 1
    columns = (weight.indices[:, None] * np.int64(c) + np.arange(c)).reshape(-1)
    # Columns beyond the edge hold zeros; they are pointed at the last input, so that nothing is
    # read outside.
    columns = np.minimum(columns, max(inputs - 1, 0)).astype(np.int32)
    # data [blocks, r, c] → per panel of the block row [columns, rows], rows padded by zeros.
    padded = np.zeros((len(weight.indices), len(starts) * rows, c), np.float32)
    padded[:, :r] = weight.data
    stacked = padded.reshape(-1, len(starts), rows, c).transpose(0, 1, 3, 2)
    first, count = weight.indptr[:-1], np.diff(weight.indptr)
    values = [
        stacked[begin : begin + n].transpose(1, 0, 2, 3).reshape(-1)
        for begin, n in zip(first, count, strict=True)
    ]
    first_row = (np.arange(block_rows)[:, None] * r + starts).reshape(-1)
    in_block = np.minimum(rows, r - starts)
    width = np.repeat(count * c, len(starts))
    table = np.column_stack(
        (
            np.repeat(first * c, len(starts)),
            width,
            np.cumsum(width * rows) - width * rows,
            first_row,
            np.minimum(np.tile(in_block, block_rows), outputs - first_row),
        )
    ).astype(np.int64)
    table = np.ascontiguousarray(table[table[:, 4] > 0])
    bounds = split_rows(table[:, 1] + 1, groups)
    flat = np.concatenate(values) if values else np.empty(0, np.float32)
    return Panels(rows, table, bounds, columns, np.ascontiguousarray(flat, dtype=np.float32))


def register_vectors(target: Target) -> int:
    """Vectors of tokens in a register tile."""
    return 4 if target.registers >= 32 else 2


@dataclass(frozen=True)
class Panel(Kernel):
    """A group of panels on one token tile.

    Attributes:
        rows: Rows of a panel.
        indexed: Whether the panels name their inputs; a dense one reads all.
        epilogue: What happens to the sums.
    """

    rows: int = MAX_ROWS
    indexed: bool = False
    epilogue: Epilogue = field(default_factory=Epilogue)

    @property
    def parameters(self) -> tuple[str, ...]:
        """Activations, the bias, and the words of `Panels`."""
        panels = ("row_groups", "groups", "table", "columns", "values")
        return (*tile_words("x", "y"), *self.epilogue.parameters, "bias", *panels)

    @property
    def loads_per_fma(self) -> float:
        """The rows of a panel share the lanes."""
        return 1 / self.rows

    def emit(self, k: Emitter) -> None:
        """For each panel and each register tile of tokens: sum over the inputs, finish, store."""
        tile, group = k.unit // k.word("row_groups"), k.unit % k.word("row_groups")
        x, y = k.tile("x", tile, self.width), k.tile("y", tile, self.width)
        residual = k.tile("residual", tile, self.width) if self.epilogue.residual else None
        bounds = k.address("groups") + group * 8
        vectors = min(register_vectors(k.target), vectors_of(self.width, k.target))
        chunks = vectors_of(self.width, k.target) // vectors
        with k.loop(k.load_int(bounds + 8, 64), start=k.load_int(bounds, 64)) as panel:
            entry = k.address("table") + panel * (_PANEL_WORDS * 8)
            column, count, value, row, rows = (
                k.load_int(entry + 8 * i, 64) for i in range(_PANEL_WORDS)
            )
            columns = k.address("columns") + column * 4
            values = k.address("values") + value * FLOAT
            for chunk in range(chunks):
                offset = chunk * vectors * k.lanes * FLOAT
                sums = self._sums(k, x.row(0) + offset, columns, values, count, vectors)
                for i, lanes in self._present(k, sums, rows):
                    bias = k.broadcast(k.address("bias") + (row + i) * FLOAT)
                    added = None if residual is None else residual.row(row + i) + offset
                    finished = self.epilogue.finish(k, [lane + bias for lane in lanes], added)
                    k.store_row(finished, y.row(row + i) + offset)

    def _sums(
        self, k: Emitter, x: Value, columns: Value, values: Value, count: Value, vectors: int
    ) -> list[list[Value]]:
        """Σ over the inputs of weight · lanes, for every row of the panel."""
        sums = [[k.variable(k.splat(0.0)) for _ in range(vectors)] for _ in range(self.rows)]
        with k.loop(count) as i:
            column = k.load_int(columns + i * 4, 32) if self.indexed else i
            k.prefetch(values + (i * (self.rows * FLOAT) + VALUES_AHEAD))
            lanes = k.load_row(x + column * (self.width * FLOAT), vectors)
            for row in range(self.rows):
                weight = k.broadcast(values + i * (self.rows * FLOAT) + row * FLOAT)
                for total, lane in zip(sums[row], lanes, strict=True):
                    total.set(k.fma(weight, lane, total.get()))
        return [[total.get() for total in row] for row in sums]

    def _present(
        self, k: Emitter, sums: list[list[Value]], rows: Value
    ) -> Iterator[tuple[int, list[Value]]]:
        """The rows that the panel really has: the last one of a matrix or of a block may have
        fewer.
        """
        for i, lanes in enumerate(sums):
            with k.when(rows > i):
                yield i, lanes
