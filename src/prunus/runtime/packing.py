"""Padding left out: the real tokens of a padded batch lie one sequence after the other.

A batch [batch, length] whose mask says that each sequence is so many tokens and then padding is
computed on those tokens alone. Attention gets where each sequence begins, the way in and out of
tiles which token of the batch each one is; all other kernels only see fewer tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from prunus.ir import Expr
from prunus.ir.dims import internal_symbol

COMPUTED_TOKENS = internal_symbol("tokens")
"""The tokens that are computed: batch · length where nothing is padding."""

TOKENS = str(COMPUTED_TOKENS)

MASKED = -1e30
"""A mask that adds less than this hides its key: models write -inf or the least float32, and no
score comes near."""


@dataclass(frozen=True, slots=True)
class PackingRule:
    """How the padding of a program's calls is known.

    Attributes:
        batch: Sequences of a call.
        length: Tokens of each, padding included.
        mask: The plain value [batch, 1, 1, length] that says for each key whether it is real; None
            where the program knows no padding.
        splits: Whether inputs and outputs have the batch in front and no sequence reads another,
            so that a call may run in parts.
    """

    batch: int | Expr
    length: int | Expr
    mask: str | None
    splits: bool


@dataclass(frozen=True, slots=True, eq=False)
class Packing:
    """The tokens of one call.

    Attributes:
        count: How many.
        starts: The first token of each sequence, and the end: int64 [batch + 1].
        rows: Of each token its place in the padded batch: int64 [count].
        whole: Whether nothing is left out.
    """

    count: int
    starts: np.ndarray
    rows: np.ndarray
    whole: bool

    def pack(self, array: np.ndarray) -> np.ndarray:
        """The rows of the computed tokens of an array [batch · length, …]."""
        return array if self.whole else array[self.rows]

    def find(self, places: np.ndarray) -> np.ndarray:
        """The tokens at these places of the padded batch, which must be computed ones."""
        return places if self.whole else np.searchsorted(self.rows, places)


@lru_cache(maxsize=32)
def whole(batch: int, length: int) -> Packing:
    """Every token of a batch without padding."""
    count = batch * length
    return Packing(count, np.arange(batch + 1) * length, np.arange(count), True)


def packed(lengths: np.ndarray, length: int) -> Packing:
    """The first `lengths[i]` tokens of each sequence i of a batch that is padded to `length`."""
    starts = np.concatenate(([0], np.cumsum(lengths)))
    real = np.arange(length) < lengths[:, None]
    return Packing(int(starts[-1]), starts, np.flatnonzero(real), False)


def lengths_of(mask: np.ndarray, batch: int, length: int) -> np.ndarray | None:
    """The real tokens of each sequence [batch], where the mask has that form: real keys, at least
    one, and then hidden ones. None for any other mask.

    `mask` is boolean (True is real) or is added to the scores, and broadcasts to
    [batch, 1, 1, length].
    """
    if mask.dtype == bool:
        real = mask
    else:
        real = mask == 0
        if not (real | (mask < MASKED)).all():
            return None
    real = np.broadcast_to(real, (batch, 1, 1, length)).reshape(batch, length)
    lengths = real.sum(axis=1)
    is_prefix = np.array_equal(real, np.arange(length) < lengths[:, None])
    return lengths if is_prefix and (lengths > 0).all() else None
