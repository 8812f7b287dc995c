"""The kernel for unstructured zeros: y[row] = Σ value · x[index], driven by a stream of nonzeros.

Tokens lie in the lanes, so a nonzero is one broadcast and an FMA for each vector of tokens,
whatever the pattern. Three things decide its speed (measured on BERT-base at 95 %, Zen 5):

- The inputs are cut into blocks that stay in the L1 cache: from L2 it runs at a third of the speed.
- Inside a block the rows are visited in the order of their counts, so the trip count of the inner
  loop changes only a dozen
  times a block. In natural order every row ends in a mispredicted branch: 7.9 instead of 5.2 ms.
- Values and 8-bit indices are streams of their own: 5 bytes a nonzero.

In large batches activations come from beyond the second cache, in an order that no prefetcher of
the processor guesses, so the kernel fetches them itself (16 tiles at 95 %, Zen 4): sums of the rows
to come 6–8 % less time, and inputs of the next block 16 % less where a tile has 3,072 of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from prunus.kernels.emit import Emitter, TileOperand, Value, Variable, vectors_of
from prunus.kernels.epilogue import Epilogue
from prunus.kernels.layout import FLOAT, LINE
from prunus.kernels.spec import Kernel, tile_words
from prunus.sparsity import BlockSparse

MAX_INPUT_BLOCK = 256
"""Indices are relative to their block and have 8 bits."""

ROW_COST = 2
"""What visiting a row costs besides its nonzeros, in nonzeros: the load and the store of its
sums."""

ROWS_AHEAD = 8
"""Visits from the fetch of a row's sums to their use. 4 and 16 are no better."""

LINES_AHEAD = 2
"""Cache lines of the next block of inputs that each visit fetches: a block has two to four times as
many lines as there are visits, and what is missing the processor waits for. At 2 tiles, where it is
of no use, this costs 2 %, and 4 lines would cost 6 %."""

VALUES_AHEAD = 1024
"""Bytes between a value and the one that is fetched while it is used; for indices a quarter. At
1 × 16 tokens, where weights come from the third cache: 0.60 instead of 0.70 ms for the first layers
of the feed-forward networks; 2048 is as good, 4096 runs out of the first cache. Free elsewhere."""

_GROUP_WORDS = 5


@dataclass(frozen=True)
class RowStreams:
    """A weight [outputs, inputs] packed for the kernel: one stream for each group of rows.

    Attributes:
        rows_total: Outputs.
        input_block: Inputs in a block.
        groups: Per group its first run, entry and nonzero, and its first and last row: int64
            [groups, 5].
        blocks: The number of runs in each block of each group: int32 [groups, blocks].
        runs: (nonzeros in a row, rows): int32 [runs, 2].
        entries: The row of each visit, and ROWS_AHEAD more that are only fetched: int32.
        indices: uint8 [nonzeros], relative to the block.
        values: float32 [nonzeros].
    """

    rows_total: int
    input_block: int
    groups: np.ndarray
    blocks: np.ndarray
    runs: np.ndarray
    entries: np.ndarray
    indices: np.ndarray
    values: np.ndarray

    @property
    def nbytes(self) -> int:
        """Bytes that a pass over the weight reads."""
        streams = (self.groups, self.blocks, self.runs, self.entries, self.indices, self.values)
        return sum(stream.nbytes for stream in streams)

    def arguments(self) -> dict[str, int]:
        """Argument words; the arrays must stay alive while the kernel runs."""
        return {
            "row_groups": len(self.groups),
            "input_blocks": self.blocks.shape[1],
            "groups": self.groups.ctypes.data,
            "blocks": self.blocks.ctypes.data,
            "runs": self.runs.ctypes.data,
            "entries": self.entries.ctypes.data,
            "indices": self.indices.ctypes.data,
            "values": self.values.ctypes.data,
        }


def split_rows(costs: np.ndarray, groups: int) -> np.ndarray:
    """The bounds [groups + 1] of contiguous groups of rows with about equal sums of `costs`."""
    total = np.concatenate(([0], np.cumsum(costs)))
    bounds = np.searchsorted(total, np.linspace(0, total[-1], groups + 1)[1:-1])
    return np.concatenate(([0], np.minimum(bounds, len(costs)), [len(costs)])).astype(np.int64)


