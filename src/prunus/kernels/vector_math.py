"""Functions of vectors, in the emitters' vocabulary: exp, erf, tanh, and the activations made of
them.
"""

from __future__ import annotations

from collections.abc import Callable

from prunus.kernels.emit import Emitter, Value

LOG2_E = 1.4426950408889634
LN2_HIGH = 0.693359375  # few enough bits that n · LN2_HIGH is exact
LN2_LOW = -2.12194440054690583e-4
EXP_HIGHEST = 88.3762  # above, 2^128 is not a float32
EXP_LOWEST = -87.33654  # below, e^x would be denormal, which costs a hundred cycles

# e^r on |r| <= ln(2)/2 (Cephes, expf.c), highest power first; relative error 2e-8.
_EXP = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1,
        5.0000001201e-1)  # fmt: skip

# (2^r - 1) / r on |r| <= 1/2, least relative error of 2^r (1.7e-7), highest power first.
_EXP2 = (1.3264723820611835e-3, 9.671512991189957e-3, 5.550733581185341e-2,
         2.4022242426872253e-1, 6.931470036506653e-1)  # fmt: skip
EXP2_LOWEST = -126.0  # below, 2^x would be denormal

# erf on |x| <= 4 as x·P(x²)/Q(x²) (the coefficients of Eigen's float version), highest power first.
_ERF_P = (-2.72614225801306e-10, 2.77068142495902e-08, -2.10102402082508e-06,
          -5.69250639462346e-05, -7.34990630326855e-04, -2.95459980854025e-03,
          -1.60960333262415e-02)  # fmt: skip
_ERF_Q = (-1.45660718464996e-05, -2.13374055278905e-04, -1.68282697438203e-03,
          -7.37332916720468e-03, -1.42647390514189e-02)  # fmt: skip


def _polynomial(k: Emitter, x: Value, coefficients: tuple[float, ...]) -> Value:
    total = k.splat(coefficients[0])
    for coefficient in coefficients[1:]:
        total = k.fma(total, x, k.splat(coefficient))
    return total


def exp(k: Emitter, x: Value) -> Value:
    """e^x to about 1 ulp; 0 where it would be denormal, infinite from e^88.3762 on."""
    size = k.splat(EXP_LOWEST).maximum(k.splat(EXP_HIGHEST).minimum(x))
    n = k.floor(k.fma(size, k.splat(LOG2_E), k.splat(0.5)))
    r = k.fma(n, k.splat(-LN2_HIGH), size)
    r = k.fma(n, k.splat(-LN2_LOW), r)
    power = k.scale(k.fma(_polynomial(k, r, _EXP), r * r, r + 1.0), n)
    power = (x < EXP_LOWEST).select(k.splat(0.0), power)
    return (x > EXP_HIGHEST).select(k.splat(float("inf")), power)


def exp2_bounded(k: Emitter, x: Value) -> Value:
    """2^x for x of at most 127, as in a softmax, where no x is above 0: relative error 2e-7, and 0
    where it would be denormal. It takes half the operations of `exp`.
    """
    size = k.splat(EXP2_LOWEST).maximum(x)
    n = k.round(size)
    r = size - n
    power = k.scale(k.fma(_polynomial(k, r, _EXP2), r, k.splat(1.0)), n)
    return (x < EXP2_LOWEST).select(k.splat(0.0), power)


def erf(k: Emitter, x: Value) -> Value:
    """The error function, absolute error below 3e-7."""
    size = k.splat(-4.0).maximum(k.splat(4.0).minimum(x))  # in this order NaN stays NaN
    square = size * size
    return size * _polynomial(k, square, _ERF_P) / _polynomial(k, square, _ERF_Q)


def tanh(k: Emitter, x: Value) -> Value:
    """1 - 2 / (e^2x + 1); absolute error below 2e-7."""
    return k.splat(1.0) - k.splat(2.0) / (exp(k, x * 2.0) + 1.0)


def sigmoid(k: Emitter, x: Value) -> Value:
    """1 / (1 + e^-x)."""
    return k.splat(1.0) / (exp(k, x * -1.0) + 1.0)


def gelu(k: Emitter, x: Value) -> Value:
    """x · Φ(x)."""
    half = x * 0.5
    return k.fma(half, erf(k, x * 0.7071067811865476), half)


def gelu_tanh(k: Emitter, x: Value) -> Value:
    """`gelu` approximated by tanh."""
    inner = k.fma(x * x * 0.044715, x, x) * 0.7978845608028654
    half = x * 0.5
    return k.fma(half, tanh(k, inner), half)


ACTIVATIONS: dict[str, Callable[[Emitter, Value], Value]] = {
    "none": lambda k, x: x,
    "relu": lambda k, x: k.splat(0.0).maximum(x),
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "tanh": tanh,
    "sigmoid": sigmoid,
    "silu": lambda k, x: x * sigmoid(k, x),
}
