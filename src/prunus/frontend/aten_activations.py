"""ATen's rarer activations, written out in the ops of the graph."""

from __future__ import annotations

from prunus.frontend.call import Call, Number, Value, refuse, translates

SMALL = 1e-2
"""Below it log(1 + u) comes from its series: 1 + u would round most of u away."""

SATURATED = 15.0
"""From here on softplus is its argument, up to the last digit of float32."""


@translates("expm1", "special_expm1")
def _expm1(call: Call, x: Value) -> Value:
    """(eˣ + 1) · tanh(x / 2), which is exact around 0 too."""
    dtype = call.result.dtype
    x = call.cast(x, dtype)
    half = call.emit("tanh", call.binary("multiply", x, 0.5, dtype))
    return call.binary("multiply", half, _plus(call, call.emit("exp", x), 1.0), dtype)


@translates("log1p", "special_log1p")
def _log1p(call: Call, x: Value) -> Value:
    dtype = call.result.dtype
    x = call.cast(x, dtype)
    series: Value | Number = -0.25
    for coefficient in (1 / 3, -0.5, 1.0):
        series = _plus(call, call.binary("multiply", x, series, dtype), coefficient)
    is_small = call.binary("less", call.emit("abs", x), SMALL, dtype)
    small = call.binary("multiply", x, series, dtype)
    return call.emit("where", is_small, small, call.emit("log", _plus(call, x, 1.0)))


@translates("softplus")
def _softplus(call: Call, x: Value, beta: Number = 1, threshold: Number = 20) -> Value:
    """max(βx, 0) + log(1 + e^−|βx|), over β; nothing overflows in it."""
    if not isinstance(beta, int | float) or not isinstance(threshold, int | float) or not beta:
        raise refuse(f"softplus with beta={beta}, threshold={threshold}", "pass numbers")
    scaled = x if beta == 1 else call.binary("multiply", x, beta, x.dtype)
    decay = call.emit("exp", call.emit("negate", call.emit("abs", scaled)))
    found = call.emit("add", call.emit("relu", scaled), _log1p(call, decay))
    if beta != 1:
        found = call.binary("divide", found, beta, x.dtype)
    if threshold >= SATURATED:
        return found
    return call.emit("where", call.binary("greater", scaled, threshold, x.dtype), x, found)


@translates("mish")
def _mish(call: Call, x: Value) -> Value:
    return call.emit("multiply", x, call.emit("tanh", _softplus(call, x)))


@translates("hardtanh", "relu6")
def _hardtanh(call: Call, x: Value, min_val: Number | None = None, max_val: Number = 6) -> Value:
    """relu6 has no arguments; in the schema of hardtanh both have values."""
    low = call.binary("maximum", x, 0 if min_val is None else min_val, x.dtype)
    return call.binary("minimum", low, max_val, x.dtype)


@translates("hardsigmoid")
def _hardsigmoid(call: Call, x: Value) -> Value:
    return call.binary("divide", _hardtanh(call, _plus(call, x, 3.0)), 6.0, x.dtype)


@translates("hardswish")
def _hardswish(call: Call, x: Value) -> Value:
    return call.emit("multiply", x, _hardsigmoid(call, x))


@translates("leaky_relu")
def _leaky_relu(call: Call, x: Value, negative_slope: Number = 0.01) -> Value:
    return _by_sign(call, x, call.binary("multiply", x, negative_slope, x.dtype))


@translates("prelu", "_prelu_kernel")
def _prelu(call: Call, x: Value, weight: Value) -> Value:
    """One slope, or one for each channel, which is axis 1."""
    if weight.shape != (1,) and weight.rank == 1 and x.rank > 1:
        weight = call.reshape(weight, (1, *weight.shape, *(1,) * (x.rank - 2)))
    return _by_sign(call, x, call.emit("multiply", x, weight))


@translates("elu")
def _elu(
    call: Call, x: Value, alpha: Number = 1, scale: Number = 1, input_scale: Number = 1
) -> Value:
    below = _expm1(call, call.binary("multiply", x, input_scale, x.dtype))
    below = call.binary("multiply", below, alpha, x.dtype)
    return call.binary("multiply", _by_sign(call, x, below), scale, x.dtype)


@translates("selu")
def _selu(call: Call, x: Value) -> Value:
    return _elu(call, x, alpha=1.6732632423543772, scale=1.0507009873554805)


@translates("celu")
def _celu(call: Call, x: Value, alpha: float = 1.0) -> Value:
    return _elu(call, x, alpha=alpha, input_scale=1 / alpha)


def _by_sign(call: Call, x: Value, negative: Value) -> Value:
    """`x` where it is above 0, else another value."""
    return call.emit("where", call.binary("greater", x, 0, x.dtype), x, negative)


def _plus(call: Call, x: Value, number: float) -> Value:
    return call.binary("add", x, number, x.dtype)
