"""What the host computes for native steps, by name: a program names these functions and their
attributes, so that it is data.

An attribute that depends on sizes is evaluated before the function sees it. Kernels trust what
these functions return: each checks every index that it hands on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np

from prunus.ir import OPS, round_up
from prunus.ir.indices import check_indices
from prunus.kernels.layout import QUANTUM
from prunus.kernels.relative import places_of_keys, places_of_queries
from prunus.runtime.packing import Packing

FeedFunction: TypeAlias = Callable[..., np.ndarray]
"""The attributes and the arrays of the plain values → a C-contiguous array."""

DerivedFunction: TypeAlias = Callable[[Any], np.ndarray]
"""The attributes → an array."""

PackingFunction: TypeAlias = Callable[[Any, Packing], "int | np.ndarray"]
"""The attributes and the packing of a call → a number or an array."""


# Of plain values


def _tokens(a: Any, x: np.ndarray) -> np.ndarray:
    """float32 of a shape that `x` broadcasts to."""
    return np.ascontiguousarray(np.broadcast_to(x, a.shape), dtype=np.float32)


def _ids(a: Any, ids: np.ndarray) -> np.ndarray:
    """The rows of a table that are looked up: int64, one for each token of a shape."""
    check_indices({a.name: a.rows}, {a.name: ids})
    return np.ascontiguousarray(np.broadcast_to(ids, a.shape), dtype=np.int64).reshape(-1)


def _added(a: Any, mask: np.ndarray, last: tuple[int, ...]) -> np.ndarray:
    """A mask as numbers to add to the scores, [*lead, *last]."""
    if mask.dtype == bool:
        mask = np.where(mask, np.float32(0), np.float32(-np.inf))
    mask = mask.reshape((1,) * (len(a.lead) + 3 - mask.ndim) + mask.shape)
    return np.broadcast_to(mask, (*a.lead, *last))


def _key_mask(a: Any, mask: np.ndarray) -> np.ndarray:
    """A number for each key, float32 [*lead, 1, 1, keys]."""
    return np.ascontiguousarray(_added(a, mask, (1, 1, a.key_tokens)), dtype=np.float32)


def _full_mask(a: Any, mask: np.ndarray) -> np.ndarray:
    """A number for each score, float32 [*lead, heads or 1, keys, queries in whole quanta]."""
    whole = _added(a, mask, (a.heads, a.query_tokens, a.key_tokens)).swapaxes(-1, -2)
    padded = np.zeros((*whole.shape[:-1], round_up(a.query_tokens, QUANTUM)), np.float32)
    padded[..., : a.query_tokens] = whole
    return padded


FEEDS: Mapping[str, FeedFunction] = {
    "tokens": _tokens,
    "ids": _ids,
    "key mask": _key_mask,
    "full mask": _full_mask,
    "offsets of queries": lambda a, index: _places(places_of_queries, a, index).offsets,
    "spans of queries": lambda a, index: _places(places_of_queries, a, index).spans,
    "offsets of keys": lambda a, index: _places(places_of_keys, a, index).offsets,
    "spans of keys": lambda a, index: _places(places_of_keys, a, index).spans,
}


def _places(locate: Callable[..., Any], a: Any, index: np.ndarray) -> Any:
    return locate(index, a.positions, chunk=a.chunk, lanes=a.lanes)


# Of sizes


def _selected(a: Any) -> np.ndarray:
    """The tokens of a value [*shape] that an op selects: int64."""
    tokens = np.arange(math.prod(a.shape), dtype=np.int64).reshape(a.shape)
    found = np.asarray(OPS[a.op].meaning(a, tokens))
    return np.ascontiguousarray(found).reshape(-1)


DERIVED: Mapping[str, DerivedFunction] = {
    "rows": lambda a: np.arange(a.tokens, dtype=np.int64),
    "starts": lambda a: np.arange(a.count + 1) * a.length,
    "selected": _selected,
}


# Of the packing of a call

OF_PACKING: Mapping[str, PackingFunction] = {
    "count": lambda a, packing: packing.count,
    "rows": lambda a, packing: packing.rows,
    "starts": lambda a, packing: packing.starts,
    "selected": lambda a, packing: packing.find(_selected(a)),
}
