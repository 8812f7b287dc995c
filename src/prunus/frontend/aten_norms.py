"""ATen's norms, distances and similarities as ops of the graph.

PyTorch writes every norm of a vector as `linalg_vector_norm`: `x.norm(dim=-1)`, and the norm in
`F.normalize`. `torch.linalg.norm` stays an op of its own, for vectors and matrices.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from prunus.frontend.call import Call, Dim, Number, Value, axis, refuse, translates
from prunus.ir import Expr
from prunus.ir.types import broadcast_shapes

Axes = int | Sequence[int] | None
"""One axis, several, or all (None, or none)."""


@translates("linalg_vector_norm", "norm", "frobenius_norm")
def _vector_norm(
    call: Call, x: Value, ord: Number = 2, p: Number | None = None, dim: Axes = None,
    keepdim: bool = False, dtype: object = None,
) -> Value:  # fmt: skip
    """`norm` calls the order `p`, and 2 where there is none."""
    return _norm(call, call.cast(x, call.result.dtype), ord if p is None else p, dim, keepdim)


@translates("linalg_norm", "linalg_matrix_norm")
def _linalg_norm(
    call: Call, x: Value, ord: Number | str | None = None, dim: Axes = None,
    keepdim: bool = False, dtype: object = None,
) -> Value:  # fmt: skip
    """The norm of a vector for one axis or without an order, otherwise that of a matrix."""
    x = call.cast(x, call.result.dtype)
    axes = [dim] if isinstance(dim, int) else list(dim or range(x.rank))
    if ord in (None, "fro"):
        return _norm(call, x, 2, axes, keepdim)
    if not isinstance(ord, str) and len(axes) == 1:
        return _norm(call, x, ord, axes, keepdim)
    return _matrix_norm(call, x, ord, [axis(each, x.rank) for each in axes], keepdim)


def _matrix_norm(
    call: Call, x: Value, ord: Number | str | None, axes: Sequence[int], keepdim: bool
) -> Value:
    """The largest or smallest sum of magnitudes of a column (order ±1) or a row (±inf)."""
    if not isinstance(ord, int | float) or abs(ord) not in (1, math.inf):
        raise refuse(
            f"a matrix norm of order {ord!r}, which needs singular values,",
            "the orders 'fro', 1, -1, inf and -inf have one",
        )
    rows, columns = axes
    summed, compared = (rows, columns) if abs(ord) == 1 else (columns, rows)
    sums = call.reduce("sum", call.emit("abs", x), summed, True)
    best = _largest if ord > 0 else _smallest
    return call.reshape(best(call, sums, compared, True), call.result.shape)


@translates("cosine_similarity")
def _cosine_similarity(call: Call, x1: Value, x2: Value, dim: int = 1, eps: float = 1e-8) -> Value:
    """Each vector is divided by its norm, which is at least `eps`, before they are multiplied."""
    shape = broadcast_shapes(x1.shape, x2.shape)
    along = axis(dim, len(shape))
    left, right = (
        _normalized(call, call.cast(each, call.result.dtype), shape, along, eps)
        for each in (x1, x2)
    )
    return call.reduce("sum", call.emit("multiply", left, right), along, False)


def _normalized(call: Call, x: Value, shape: Sequence[Dim], along: int, eps: float) -> Value:
    """Vectors along an axis, broadcast along that axis alone before their norm is taken."""
    own = (*(1,) * (len(shape) - x.rank), *x.shape)
    x = call.expand(call.reshape(x, own), (*own[:along], shape[along], *own[along + 1 :]))
    norm = _norm(call, x, 2, along, True)
    return call.emit("divide", x, call.binary("maximum", norm, eps, x.dtype))


@translates("pairwise_distance")
def _pairwise_distance(
    call: Call, x1: Value, x2: Value, p: float = 2, eps: float = 1e-6, keepdim: bool = False
) -> Value:
    dtype = call.result.dtype
    difference = call.binary("add", call.binary("subtract", x1, x2, dtype), eps, dtype)
    return _norm(call, difference, p, -1, keepdim)


@translates("linalg_vecdot")
def _vector_product(call: Call, x: Value, y: Value, dim: int = -1) -> Value:
    return call.reduce("sum", call.binary("multiply", x, y, call.result.dtype), dim, False)


@translates("dot", "vdot")
def _dot(call: Call, x: Value, tensor: Value | None = None, other: Value | None = None) -> Value:
    y = tensor if tensor is not None else other
    assert y is not None, "the schema has one of them"
    return call.reduce("sum", call.binary("multiply", x, y, call.result.dtype), 0, False)


def _norm(call: Call, x: Value, order: Number, dim: Axes, keep: bool) -> Value:
    """The norm of a vector of any order; of order 0 it counts what is not 0."""
    if isinstance(order, Expr):
        raise refuse(f"a norm of order {order}", "use a number as the order")
    size = call.emit("abs", x)
    if order == math.inf:
        return _largest(call, size, dim, keep)
    if order == -math.inf:
        return _smallest(call, size, dim, keep)
    if order == 0:
        is_used = call.binary("not_equal", x, 0, x.dtype)
        return call.reduce("sum", call.cast(is_used, x.dtype), dim, keep)
    if order == 1:
        return call.reduce("sum", size, dim, keep)
    if order == 2:
        return call.emit("sqrt", call.reduce("sum", call.emit("multiply", x, x), dim, keep))
    total = call.reduce("sum", call.binary("power", size, order, x.dtype), dim, keep)
    return call.binary("power", total, 1 / order, x.dtype)


def _largest(call: Call, x: Value, dim: Axes, keep: bool) -> Value:
    return call.reduce("max", x, dim, keep)


def _smallest(call: Call, x: Value, dim: Axes, keep: bool) -> Value:
    return call.emit("negate", call.reduce("max", call.emit("negate", x), dim, keep))
