"""Large batches in parts: how many tokens a call computes at once."""

from __future__ import annotations

from functools import cache

import numpy as np

from prunus.kernels.layout import TILE
from prunus.kernels.processor import read_caches

MAX_TOKENS = 16384
"""At most, so that memory has a bound: about 250 MB for BERT-base."""

TILES = 4
"""Tiles of each worker, where the weights stay in the last cache: then it is the activations that
should be few. BERT-base at 95 % (25 MB of weights), 8 × 128 tokens, two workers on Zen 4: 98 ms in
parts of 256 or 512 tokens, 107 to 114 as a whole. At 90 % (51 MB) parts would cost 5 %, and for
dense weights it makes no difference."""


def most_tokens(weight_bytes: int, workers: int) -> int:
    """Tokens that are computed at once.

    Args:
        weight_bytes: What a pass over all weights reads.
        workers: How many share it.
    """
    if weight_bytes > _last_cache():
        return MAX_TOKENS
    return min(MAX_TOKENS, TILES * TILE * workers)


@cache
def _last_cache() -> int:
    """Bytes of the largest cache; 0 where the system does not say."""
    return max(read_caches().values(), default=0)


def divide(starts: np.ndarray, most: int) -> list[int]:
    """The bounds of parts of at most so many tokens, but at least one sequence.

    Args:
        starts: The first token of each sequence, and the end: int64 [batch + 1].
        most: Tokens.
    """
    bounds = [0]
    while bounds[-1] < len(starts) - 1:
        first = bounds[-1]
        fitting = int(np.searchsorted(starts, starts[first] + most, side="right")) - 1
        bounds.append(max(fitting, first + 1))
    return bounds
