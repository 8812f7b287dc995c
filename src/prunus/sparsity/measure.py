"""Finds the pattern of a weight's zeros by looking at them; names and configs decide nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from prunus.errors import InputError
from prunus.sparsity.blocks import Block, check_block, occupied_blocks

Kind: TypeAlias = Literal["dense", "unstructured", "block", "n:m", "rows-columns", "empty"]

CANDIDATE_BLOCKS: tuple[Block, ...] = (
    *((side, 1) for side in (2, 4, 8, 16, 32)),
    *((1, side) for side in (2, 4, 8, 16, 32)),
    *((side, side) for side in (2, 4, 8, 16, 32)),
)
"""Block shapes that are measured: what published checkpoints use and kernels like, on both axes."""

N_OF_M: tuple[tuple[int, int], ...] = ((1, 4), (1, 2), (2, 4), (4, 8))
"""N:M patterns that are looked for, the sparsest first because it implies the looser ones."""

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
class BlockMeasure:
    """What one block shape makes of a weight.

    Attributes:
        block: Rows and columns of the block.
        empty: Share of all blocks that are empty, which need neither be stored nor computed.
        fill: Share of nonzeros in the other blocks, overhang left out.
        empty_inside: Share of empty blocks among those that meet a non-empty row and a non-empty
            column: what is left to skip after the empty rows and columns have been removed.
        fill_inside: Share of nonzeros in the non-empty blocks with empty rows and columns left out:
            a 16×16 block that an empty row crosses can still be full.
    """

    block: Block
    empty: float
    fill: float
    empty_inside: float
    fill_inside: float


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


@dataclass(frozen=True, slots=True)
class _Zeros:
    """A mask of the nonzeros [rows, columns] and the counts that every question below asks for."""

    mask: NDArray[np.bool_]
    nonzeros: int
    live_rows: NDArray[np.bool_]
    live_columns: NDArray[np.bool_]

    @property
    def inside(self) -> int:
        """Number of elements in the non-empty rows and columns."""
        return int(self.live_rows.sum()) * int(self.live_columns.sum())


def measure(weight: NDArray[Any], blocks: Sequence[Block] = CANDIDATE_BLOCKS) -> Pattern:
    """Measure the zeros of `weight` [outputs, inputs] and name what explains them.

    Raises:
        InputError: the weight is not 2-D or holds NaN or infinity, or a block shape is none.
    """
    mask = _nonzero_mask(weight)
    zeros = _Zeros(mask, int(np.count_nonzero(mask)), _any_along(mask, 1), _any_along(mask, 0))
    measures = _measure_blocks(zeros, [check_block(block) for block in blocks])
    n_of_m = _find_n_of_m(zeros)
    kind, block = _classify(zeros, measures, n_of_m)
    return Pattern(
        shape=(mask.shape[0], mask.shape[1]),
        zeros=(mask.size - zeros.nonzeros) / mask.size if mask.size else 1.0,
        blocks=measures,
        n_of_m=n_of_m,
        empty_rows=int(np.count_nonzero(~zeros.live_rows)),
        empty_columns=int(np.count_nonzero(~zeros.live_columns)),
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
    mask = _nonzero_mask(weight)
    if axis not in (0, 1):
        raise InputError(f"heads lie on axis 0 (rows) or 1 (columns), found axis {axis}")
    length = mask.shape[axis]
    if heads < 1 or length % heads:
        raise InputError(
            f"{heads} heads do not divide the {length} {('rows', 'columns')[axis]} of the weight "
            f"evenly; take the number of heads from the model's configuration"
        )
    live = _any_along(mask, 1 - axis)
    return ~_any_along(live.reshape(heads, length // heads), 1)


def _any_along(mask: NDArray[np.bool_], axis: int) -> NDArray[np.bool_]:
    """`mask.any(axis)`, whose type says that it is an array."""
    return np.asarray(mask.any(axis=axis))


def _nonzero_mask(weight: NDArray[Any]) -> NDArray[np.bool_]:
    if weight.ndim != 2:
        raise InputError(
            f"a weight is a matrix [outputs, inputs], found shape {weight.shape}; reshape it first"
        )
    if not np.isfinite(weight).all():
        raise InputError(
            f"the weight {weight.shape} holds NaN or infinity, expected finite values; "
            f"repair the checkpoint"
        )
    return np.ascontiguousarray(weight != 0)


def _measure_blocks(zeros: _Zeros, blocks: Sequence[Block]) -> tuple[BlockMeasure, ...]:
    """Measure each shape, growing a block out of the largest one before it that divides it."""
    occupied: dict[Block, NDArray[np.bool_]] = {(1, 1): zeros.mask}
    for block in sorted(blocks, key=_area):
        if block not in occupied:
            part = max((b for b in occupied if _divides(b, block)), key=_area)
            factors = (block[0] // part[0], block[1] // part[1])
            occupied[block] = occupied_blocks(occupied[part], factors)
    return tuple(_measure_block(zeros, block, occupied[block]) for block in blocks)


def _measure_block(zeros: _Zeros, block: Block, occupied: NDArray[np.bool_]) -> BlockMeasure:
    live_rows = _count_by(zeros.live_rows, block[0])
    live_columns = _count_by(zeros.live_columns, block[1])
    rows = _count_by(np.ones_like(zeros.live_rows), block[0])
    columns = _count_by(np.ones_like(zeros.live_columns), block[1])
    # Elements of the non-empty blocks: per block column in one product, then weighted and summed.
    # Without BLAS, whose threads take longer to wake than this takes to compute.
    weights = np.stack([live_rows, rows]).astype(np.float32)
    live, every = np.einsum("wr,rc->wc", weights, occupied.astype(np.float32))
    full = int(np.count_nonzero(occupied))
    inside = int(np.count_nonzero(live_rows)) * int(np.count_nonzero(live_columns))
    return BlockMeasure(
        block,
        empty=1 - full / occupied.size if occupied.size else 1.0,
        fill=_share(zeros.nonzeros, float(every @ columns)),
        empty_inside=1 - full / inside if inside else 0.0,
        fill_inside=_share(zeros.nonzeros, float(live @ live_columns)),
    )


def _count_by(lines: NDArray[np.bool_], side: int) -> NDArray[np.float64]:
    """Number of true lines (rows or columns) in each block row or block column."""
    if not lines.size:
        return np.zeros(0)
    return np.add.reduceat(lines.astype(np.float64), np.arange(0, lines.size, side))


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _classify(
    zeros: _Zeros, measures: tuple[BlockMeasure, ...], n_of_m: tuple[int, int] | None
) -> tuple[Kind, Block | None]:
    """Name what explains the zeros, the explanation that is easiest to exploit first."""
    if not zeros.nonzeros:
        return "empty", None
    size, inside = zeros.mask.size, zeros.inside
    if 1 - inside / size >= REMOVABLE_FROM and 1 - zeros.nonzeros / inside < DENSE_BELOW:
        return "rows-columns", None
    if 1 - zeros.nonzeros / size < DENSE_BELOW:
        return "dense", None
    explaining = [m for m in measures if _area(m.block) > 1 and _explains(m)]
    if explaining:
        return "block", max(explaining, key=lambda m: (_area(m.block), m.fill)).block
    return ("n:m", None) if n_of_m else ("unstructured", None)


def _explains(measured: BlockMeasure) -> bool:
    return (
        measured.empty_inside >= BLOCK_EMPTY
        and measured.fill >= BLOCK_FILL
        and measured.fill_inside >= BLOCK_FILL_INSIDE
    )


def _find_n_of_m(zeros: _Zeros) -> tuple[int, int] | None:
    """The sparsest N:M along the inputs that holds everywhere and that chance does not explain."""
    mask = zeros.mask
    if not zeros.nonzeros:
        return None
    fullest = {m: int(_group_counts(mask, m).max()) for m in {m for _, m in N_OF_M}}
    for n, m in N_OF_M:
        if fullest[m] <= n and _expected_violations(zeros, n, m) >= CHANCE_VIOLATIONS:
            return n, m
    return None


def _group_counts(mask: NDArray[np.bool_], size: int) -> NDArray[np.uint8]:
    """Number of nonzeros in each group of `size` neighbouring columns, [rows, groups]."""
    ones = mask.view(np.uint8)
    counts = ones[:, ::size].copy()
    for offset in range(1, size):
        neighbours = ones[:, offset::size]
        counts[:, : neighbours.shape[1]] += neighbours
    return counts


def _expected_violations(zeros: _Zeros, n: int, m: int) -> float:
    """Groups of `m` with more than `n` nonzeros if the zeros of each column fell by chance.

    Each column keeps its own density and empty rows are left out, so that neither high sparsity
    nor empty rows and columns pass for N:M.
    """
    columns = zeros.mask.shape[1]
    live_rows = int(zeros.live_rows.sum())
    groups = -(-columns // m)
    density = np.zeros(groups * m)
    density[:columns] = np.count_nonzero(zeros.mask, axis=0) / live_rows
    # Distribution of the number of nonzeros of a group, cut off above n: [groups, n + 1].
    chances = np.zeros((groups, n + 1))
    chances[:, 0] = 1
    for member in density.reshape(groups, m).T[:, :, np.newaxis]:
        gained = chances[:, :-1] * member
        chances *= 1 - member
        chances[:, 1:] += gained
    return live_rows * float((1 - chances.sum(axis=1)).sum())


def _area(block: Block) -> int:
    return block[0] * block[1]


def _divides(part: Block, block: Block) -> bool:
    return block[0] % part[0] == 0 and block[1] % part[1] == 0


def _percent(share: float) -> str:
    """A share as a percentage that says 100 only of everything."""
    rounded = f"{100 * share:.1f} %"
    return "over 99.9 %" if rounded == "100.0 %" and share < 1 else rounded
