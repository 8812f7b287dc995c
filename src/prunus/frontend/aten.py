"""ATen's arithmetic, reductions and layers as ops of the graph; `aten_shapes` has the rest.

Each function is named after what it translates. It gets the arguments of ATen's schema by name and
writes what they mean; arguments that cannot change a result on a CPU are not handed to it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from prunus.frontend.call import Call, Dim, Number, Value, axis, refuse, translates
from prunus.ir import Expr, product

# Elementwise

UNARY = {
    "tanh": "tanh", "sigmoid": "sigmoid", "silu": "silu", "erf": "erf", "special_erf": "erf",
    "exp": "exp", "log": "log", "sqrt": "sqrt", "rsqrt": "rsqrt", "neg": "negate",
    "negative": "negate", "abs": "abs", "absolute": "abs", "sign": "sign", "sgn": "sign",
    "cos": "cos", "sin": "sin", "ceil": "ceil", "floor": "floor",
}  # fmt: skip
BINARY = {
    "mul": "multiply", "multiply": "multiply", "pow": "power", "minimum": "minimum",
    "maximum": "maximum",
}  # fmt: skip
COMPARISONS = {
    "eq": "equal", "ne": "not_equal", "lt": "less", "le": "less_equal", "gt": "greater",
    "ge": "greater_equal", "less": "less", "less_equal": "less_equal", "greater": "greater",
    "greater_equal": "greater_equal", "not_equal": "not_equal",
}  # fmt: skip
LOGIC = {
    "logical_and": "and", "logical_or": "or", "logical_xor": "not_equal", "__and__": "and",
    "bitwise_and": "and", "__or__": "or", "bitwise_or": "or", "__xor__": "not_equal",
    "bitwise_xor": "not_equal",
}  # fmt: skip


def _enter_elementwise() -> None:
    for name, op in UNARY.items():
        translates(name)(lambda call, x, op=op: call.emit(op, call.cast(x, call.result.dtype)))
    for name, op in BINARY.items():
        translates(name)(lambda call, x, other=None, exponent=None, op=op: call.binary(
            op, x, exponent if other is None else other, call.result.dtype))  # fmt: skip
    for name, op in COMPARISONS.items():
        translates(name)(lambda call, x, other, op=op: call.binary(op, x, other, call.common()))
    for name, op in LOGIC.items():
        translates(name)(lambda call, x, other, op=op, name=name: _logic(call, name, op, x, other))


def _logic(call: Call, name: str, op: str, x: Value | Number, other: Value | Number) -> Value:
    if call.result.dtype != "bool":
        raise refuse(f"{name} of {call.result.dtype}", "of booleans it has one: compare first")
    return call.binary(op, x, other, "bool")


_enter_elementwise()


@translates("add")
def _add(call: Call, x: Value, other: Value | Number, alpha: Number = 1) -> Value:
    return call.binary("add", x, _times(call, other, alpha), call.result.dtype)


@translates("sub", "subtract")
def _subtract(call: Call, x: Value, other: Value | Number, alpha: Number = 1) -> Value:
    return call.binary("subtract", x, _times(call, other, alpha), call.result.dtype)


@translates("rsub")
def _subtract_from(call: Call, x: Value, other: Value | Number, alpha: Number = 1) -> Value:
    return call.binary("subtract", other, _times(call, x, alpha), call.result.dtype)


def _times(call: Call, x: Value | Number, factor: Number) -> Value | Number:
    return x if factor == 1 else call.binary("multiply", x, factor, call.result.dtype)


@translates("div", "divide", "true_divide")
def _divide(call: Call, x: Value, other: Value | Number, rounding_mode: str | None = None) -> Value:
    if rounding_mode is not None:
        raise refuse(f"division with rounding_mode={rounding_mode!r}", "divide exactly, or before")
    return call.binary("divide", x, other, call.result.dtype)


@translates("reciprocal")
def _reciprocal(call: Call, x: Value) -> Value:
    return call.binary("divide", 1, x, call.result.dtype)


@translates("square")
def _square(call: Call, x: Value) -> Value:
    return call.binary("multiply", x, x, call.result.dtype)


@translates("relu")
def _relu(call: Call, x: Value) -> Value:
    return call.emit("relu", x) if x.type.is_float else call.binary("maximum", x, 0, x.dtype)


@translates("gelu")
def _gelu(call: Call, x: Value, approximate: str = "none") -> Value:
    return call.emit("gelu_tanh" if approximate == "tanh" else "gelu", x)


@translates("clamp", "clip", "clamp_min", "clamp_max")
def _clamp(
    call: Call, x: Value, min: Value | Number | None = None, max: Value | Number | None = None
) -> Value:
    dtype = call.result.dtype
    x = call.cast(x, dtype)
    if min is not None:
        x = call.binary("maximum", x, min, dtype)
    return x if max is None else call.binary("minimum", x, max, dtype)


@translates("logical_not", "bitwise_not")
def _logical_not(call: Call, x: Value) -> Value:
    if call.result.dtype != "bool":
        raise refuse(f"bitwise_not of {x.dtype}", "of booleans it has one: compare first")
    return call.emit("not", call.cast(x, "bool"))


@translates("where")
def _where(call: Call, condition: Value, x: Value | Number, other: Value | Number) -> Value:
    dtype = call.result.dtype
    operands = call.operand(x, dtype), call.operand(other, dtype)
    return call.emit("where", call.cast(condition, "bool"), *operands)


@translates("masked_fill")
def _masked_fill(call: Call, x: Value, mask: Value, value: Value | Number) -> Value:
    dtype = call.result.dtype
    return call.emit(
        "where", call.cast(mask, "bool"), call.operand(value, dtype), call.cast(x, dtype)
    )


@translates("to", "_to_copy", "type_as")
def _to(call: Call, x: Value, dtype: object = None, other: object = None) -> Value:
    return call.cast(x, call.result.dtype)


@translates("clone", "contiguous", "detach", "alias", "lift_fresh", "lift_fresh_copy", "positive")
def _same(call: Call, x: Value) -> Value:
    return x


@translates("dropout", "alpha_dropout", "feature_dropout", "feature_alpha_dropout")
def _dropout(call: Call, x: Value, p: float, train: bool) -> Value:
    if train and p:
        raise refuse(
            "dropout that also drops in eval mode",
            "pass training=self.training to torch.nn.functional.dropout, or use nn.Dropout",
        )
    return x


# Reductions


@translates("sum")
def _sum(
    call: Call, x: Value, dim: Sequence[int] | None = None, keepdim: bool = False,
    dtype: object = None,
) -> Value:  # fmt: skip
    return call.reduce("sum", call.cast(x, call.result.dtype), dim, keepdim)


@translates("mean")
def _mean(
    call: Call, x: Value, dim: Sequence[int] | None = None, keepdim: bool = False,
    dtype: object = None,
) -> Value:  # fmt: skip
    return call.reduce("mean", call.cast(x, call.result.dtype), dim, keepdim)


@translates("adaptive_avg_pool1d", "adaptive_avg_pool2d")
def _adaptive_mean(call: Call, x: Value, output_size: Sequence[int]) -> Value:
    if any(size != 1 for size in output_size):
        raise refuse(f"adaptive pooling to {list(output_size)}", "pool to a single position")
    axes = tuple(range(x.rank - len(output_size), x.rank))
    return call.emit("mean", x, axes=axes, keep=True)


@translates("any")
def _any(
    call: Call, x: Value, dim: int | Sequence[int] | None = None, keepdim: bool = False
) -> Value:
    return call.reduce("max", call.cast(x, "bool"), dim, keepdim)


@translates("all")
def _all(
    call: Call, x: Value, dim: int | Sequence[int] | None = None, keepdim: bool = False
) -> Value:
    some = call.reduce("max", call.emit("not", call.cast(x, "bool")), dim, keepdim)
    return call.emit("not", some)


@translates("amax")
def _amax(call: Call, x: Value, dim: Sequence[int], keepdim: bool) -> Value:
    return call.reduce("max", x, dim, keepdim)


@translates("amin")
def _amin(call: Call, x: Value, dim: Sequence[int] | None, keepdim: bool) -> Value:
    if x.dtype == "bool":
        return _all(call, x, dim, keepdim)
    return call.emit("negate", call.reduce("max", call.emit("negate", x), dim, keepdim))


@translates("max")
def _max(
    call: Call, x: Value, dim: int | None = None, keepdim: bool = False,
    other: Value | None = None,
) -> Value | list[Value | None]:  # fmt: skip
    if other is not None:
        return call.binary("maximum", x, other, call.result.dtype)
    top = call.reduce("max", x, dim, keepdim)
    return top if dim is None else [top, None]


@translates("min")
def _min(
    call: Call, x: Value, dim: int | None = None, keepdim: bool = False,
    other: Value | None = None,
) -> Value | list[Value | None]:  # fmt: skip
    if other is not None:
        return call.binary("minimum", x, other, call.result.dtype)
    bottom = _amin(call, x, None if dim is None else [dim], keepdim)
    return bottom if dim is None else [bottom, None]


@translates("argmax")
def _argmax(call: Call, x: Value, dim: int | None = None, keepdim: bool = False) -> Value:
    flat = call.reshape(x, (product(x.shape),)) if dim is None else x
    first = call.emit("argmax", flat, axis=axis(dim or 0, flat.rank))
    return call.reshape(first, call.result.shape)


@translates("cumsum")
def _cumsum(call: Call, x: Value, dim: int, dtype: object = None) -> Value:
    x = call.cast(x, call.result.dtype)
    return call.emit("cumsum", x, axis=axis(dim, x.rank)) if x.rank else x


@translates("softmax", "_softmax", "special_softmax")
def _softmax(call: Call, x: Value, dim: int, dtype: object = None) -> Value:
    x = call.reshape(call.cast(x, call.result.dtype), x.shape or (1,))
    return call.reshape(call.emit("softmax", x, axis=axis(dim, x.rank)), call.result.shape)


@translates("log_softmax", "_log_softmax", "special_log_softmax")
def _log_softmax(call: Call, x: Value, dim: int, dtype: object = None) -> Value:
    x = call.cast(x, call.result.dtype)
    below = call.emit("subtract", x, call.reduce("max", x, dim, True))
    total = call.reduce("sum", call.emit("exp", below), dim, True)
    return call.emit("subtract", below, call.emit("log", total))


# Layers


@translates("linear")
def _linear(call: Call, x: Value, weight: Value, bias: Value | None = None) -> Value:
    if weight.rank != 2:
        raise refuse("linear with a weight that is no matrix", "give it the shape [1, inputs]")
    return call.emit("linear", x, weight, bias, activation="none")


@translates("matmul", "mm", "bmm")
def _matmul(call: Call, x: Value, other: Value | None = None, mat2: Value | None = None) -> Value:
    y = other if other is not None else mat2
    assert y is not None, "the schema has one of them"
    left = call.reshape(x, (1, *x.shape)) if x.rank == 1 else x
    right = call.reshape(y, (*y.shape, 1)) if y.rank == 1 else y
    return call.reshape(call.emit("matmul", left, right), call.result.shape)


@translates("addmm", "baddbmm")
def _addmm(
    call: Call, x: Value, beta: Number = 1, alpha: Number = 1, mat1: Value | None = None,
    mat2: Value | None = None, batch1: Value | None = None, batch2: Value | None = None,
) -> Value:  # fmt: skip
    left, right = (mat1, mat2) if mat1 is not None else (batch1, batch2)
    result = _times(call, call.emit("matmul", left, right), alpha)
    return call.binary("add", result, _times(call, x, beta), call.result.dtype)


@translates("layer_norm")
def _layer_norm(
    call: Call, x: Value, normalized_shape: Sequence[int], weight: Value | None = None,
    bias: Value | None = None, eps: float = 1e-5,
) -> Value:  # fmt: skip
    """Over several axes it is one over their product."""
    width = math.prod(normalized_shape)
    flat = call.reshape(x, (*x.shape[: x.rank - len(normalized_shape)], width))
    gamma, beta = (
        _vector(call, given, width, fill, x.dtype) for given, fill in ((weight, 1), (bias, 0))
    )
    return call.reshape(call.emit("layer_norm", flat, gamma, beta, eps=eps), x.shape)


def _vector(call: Call, given: Value | None, width: int, fill: int, dtype: str) -> Value:
    if given is not None:
        return call.cast(call.reshape(given, (width,)), dtype)
    one = call.number(fill, dtype)
    return call.writer.constant(
        f"{one.name}[{width}]", lambda: np.full(width, fill, "f8" if dtype == "f64" else "f4")
    )


@translates("embedding")
def _embedding(call: Call, weight: Value, indices: Value) -> Value:
    return call.emit("embedding", weight, call.cast(indices, "i64"))


@translates("scaled_dot_product_attention")
def _scaled_dot_product_attention(
    call: Call, query: Value, key: Value, value: Value, attn_mask: Value | None = None,
    dropout_p: float = 0.0, is_causal: bool = False, scale: float | None = None,
    enable_gqa: bool = False,
) -> Value:  # fmt: skip
    """Between a join of the heads and their split, which cancel against those of the model."""
    if dropout_p or enable_gqa:
        option = f"dropout_p={dropout_p}" if dropout_p else "enable_gqa=True"
        raise refuse(f"attention with {option}", "call it without that")
    width = query.shape[-1]
    if not isinstance(width, int) or isinstance(scale, Expr):
        raise refuse("attention whose width varies", "fix it with dynamic_shapes")
    lead = call.result.shape[:-2]
    q, k, v = (call.expand(each, (*lead, *each.shape[-2:])) for each in (query, key, value))
    heads = lead[-1] if len(lead) > 1 else 1
    is_joined = isinstance(heads, int) and heads > 1
    join = _join_heads if is_joined else _join_sequences
    if attn_mask is not None:
        attn_mask = attn_mask if attn_mask.dtype == "bool" else call.cast(attn_mask, query.dtype)
        if not is_joined:
            attn_mask = _sequences_mask(call, attn_mask, lead)
    mixed = call.emit(
        "attention",
        join(call, q),
        join(call, k),
        join(call, v),
        attn_mask,
        heads=heads if is_joined else 1,
        scale=1 / math.sqrt(width) if scale is None else float(scale),
        causal=is_causal,
    )
    return _split_heads(call, mixed) if is_joined else call.reshape(mixed, call.result.shape)


def _join_sequences(call: Call, x: Value) -> Value:
    """`[…, tokens, width]` as `[sequences, tokens, width]`: no heads, or an unknown number."""
    return x if x.rank <= 3 else call.reshape(x, (product(x.shape[:-2]), *x.shape[-2:]))


def _sequences_mask(call: Call, mask: Value, lead: tuple[Dim, ...]) -> Value:
    """The mask of such sequences as `[sequences, 1, queries, keys]`, unless all have one."""
    if mask.rank <= 2:
        return mask
    whole = mask if len(lead) <= 1 else call.expand(mask, (*lead, *mask.shape[-2:]))
    return call.reshape(whole, (product(whole.shape[:-2]), 1, *whole.shape[-2:]))


def _join_heads(call: Call, x: Value) -> Value:
    """`[…, heads, tokens, width]` as `[…, tokens, heads · width]`."""
    heads, tokens, width = x.shape[-3:]
    return call.reshape(_swap_heads(call, x), (*x.shape[:-3], tokens, product((heads, width))))


def _split_heads(call: Call, x: Value) -> Value:
    """`[…, tokens, heads · width]` as `[…, heads, tokens, width]`, the call's result."""
    *lead, heads, tokens, width = call.result.shape
    return _swap_heads(call, call.reshape(x, (*lead, tokens, heads, width)))


def _swap_heads(call: Call, x: Value) -> Value:
    lead = x.rank - 3
    return call.permute(x, (*range(lead), lead + 1, lead, lead + 2))
