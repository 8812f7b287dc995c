"""A tensor, read once → its report."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunus.inspection.result import TensorReport
from prunus.inspection.roles import Heads, Place
from prunus.inspection.tensors import FLOATS, Tensor
from prunus.passes.sparsify import STORE_FROM
from prunus.plan import Options
from prunus.plan.linear import estimate
from prunus.sparsity import (
    CANDIDATE_BLOCKS,
    Pattern,
    ZeroCounts,
    block_grid,
    explain_zeros,
    lines_by_head,
)

_TABLE = "a table: its rows are looked up, so that zeros save no work"
_CONVOLUTION = "a convolution of several taps: prunus decides on it when it compiles"
_NEITHER = "neither a linear layer nor a table: zeros save no work"


def measure_tensor(
    name: str, tensor: Tensor, place: Place, heads: Heads | None, options: Options
) -> TensorReport:
    """The report of a tensor.

    Args:
        name: Its name.
        tensor: What is measured.
        place: What it is.
        heads: How heads lie in it, if it has some.
        options: Of the compilation that is asked about.

    Raises:
        InputError: it holds NaN or infinity.
        CheckpointError: its form on disk is damaged.
    """
    counts = _counted(tensor, place)
    pattern = explain_zeros(counts) if place.matrix is not None else None
    kernel, reason, speedup = _decision(place, tensor, pattern, options)
    return TensorReport(
        name,
        tensor.shape,
        tensor.dtype,
        place.role,
        tensor.size,
        tensor.size - counts.nonzeros,
        pattern,
        None if heads is None else _empty_heads(counts, heads),
        kernel,
        reason,
        speedup,
        tensor.nbytes,
        _compressed_bytes(tensor, place, pattern),
    )


def _counted(tensor: Tensor, place: Place) -> ZeroCounts:
    """The zeros, of a matrix in every block shape."""
    if place.matrix is not None:
        matrix, blocks = place.matrix, CANDIDATE_BLOCKS
    else:
        columns = tensor.shape[-1] if tensor.shape else 1
        matrix, blocks = (tensor.size // max(columns, 1), columns), ()
    counts = ZeroCounts(matrix, blocks)
    for band in _bands(tensor, place, counts.band_rows, matrix):
        counts.add(band)
    return counts


def _bands(
    tensor: Tensor, place: Place, rows: int, matrix: tuple[int, int]
) -> Iterator[NDArray[Any]]:
    """The matrix in bands of so many rows; one that is stored transposed is read whole."""
    if not place.transposed:
        yield from tensor.bands(rows, matrix[1])
        return
    for whole in tensor.bands(matrix[1], matrix[0]):
        for first in range(0, matrix[0], rows):
            yield whole.T[first : first + rows]


def _empty_heads(counts: ZeroCounts, heads: Heads) -> int:
    live = counts.live_columns if heads.axis else counts.live_rows
    by_part = lines_by_head(live, heads.parts * heads.count).reshape(heads.parts, heads.count)
    return int(np.count_nonzero(~by_part.any(axis=0)))


def _decision(
    place: Place, tensor: Tensor, pattern: Pattern | None, options: Options
) -> tuple[str | None, str, float | None]:
    """The kernel, the reason and the estimated speed-up over dense."""
    if place.role == "embedding":
        return None, _TABLE, None
    if place.role == "other" or pattern is None:
        is_convolution = len(tensor.shape) in (3, 4) and tensor.dtype in FLOATS
        return None, _CONVOLUTION if is_convolution else _NEITHER, None
    if not tensor.size:
        return None, "has no elements", None
    found = estimate(pattern, options)
    return found.label, found.reason, found.speedup


def _compressed_bytes(tensor: Tensor, place: Place, pattern: Pattern | None) -> int:
    """Bytes that `prunus.runtime.saved_constants` writes: float32, and of blocks their values,
    16-bit columns and 32-bit starts of rows.
    """
    if tensor.dtype not in FLOATS:
        return tensor.nbytes
    if pattern is None or place.role != "linear" or pattern.zeros < STORE_FROM or not tensor.size:
        return 4 * tensor.size
    block = pattern.block or (1, 1)
    rows, columns = block_grid(pattern.shape, block)
    blocks = round((1 - pattern.of(block).empty) * rows * columns)
    index = 2 if columns <= 1 << 16 else 4
    return blocks * (4 * block[0] * block[1] + index) + 4 * (rows + 1)
