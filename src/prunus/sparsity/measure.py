"""Finds the pattern of a weight's zeros by looking at them; names and configs decide nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from prunus.errors import InputError
from prunus.sparsity.blocks import Block
from prunus.sparsity.count import N_OF_M, BlockMeasure, ZeroCounts, nonzero_mask

Kind: TypeAlias = Literal["dense", "unstructured", "block", "n:m", "rows-columns", "empty"]

CANDIDATE_BLOCKS: tuple[Block, ...] = (
    *((side, 1) for side in (2, 4, 8, 16, 32)),
    *((1, side) for side in (2, 4, 8, 16, 32)),
    *((side, side) for side in (2, 4, 8, 16, 32)),
)
"""Block shapes that are measured: what published checkpoints use and kernels like, on both axes."""

DENSE_BELOW = 0.10
"""Fewer zeros than this are no pruning. Rounding makes some: a dense weight that went through int8
with outliers at 20 standard deviations comes back 6 % zero."""

REMOVABLE_FROM = 0.01
"""Share of a matrix that must lie in empty rows and columns to call it pruned by them; dense
checkpoints have a dead feature here and there."""

BLOCK_FILL_INSIDE = 0.95
"""Fill of the non-empty blocks, empty rows and columns left out, from which a block shape explains
the zeros."""

BLOCK_FILL = 0.70
"""Fill of the same blocks, empty rows and columns included, that is needed as well. Where every
second column is empty, 1×2 blocks have one element to fill and are full whatever the pattern is."""

BLOCK_EMPTY = 0.10
"""Share of empty blocks from which a block shape explains the zeros."""

CHANCE_VIOLATIONS = 16.0
"""Groups that must be expected to break N:M by chance before their absence proves anything: with 16
expected, none is seen with probability exp(-16), about 1e-7."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """The measured zeros of a weight [outputs, inputs].

    Attributes:
        shape: Rows (outputs) and columns (inputs).
        zeros: Share of elements that are zero; 1 for a matrix without elements.
        blocks: One measure for each candidate block shape, in the order given.
        n_of_m: N and M when every group of M inputs holds at most N nonzeros and chance does not
            explain it.
        empty_rows: Number of rows without a nonzero.
        empty_columns: Number of columns without a nonzero.
        kind: What explains the zeros.
        block: The block shape when `kind` is "block".
    """

    shape: tuple[int, int]
    zeros: float
    blocks: tuple[BlockMeasure, ...]
    n_of_m: tuple[int, int] | None
    empty_rows: int
    empty_columns: int
    kind: Kind
    block: Block | None

    def of(self, block: Block) -> BlockMeasure:
        """The measure of one block shape; 1×1 always has one.

        Raises:
            InputError: the shape was not among the candidates.
        """
        if block == (1, 1):
            inside = (self.shape[0] - self.empty_rows) * (self.shape[1] - self.empty_columns)
            nonzeros = (1 - self.zeros) * self.shape[0] * self.shape[1]
            return BlockMeasure(
                block,
                empty=self.zeros,
                fill=1.0 if inside else 0.0,
                empty_inside=max(0.0, 1 - nonzeros / inside) if inside else 0.0,
                fill_inside=1.0 if inside else 0.0,
            )
        for measured in self.blocks:
            if measured.block == block:
                return measured
        raise InputError(
            f"blocks of {block[0]}x{block[1]} were not measured; name them in "
            f"`measure(…, blocks=…)`"
        )

    def describe(self) -> str:
        """One sentence, e.g. "94.1 % zero, unstructured; 212 of 3072 rows empty"."""
        rows, columns = self.shape
        if self.kind == "empty":
            return "empty, not one nonzero" if rows * columns else f"empty, {rows}×{columns}"
        lines = (
            f"{empty} of {total} {name}"
            for empty, total, name in (
                (self.empty_rows, rows, "rows"),
                (self.empty_columns, columns, "columns"),
            )
            if empty
        )
        removable = " and ".join(lines)
        sentence = f"{_percent(self.zeros)} zero, {self._explain()}"
        return f"{sentence}; {removable} empty" if removable else sentence

    def _explain(self) -> str:
        if self.block is not None:
            return (
                f"{self.block[0]}×{self.block[1]} blocks {_percent(self.of(self.block).fill)} full"
            )
        if self.kind == "n:m" and self.n_of_m is not None:
            return f"{self.n_of_m[0]}:{self.n_of_m[1]} along the inputs"
        return "whole rows or columns" if self.kind == "rows-columns" else self.kind


def measure(weight: NDArray[Any], blocks: Sequence[Block] = CANDIDATE_BLOCKS) -> Pattern:
    """Measure the zeros of `weight` [outputs, inputs] and name what explains them.

    Raises:
        InputError: the weight is not 2-D or holds NaN or infinity, or a block shape is none.
    """
    counts = ZeroCounts(_check_matrix(weight), blocks)
    for first in range(0, len(weight), counts.band_rows):
        counts.add(weight[first : first + counts.band_rows])
    return explain_zeros(counts)


def explain_zeros(counts: ZeroCounts) -> Pattern:
    """Name what explains the zeros that were counted, all rows of the weight added."""
    measures = counts.measures()
    n_of_m = _find_n_of_m(counts)
    kind, block = _classify(counts, measures, n_of_m)
    size = counts.shape[0] * counts.shape[1]
    return Pattern(
        shape=counts.shape,
        zeros=(size - counts.nonzeros) / size if size else 1.0,
        blocks=measures,
        n_of_m=n_of_m,
        empty_rows=int(np.count_nonzero(~counts.live_rows)),
        empty_columns=int(np.count_nonzero(~counts.live_columns)),
        kind=kind,
        block=block,
    )


def empty_heads(weight: NDArray[Any], heads: int, axis: int) -> NDArray[np.bool_]:
    """Tell which attention heads have no nonzero in `weight` [outputs, inputs], as [heads].

    Args:
        weight: A projection of the attention.
        heads: Number of heads, which divide the axis evenly and lie one after the other.
        axis: 0 where heads are rows (query, key, value), 1 where they are columns (the output
            projection).

    Raises:
        InputError: the heads do not divide the axis, there is no such axis, or `weight` is not 2-D
            or holds NaN or infinity.
    """
    mask = nonzero_mask(weight, _check_matrix(weight))
    if axis not in (0, 1):
        raise InputError(f"heads lie on axis 0 (rows) or 1 (columns), found axis {axis}")
    length = mask.shape[axis]
    if heads < 1 or length % heads:
        raise InputError(
            f"{heads} heads do not divide the {length} {('rows', 'columns')[axis]} of the weight "
            f"evenly; take the number of heads from the model's configuration"
        )
    return ~lines_by_head(np.asarray(mask.any(axis=1 - axis)), heads)


def lines_by_head(live: NDArray[np.bool_], heads: int) -> NDArray[np.bool_]:
    """Which heads have a nonzero, [heads], from which of their rows or columns have one."""
    return np.asarray(live.reshape(heads, -1).any(axis=1))


def _check_matrix(weight: NDArray[Any]) -> tuple[int, int]:
    """The shape of a matrix."""
    if weight.ndim != 2:
        raise InputError(
            f"a weight is a matrix [outputs, inputs], found shape {weight.shape}; reshape it first"
        )
    return weight.shape[0], weight.shape[1]


def _classify(
    counts: ZeroCounts, measures: tuple[BlockMeasure, ...], n_of_m: tuple[int, int] | None
) -> tuple[Kind, Block | None]:
    """Name what explains the zeros, the explanation that is easiest to exploit first."""
    if not counts.nonzeros:
        return "empty", None
    size, inside = counts.shape[0] * counts.shape[1], counts.inside
    if 1 - inside / size >= REMOVABLE_FROM and 1 - counts.nonzeros / inside < DENSE_BELOW:
        return "rows-columns", None
    if 1 - counts.nonzeros / size < DENSE_BELOW:
        return "dense", None
    explaining = [m for m in measures if m.block != (1, 1) and _explains(m)]
    if explaining:
        largest = max(explaining, key=lambda m: (m.block[0] * m.block[1], m.fill))
        return "block", largest.block
    return ("n:m", None) if n_of_m else ("unstructured", None)


def _explains(measured: BlockMeasure) -> bool:
    return (
        measured.empty_inside >= BLOCK_EMPTY
        and measured.fill >= BLOCK_FILL
        and measured.fill_inside >= BLOCK_FILL_INSIDE
    )


def _find_n_of_m(counts: ZeroCounts) -> tuple[int, int] | None:
    """The sparsest N:M along the inputs that holds everywhere and that chance does not explain."""
    if not counts.nonzeros:
        return None
    for n, m in N_OF_M:
        holds = counts.fullest[m] <= n
        if holds and _expected_violations(counts, n, m) >= CHANCE_VIOLATIONS:
            return n, m
    return None


def _expected_violations(counts: ZeroCounts, n: int, m: int) -> float:
    """Groups of `m` with more than `n` nonzeros if the zeros of each column fell by chance.

    Each column keeps its own density and empty rows are left out, so that neither high sparsity
    nor empty rows and columns pass for N:M.
    """
    columns = counts.shape[1]
    live_rows = int(counts.live_rows.sum())
    groups = -(-columns // m)
    density = np.zeros(groups * m)
    density[:columns] = counts.column_nonzeros / live_rows
    # Distribution of the number of nonzeros of a group, cut off above n: [groups, n + 1].
    chances = np.zeros((groups, n + 1))
    chances[:, 0] = 1
    for member in density.reshape(groups, m).T[:, :, np.newaxis]:
        gained = chances[:, :-1] * member
        chances *= 1 - member
        chances[:, 1:] += gained
    return live_rows * float((1 - chances.sum(axis=1)).sum())


def _percent(share: float) -> str:
    """A share as a percentage that says 100 only of everything."""
    rounded = f"{100 * share:.1f} %"
    return "over 99.9 %" if rounded == "100.0 %" and share < 1 else rounded
