"""Counts the zeros of a weight, band of rows by band of rows, in every block shape at once.

A band stays in the cache while all shapes are counted in it (24 million elements take half as long
as at once), and of a weight that is read from a file no more than a band need be in memory.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunus.errors import InputError
from prunus.sparsity.blocks import Block, block_grid, check_block, occupied_blocks

N_OF_M: tuple[tuple[int, int], ...] = ((1, 4), (1, 2), (2, 4), (4, 8))
"""N:M patterns that are looked for, the sparsest first because it implies the looser ones."""

BAND_ELEMENTS = 1 << 19
"""Elements of a band, about: its mask of half a megabyte stays in a second-level cache."""

_MOST_ALLOWED = {m: max(n for n, other in N_OF_M if other == m) for _, m in N_OF_M}


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


class ZeroCounts:
    """The counts of a weight [rows, columns], complete once all of its rows have been added.

    Attributes:
        shape: Rows and columns.
        nonzeros: Number of elements that are not zero.
        live_rows: Which rows hold a nonzero, [rows].
        column_nonzeros: Number of nonzeros in each column, [columns].
        fullest: For each M of `N_OF_M` the most nonzeros in a group of M neighbouring columns.
            Counting ends with the band in which there are too many for every N.
    """

    def __init__(self, shape: tuple[int, int], blocks: Sequence[Block]) -> None:
        rows, columns = shape
        self.shape = shape
        self.nonzeros = 0
        self.live_rows = np.zeros(rows, np.bool_)
        self.column_nonzeros = np.zeros(columns, np.int64)
        self.fullest = dict.fromkeys(_MOST_ALLOWED, 0)
        self._blocks = tuple(check_block(block) for block in blocks)
        self._full = dict.fromkeys(self._blocks, 0)
        # Of each block column: the rows in its non-empty blocks, first those that are not empty.
        self._rows = {b: np.zeros((2, block_grid(shape, b)[1])) for b in self._blocks}
        self._added = 0

    @property
    def band_rows(self) -> int:
        """Rows of every band but the last: whole blocks of each shape."""
        rows, columns = self.shape
        step = min(math.lcm(*(block[0] for block in self._blocks)), max(rows, 1))
        return step * max(1, BAND_ELEMENTS // max(step * columns, 1))

    @property
    def live_columns(self) -> NDArray[np.bool_]:
        """Which columns hold a nonzero, [columns]."""
        return self.column_nonzeros > 0

    @property
    def inside(self) -> int:
        """Number of elements in the non-empty rows and columns."""
        return int(self.live_rows.sum()) * int(self.live_columns.sum())

    def add(self, band: NDArray[Any]) -> None:
        """Count the next rows, [band_rows, columns].

        Raises:
            InputError: they hold NaN or infinity.
        """
        mask = nonzero_mask(band, self.shape)
        first, self._added = self._added, self._added + len(mask)
        live = self.live_rows[first : self._added]
        np.any(mask, axis=1, out=live)
        self.nonzeros += int(np.count_nonzero(mask))
        self.column_nonzeros += np.count_nonzero(mask, axis=0)
        for size, allowed in _MOST_ALLOWED.items():
            if mask.size and self.fullest[size] <= allowed:
                most = int(_group_counts(mask, size).max())
                self.fullest[size] = max(self.fullest[size], most)
        for block, occupied in _occupied(mask, self._blocks):
            self._full[block] += int(np.count_nonzero(occupied))
            lines = np.stack([_count_by(each, block[0]) for each in (live, np.ones_like(live))])
            # Without BLAS, whose threads take longer to wake than this takes to compute.
            rows = np.einsum("wr,rc->wc", lines.astype(np.float32), occupied.astype(np.float32))
            self._rows[block] += rows

    def measures(self) -> tuple[BlockMeasure, ...]:
        """What each block shape makes of the weight, in the order given."""
        return tuple(map(self._measure, self._blocks))

    def _measure(self, block: Block) -> BlockMeasure:
        live_rows, live_columns = self.live_rows, self.live_columns
        live_by_column = _count_by(live_columns, block[1])
        live, every = self._rows[block]
        full, blocks = self._full[block], math.prod(block_grid(self.shape, block))
        reached = np.count_nonzero(_count_by(live_rows, block[0]))
        inside = int(reached) * int(np.count_nonzero(live_by_column))
        return BlockMeasure(
            block,
            empty=1 - full / blocks if blocks else 1.0,
            fill=_share(self.nonzeros, every, _count_by(np.ones_like(live_columns), block[1])),
            empty_inside=1 - full / inside if inside else 0.0,
            fill_inside=_share(self.nonzeros, live, live_by_column),
        )


def nonzero_mask(weight: NDArray[Any], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Which elements of (a part of) a weight of `shape` are not zero.

    Raises:
        InputError: some are NaN or infinite.
    """
    if not np.isfinite(weight).all():
        raise InputError(
            f"the weight {shape} holds NaN or infinity, expected finite values; "
            f"repair the checkpoint"
        )
    return np.ascontiguousarray(weight != 0)


def _occupied(
    mask: NDArray[np.bool_], blocks: Sequence[Block]
) -> Iterator[tuple[Block, NDArray[np.bool_]]]:
    """The non-empty blocks of each shape, grown out of the largest before it that divides it."""
    occupied: dict[Block, NDArray[np.bool_]] = {(1, 1): mask}
    for block in sorted(set(blocks), key=_area):
        if block not in occupied:
            part = max((b for b in occupied if _divides(b, block)), key=_area)
            factors = (block[0] // part[0], block[1] // part[1])
            occupied[block] = occupied_blocks(occupied[part], factors)
        yield block, occupied[block]


def _group_counts(mask: NDArray[np.bool_], size: int) -> NDArray[np.uint8]:
    """Number of nonzeros in each group of `size` neighbouring columns, [rows, groups]."""
    ones = mask.view(np.uint8)
    counts = ones[:, ::size].copy()
    for offset in range(1, size):
        neighbours = ones[:, offset::size]
        counts[:, : neighbours.shape[1]] += neighbours
    return counts


def _count_by(lines: NDArray[np.bool_], side: int) -> NDArray[np.float64]:
    """Number of true lines (rows or columns) in each block row or block column."""
    if not lines.size:
        return np.zeros(0)
    return np.add.reduceat(lines.astype(np.float64), np.arange(0, lines.size, side))


def _share(nonzeros: int, rows: NDArray[np.float64], columns: NDArray[np.float64]) -> float:
    """The share of nonzeros among the elements of blocks, rows times columns by block column."""
    elements = float(rows @ columns)
    return nonzeros / elements if elements else 0.0


def _area(block: Block) -> int:
    return block[0] * block[1]


def _divides(part: Block, block: Block) -> bool:
    return block[0] % part[0] == 0 and block[1] % part[1] == 0