def pack_row_streams(weight: BlockSparse, *, input_block: int, groups: int) -> RowStreams:
    """Sort the nonzeros of `weight` into streams: by group, block of inputs, count of the row, row,
    input.
    """
    assert 0 < input_block <= MAX_INPUT_BLOCK, "indices have 8 bits"
    weight = weight.to_rows()
    (outputs, inputs), nnz = weight.shape, weight.nnz
    blocks = max(1, -(-inputs // input_block))
    row = np.repeat(np.arange(outputs), np.diff(weight.indptr))
    cell = row * blocks + weight.indices // input_block
    counts = np.bincount(cell, minlength=outputs * blocks).reshape(outputs, blocks)
    bounds = split_rows(np.diff(weight.indptr) + ROW_COST * blocks, groups)

    # The order of visits: a visit is a row of one block; the first block has every row, since it
    # starts the sums.
    group = np.repeat(np.arange(groups), np.diff(bounds))
    block = np.arange(blocks)
    order = np.lexsort(
        tuple(
            np.broadcast_to(key, counts.shape).ravel()
            for key in (counts, block[None, :], group[:, None])
        )
    )
    sizes = counts.ravel()[order]
    visit = order[(sizes > 0) | (order % blocks == 0)]
    visit_row, visit_block, visit_count = visit // blocks, visit % blocks, counts.ravel()[visit]
    visit_group = group[visit_row]

    # Nonzeros move cell by cell: within a cell their order stays.
    cell_start = np.zeros(outputs * blocks, np.int64)
    cell_start[order] = np.cumsum(sizes) - sizes
    first_in_cell = np.concatenate(([0], np.cumsum(counts.ravel())[:-1]))
    target = cell_start[cell] + np.arange(nnz) - first_in_cell[cell]
    indices = np.empty(nnz, np.uint8)
    values = np.empty(nnz, np.float32)
    indices[target] = weight.indices % input_block
    values[target] = weight.data.reshape(-1)

    keys = np.stack((visit_group, visit_block, visit_count))
    new_run = np.concatenate(([True], (np.diff(keys, axis=1) != 0).any(axis=0)))[: len(visit)]
    run_start = np.flatnonzero(new_run)
    runs = np.stack((visit_count[run_start], np.diff(run_start, append=len(visit))), axis=1)
    run_cell = visit_group[run_start] * blocks + visit_block[run_start]
    run_counts = np.bincount(run_cell, minlength=groups * blocks).reshape(groups, blocks)
    per_group = np.stack(
        (
            run_counts.sum(axis=1),
            np.bincount(visit_group, minlength=groups),
            np.bincount(visit_group, weights=visit_count, minlength=groups).astype(np.int64),
        ),
        axis=1,
    )
    starts = np.cumsum(per_group, axis=0) - per_group
    table = np.column_stack((starts, bounds[:-1], bounds[1:])).astype(np.int64)
    return RowStreams(
        outputs,
        input_block,
        np.ascontiguousarray(table),
        run_counts.astype(np.int32),
        np.ascontiguousarray(runs, dtype=np.int32),
        np.concatenate((visit_row, np.zeros(ROWS_AHEAD))).astype(np.int32),
        indices,
        values,
    )


@dataclass(frozen=True)
class RowStream(Kernel):
    """One group of rows on one token tile, a block of inputs after the other.

    Attributes:
        input_block: Inputs in a block.
        epilogue: What happens to the sums.
        far: Whether the inputs may come from beyond the second cache, so that they are fetched a
            block ahead.
    """

    input_block: int = 192
    epilogue: Epilogue = field(default_factory=Epilogue)
    far: bool = False

    @property
    def parameters(self) -> tuple[str, ...]:
        """Activations, the bias, and the words of `RowStreams`."""
        streams = ("row_groups", "input_blocks", "groups", "blocks", "runs", "entries", "indices")
        return (*tile_words("x", "y"), *self.epilogue.parameters, "bias", *streams, "values")

    @property
    def loads_per_fma(self) -> float:
        """Each nonzero loads the lanes of its own input."""
        return 1.0

    def emit(self, k: Emitter) -> None:
        """Start the sums at the bias in the first block, add the other blocks, then activate."""
        tile, group = k.unit // k.word("row_groups"), k.unit % k.word("row_groups")
        x, y = k.tile("x", tile, self.width), k.tile("y", tile, self.width)
        table = k.address("groups") + group * (_GROUP_WORDS * 8)
        run0, entry0, nonzero0, row0, row1 = (
            k.load_int(table + 8 * i, 64) for i in range(_GROUP_WORDS)
        )
        stream = _Cursors(
            k.variable(k.address("runs") + run0 * 8),
            k.variable(k.address("entries") + entry0 * 4),
            k.variable(k.address("indices") + nonzero0),
            k.variable(k.address("values") + nonzero0 * FLOAT),
        )
        run_counts = k.address("blocks") + group * k.word("input_blocks") * 4

        vectors = vectors_of(self.width, k.target)
        residual = k.tile("residual", tile, self.width) if self.epilogue.residual else None
        linear = self.epilogue.activation == "none"

        def start(row: Value) -> list[Value]:
            sums = [k.broadcast(k.address("bias") + row * FLOAT)] * vectors
            if residual is None or not linear:
                return sums
            return self.epilogue.finish(k, sums, residual.row(row))

        def resume(row: Value) -> list[Value]:
            return k.load_row(y.row(row), vectors)

        def fetch_sums() -> None:
            row = k.load_int(stream.entries.get() + ROWS_AHEAD * 4, 32)
            fetch_lines(k, (residual or y).row(row), y.row_bytes // LINE)

        inputs_ahead = k.variable(x.row(self.input_block))

        def fetch_inputs() -> None:
            fetch_lines(k, inputs_ahead.step(LINES_AHEAD * LINE), LINES_AHEAD)

        fetch = [fetch_inputs] if self.far else []
        runs = k.load_int(run_counts, 32)
        self._block(k, stream, x, y, runs, start, [*fetch, fetch_sums])
        with k.loop(k.word("input_blocks"), start=1) as block:
            inputs = TileOperand(x.row(block * self.input_block), x.row_bytes)
            inputs_ahead.set(inputs.row(self.input_block))
            runs = k.load_int(run_counts + block * 4, 32)
            self._block(k, stream, inputs, y, runs, resume, fetch)
        if not linear:
            with k.loop(row1, start=row0) as row:
                added = None if residual is None else residual.row(row)
                sums = k.load_row(y.row(row), vectors)
                k.store_row(self.epilogue.finish(k, sums, added), y.row(row))

    def _block(
        self,
        k: Emitter,
        stream: _Cursors,
        x: TileOperand,
        y: TileOperand,
        runs: Value,
        begin: Callable[[Value], list[Value]],
        fetch: Sequence[Callable[[], None]],
    ) -> None:
        """y[row] (+)= Σ value · x[index], rows of equal count together so that no branch is
        mispredicted. Each visit also fetches what later ones need.
        """
        with k.loop(runs):
            run = stream.runs.step(8)
            count, rows = k.load_int(run, 32), k.load_int(run + 4, 32)
            with k.loop(rows):
                for each in fetch:
                    each()
                row = k.load_int(stream.entries.step(4), 32)
                k.prefetch(stream.values.get() + VALUES_AHEAD)
                k.prefetch(stream.indices.get() + VALUES_AHEAD // FLOAT)
                sums = [k.variable(value) for value in begin(row)]
                with k.loop(count):
                    value = k.broadcast(stream.values.step(FLOAT))
                    inputs = x.row(k.load_int(stream.indices.step(1), 8))
                    for total, lanes in zip(sums, k.load_row(inputs, len(sums)), strict=True):
                        total.set(k.fma(value, lanes, total.get()))
                k.store_row([total.get() for total in sums], y.row(row))


def fetch_lines(k: Emitter, address: Value, lines: int) -> None:
    """Prefetch so many cache lines."""
    for line in range(lines):
        k.prefetch(address + line * LINE)


@dataclass(frozen=True, slots=True)
class _Cursors:
    """Where a kernel stands in each of its streams."""

    runs: Variable
    entries: Variable
    indices: Variable
    values: Variable
