"""`BlockSparse`: the one canonical sparse weight, as in Block Compressed Sparse Row."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from prunus.errors import InputError
from prunus.sparsity.blocks import Block, block_grid, check_block, occupied_blocks

FloatArray: TypeAlias = NDArray[np.floating[Any]]

_MAX_SIDE = int(np.iinfo(np.int32).max)
"""Longest side of a matrix: its block columns are counted in int32."""

_DTYPES = (np.dtype(np.float16), np.dtype(np.float32), np.dtype(np.float64))


@dataclass(frozen=True, slots=True, eq=False)
class BlockSparse:
    """A weight [outputs, inputs] of which only the blocks with a nonzero are stored.

    Block row i holds the blocks `indptr[i]` to `indptr[i + 1]`; block b covers the columns from
    `indices[b] * block[1]`. Inside a block row the indices increase. Blocks may overhang the
    matrix's far edges; values out there are zero. 1×1 blocks are the unstructured case (CSR).

    Nothing is checked on construction: call `validate` on what came from outside.

    Attributes:
        shape: Rows (outputs) and columns (inputs) of the matrix.
        block: Rows r and columns c of a block.
        data: Values [blocks, r, c], float16, float32 or float64.
        indices: Block column of each block, int32 [blocks].
        indptr: First block of each block row, and the number of blocks: int64 [ceil(rows/r) + 1].
    """

    shape: tuple[int, int]
    block: Block
    data: FloatArray
    indices: NDArray[np.int32]
    indptr: NDArray[np.int64]

    @classmethod
    def from_dense(cls, weight: FloatArray, block: Block = (1, 1)) -> Self:
        """Store the blocks of `weight` [rows, columns] that hold a nonzero; -0.0 is a zero.

        Raises:
            InputError: `weight` is not a matrix of finite floats, or `block` is not a block.
        """
        check_block(block)
        if weight.ndim != 2 or weight.dtype not in _DTYPES:
            raise InputError(
                f"a block-sparse weight is made from a 2-D array of native float16, float32 or "
                f"float64, found {weight.dtype.str} {list(weight.shape)}; reshape or convert it"
            )
        shape = (weight.shape[0], weight.shape[1])
        grid = block_grid(shape, block)
        occupied = occupied_blocks(weight != 0, block)
        block_rows, block_columns = np.nonzero(occupied)
        # Indexing keeps the order of what it indexes, and a transposed weight is Fortran's.
        data = np.ascontiguousarray(_split(weight, block)[block_rows * grid[1] + block_columns])
        if not np.isfinite(data).all():
            raise InputError(
                "the weight holds NaN or infinity, expected finite values; repair the checkpoint"
            )
        indptr = np.zeros(grid[0] + 1, np.int64)
        np.cumsum(np.bincount(block_rows, minlength=grid[0]), out=indptr[1:])
        return cls(shape, block, data, block_columns.astype(np.int32), indptr)

    def to_dense(self) -> FloatArray:
        """The matrix [rows, columns], contiguous and with zeros where nothing is stored."""
        (rows, columns), (r, c) = self.shape, self.block
        grid = block_grid(self.shape, self.block)
        dense = np.zeros((grid[0], grid[1], r, c), self.data.dtype)
        dense[self._block_rows(), self.indices] = self.data
        joined = dense.transpose(0, 2, 1, 3).reshape(grid[0] * r, grid[1] * c)
        return np.ascontiguousarray(joined[:rows, :columns])

    def to_rows(self) -> "BlockSparse":
        """The same matrix in 1×1 blocks: only its nonzeros, row by row, columns increasing."""
        (r, c), rows = self.block, self.shape[0]
        if self.block == (1, 1) and self.nnz == self.stored:
            return self
        blocks, inner_rows, inner_columns = np.nonzero(self.data)
        row = self._block_rows()[blocks] * r + inner_rows
        column = self.indices[blocks] * np.int64(c) + inner_columns
        # Blocks come in the order of their columns, so a stable sort by row leaves columns sorted.
        order = np.argsort(row, kind="stable")
        indptr = np.zeros(rows + 1, np.int64)
        np.cumsum(np.bincount(row, minlength=rows), out=indptr[1:])
        values = self.data[blocks, inner_rows, inner_columns][order].reshape(-1, 1, 1)
        return BlockSparse(self.shape, (1, 1), values, column[order].astype(np.int32), indptr)

    @property
    def stored(self) -> int:
        """Number of stored values: all of each block, its zeros and its overhang included."""
        return self.data.size

    @property
    def nnz(self) -> int:
        """Number of nonzero values."""
        return int(np.count_nonzero(self.data))

    @property
    def density(self) -> float:
        """Share of the matrix's elements that are nonzero, 0 for a matrix without elements."""
        return self.nnz / max(self.shape[0] * self.shape[1], 1)

    @property
    def nbytes(self) -> int:
        """Bytes of the three arrays."""
        return self.data.nbytes + self.indices.nbytes + self.indptr.nbytes

    def validate(self) -> None:
        """Check everything that a kernel relies on.

        Raises:
            InputError: the first inconsistency found, whatever the fields hold.
        """
        check_block(self.block)
        for problems in (
            _shape_problems,
            _array_problems,
            _indptr_problems,
            _index_problems,
            _value_problems,
        ):
            for problem in problems(self):
                raise InputError(
                    f"block-sparse weight {self.shape} in {self.block[0]}x{self.block[1]} blocks: "
                    f"{problem}; build it again with BlockSparse.from_dense"
                )

    def _block_rows(self) -> NDArray[np.int64]:
        """Block row of each block, [blocks]."""
        return np.repeat(np.arange(len(self.indptr) - 1), np.diff(self.indptr))


