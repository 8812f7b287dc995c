"""Type and meaning of the op `attention`, relative positions included.

A score may have up to two terms that depend on how a query and a key lie to each other, as in
DeBERTa (He et al., "DeBERTa: Decoding-enhanced BERT with Disentangled Attention", 2021). For query
i and key j

    q_i · k_j  +  q_i · key_table[key_index[i, j]]  +  k_j · query_table[query_index[i, j]]

is multiplied by the scale, and then masked. A table is `[heads, positions, width of a head]`, an
index `[queries, keys]`; all sequences share both.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from prunus.errors import GraphError
from prunus.ir import numeric
from prunus.ir.rules import need_float
from prunus.ir.types import TensorType, broadcast_shapes


def attention_type(
    a: Any,
    q: TensorType,
    k: TensorType,
    v: TensorType,
    mask: TensorType | None = None,
    key_table: TensorType | None = None,
    key_index: TensorType | None = None,
    query_table: TensorType | None = None,
    query_index: TensorType | None = None,
) -> TensorType:
    """The type of the result.

    Raises:
        GraphError: the operands do not fit each other.
    """
    need_float(q, k, v, key_table, query_table)
    if not (q.rank == k.rank == v.rank >= 2 and k.shape[:-1] == v.shape[:-1]):
        raise GraphError(f"attention does not take {q}, {k}, {v}")
    widths = (t.shape[-1] for t in (q, k, v))
    if any(not isinstance(w, int) or w < a.heads or w % a.heads for w in widths):
        raise GraphError(f"{q}, {k}, {v} cannot be split into {a.heads} heads")
    if q.shape[-1] != k.shape[-1] or q.shape[:-2] != k.shape[:-2]:
        raise GraphError(f"the queries {q} and the keys {k} do not fit each other")
    if mask is not None:
        scores = (*q.shape[:-2], a.heads, q.shape[-2], k.shape[-2])
        if mask.dtype not in ("bool", q.dtype) or broadcast_shapes(mask.shape, scores) != scores:
            raise GraphError(
                f"the mask {mask} does not fit the scores {TensorType(q.dtype, scores)}"
            )
    _check_positions(a.heads, q, k, key_table, key_index)
    _check_positions(a.heads, q, k, query_table, query_index)
    return TensorType(q.dtype, (*q.shape[:-1], v.shape[-1]))


def attend(
    a: Any,
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    mask: np.ndarray | None = None,
    key_table: np.ndarray | None = None,
    key_index: np.ndarray | None = None,
    query_table: np.ndarray | None = None,
    query_index: np.ndarray | None = None,
) -> np.ndarray:
    """The op's meaning.

    Raises:
        GraphError: an index points outside its table.
    """
    return numeric.attention(
        q, k, v, mask, heads=a.heads, scale=a.scale, causal=a.causal,
        key_positions=_positions(key_table, key_index),
        query_positions=_positions(query_table, query_index),
    )  # fmt: skip


def _check_positions(
    heads: int, q: TensorType, k: TensorType, table: TensorType | None, index: TensorType | None
) -> None:
    """Raises GraphError unless there are a table and an index that fit, or neither."""
    if table is None and index is None:
        return
    if table is None or index is None:
        raise GraphError("attention takes a table of positions and its index together")
    if table.rank != 3 or table.shape[0] != heads or table.shape[2] * heads != q.shape[-1]:
        raise GraphError(f"{heads} heads of {q} do not take the table of positions {table}")
    if index.shape != (q.shape[-2], k.shape[-2]) or not index.is_integer:
        raise GraphError(f"attention of {q} to {k} does not take the index of positions {index}")


def _positions(
    table: np.ndarray | None, index: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray] | None:
    if table is None or index is None:
        return None
    if index.size and (index.min() < 0 or index.max() >= table.shape[1]):
        raise GraphError(f"an index of positions is outside 0…{table.shape[1] - 1}")
    return table, index