def _split(weight: FloatArray, block: Block) -> FloatArray:
    """Cut a matrix into all of its blocks, [block rows · block columns, r, c], padded by zeros."""
    r, c = block
    grid = block_grid((weight.shape[0], weight.shape[1]), block)
    padded = (grid[0] * r, grid[1] * c)
    if padded != weight.shape:
        matrix = np.zeros(padded, weight.dtype)
        matrix[: weight.shape[0], : weight.shape[1]] = weight
        weight = matrix
    blocks = weight.reshape(grid[0], r, grid[1], c).transpose(0, 2, 1, 3)
    return blocks.reshape(grid[0] * grid[1], r, c)


# Each of the following presumes that those before it found nothing.


def _shape_problems(weight: BlockSparse) -> Iterator[str]:
    shape: object = weight.shape
    if not isinstance(shape, tuple) or len(shape) != 2 or not all(map(_is_side, shape)):
        yield f"a shape is a tuple of two integers from 0 to {_MAX_SIDE}"


def _is_side(value: object) -> bool:
    return type(value) is int and 0 <= value <= _MAX_SIDE


def _array_problems(weight: BlockSparse) -> Iterator[str]:
    fields: tuple[tuple[str, object, tuple[np.dtype[Any], ...], int], ...] = (
        ("data", weight.data, _DTYPES, 3),
        ("indices", weight.indices, (np.dtype(np.int32),), 1),
        ("indptr", weight.indptr, (np.dtype(np.int64),), 1),
    )
    for name, array, dtypes, dimensions in fields:
        if not isinstance(array, np.ndarray):
            yield f"{name} must be a numpy array, found {type(array).__name__}"
        elif array.dtype not in dtypes:
            yield f"{name} must be native {' or '.join(map(str, dtypes))}, found {array.dtype.str}"
        elif array.ndim != dimensions:
            yield f"{name} must have {dimensions} dimensions, found shape {array.shape}"
        elif not array.flags.c_contiguous:
            yield f"{name} must be C-contiguous, found strides {array.strides}"
    if weight.data.shape[1:] != weight.block:
        r, c = weight.block
        yield f"data must be [blocks, {r}, {c}], found {weight.data.shape}"
    if len(weight.data) != len(weight.indices):
        yield f"data holds {len(weight.data)} blocks, but indices {len(weight.indices)}"


def _indptr_problems(weight: BlockSparse) -> Iterator[str]:
    indptr, blocks = weight.indptr, len(weight.indices)
    block_rows = block_grid(weight.shape, weight.block)[0]
    if len(indptr) != block_rows + 1:
        yield f"indptr must have {block_rows + 1} entries, found {len(indptr)}"
    if indptr[0] != 0 or indptr[-1] != blocks:
        yield f"indptr must run from 0 to {blocks}, found {indptr[0]} to {indptr[-1]}"
    # Compared, not subtracted: a difference of hostile values may wrap around.
    falling = np.flatnonzero(indptr[1:] < indptr[:-1])
    if falling.size:
        yield f"indptr must not decrease, found that it does after entry {falling[0]}"


def _index_problems(weight: BlockSparse) -> Iterator[str]:
    indices = weight.indices
    block_columns = block_grid(weight.shape, weight.block)[1]
    outside = np.flatnonzero((indices < 0) | (indices >= block_columns))
    if outside.size:
        yield f"indices must lie in 0 to {block_columns - 1}, found {indices[outside[0]]}"
    rising = np.ones(len(indices) + 1, np.bool_)
    rising[1:-1] = indices[1:] > indices[:-1]
    rising[weight.indptr[:-1]] = True
    unsorted = np.flatnonzero(~rising)
    if unsorted.size:
        at = int(unsorted[0])
        yield (
            f"indices must increase inside a block row, found {indices[at]} after "
            f"{indices[at - 1]} at block {at}"
        )


def _value_problems(weight: BlockSparse) -> Iterator[str]:
    (rows, columns), (r, c) = weight.shape, weight.block
    if not np.isfinite(weight.data).all():
        yield "data must be finite, found NaN or infinity"
    grid = block_grid(weight.shape, weight.block)
    if rows % r and weight.data[weight.indptr[-2] :, rows % r :].any():
        yield "values below the last row must be zero, found others"
    if columns % c and weight.data[weight.indices == grid[1] - 1][:, :, columns % c :].any():
        yield "values right of the last column must be zero, found others"
