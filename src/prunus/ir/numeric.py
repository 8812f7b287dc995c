"""What NumPy lacks: the mathematics of a transformer, exact to the last digits of the dtype it is
given.
"""

from __future__ import annotations

import math

import numpy as np

# W. J. Cody, "Rational Chebyshev approximation for the error function", Math. Comp. 23 (1969):
# highest power first.
_SMALL_P = (1.85777706184603153e-1, 3.16112374387056560e0, 1.13864154151050156e2,
            3.77485237685302021e2, 3.20937758913846947e3)  # fmt: skip
_SMALL_Q = (1.0, 2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3,
            2.84423683343917062e3)  # fmt: skip
_MIDDLE_P = (2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594e0,
             6.61191906371416295e1, 2.98635138197400131e2, 8.81952221241769090e2,
             1.71204761263407058e3, 2.05107837782607147e3, 1.23033935479799725e3)  # fmt: skip
_MIDDLE_Q = (1.0, 1.57449261107098347e1, 1.17693950891312499e2, 5.37181101862009858e2,
             1.62138957456669019e3, 3.29079923573345963e3, 4.36261909014324716e3,
             3.43936767414372164e3, 1.23033935480374942e3)  # fmt: skip
_LARGE_P = (1.63153871373020978e-2, 3.05326634961232344e-1, 3.60344899949804439e-1,
            1.25781726111229246e-1, 1.60837851487422766e-2, 6.58749161529837803e-4)  # fmt: skip
_LARGE_Q = (1.0, 2.56852019228982242e0, 1.87295284992346047e0, 5.27905102951428412e-1,
            6.05183413124413191e-2, 2.33520497626869185e-3)  # fmt: skip


def erf(x: np.ndarray) -> np.ndarray:
    """The error function, computed in float64 (relative error below 1e-15) and given in x's
    dtype.
    """
    wide = np.asarray(x, np.float64)
    size = np.minimum(
        np.abs(wide), 26.0
    )  # erf(26) is 1 to every digit; larger squares would overflow
    square = size * size
    small = size * np.polyval(_SMALL_P, square) / np.polyval(_SMALL_Q, square)
    middle = 1 - np.exp(-square) * np.polyval(_MIDDLE_P, size) / np.polyval(_MIDDLE_Q, size)
    inverse = 1 / np.maximum(square, 1.0)
    tail = inverse * np.polyval(_LARGE_P, inverse) / np.polyval(_LARGE_Q, inverse)
    large = 1 - np.exp(-square) / np.maximum(size, 1.0) * (1 / np.sqrt(np.pi) - tail)
    value = np.where(size < 0.46875, small, np.where(size < 4, middle, large))
    return np.asarray(np.copysign(value, wide), dtype=np.asarray(x).dtype)


def gelu(x: np.ndarray) -> np.ndarray:
    """x · Φ(x), with the normal distribution's exact Φ."""
    return np.asarray(x * (0.5 * (1 + erf(x * x.dtype.type(np.sqrt(0.5))))))


def gelu_tanh(x: np.ndarray) -> np.ndarray:
    """The approximation of `gelu` by tanh, `gelu_new` in transformers."""
    inner = x.dtype.type(np.sqrt(2 / np.pi)) * (x + x.dtype.type(0.044715) * x * x * x)
    return np.asarray(x.dtype.type(0.5) * x * (1 + np.tanh(inner)))


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + e⁻ˣ) without overflow."""
    small = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1 / (1 + small), small / (1 + small)), x.dtype)


def softmax(x: np.ndarray, axis: int) -> np.ndarray:
    """Softmax along `axis`; all zeros where every element is -inf, as
    `scaled_dot_product_attention` has it.
    """
    top = np.max(x, axis=axis, keepdims=True, initial=-np.inf)
    power = np.exp(x - np.where(np.isneginf(top), 0, top))
    total = np.sum(power, axis=axis, keepdims=True)
    return np.asarray(power / np.where(total == 0, 1, total), x.dtype)


def mean(x: np.ndarray, axes: tuple[int, ...], *, keep: bool = True) -> np.ndarray:
    """The mean over some axes; that of no elements is NaN. NumPy's own prints a warning then, which
    `np.errstate` does not silence.
    """
    total = np.sum(x, axis=axes, keepdims=keep, dtype=x.dtype)
    count = np.int64(math.prod(x.shape[axis] for axis in axes))
    with np.errstate(invalid="ignore"):
        return np.asarray(np.true_divide(total, count), x.dtype)


def layer_norm(x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, eps: float) -> np.ndarray:
    """(x - mean) / sqrt(variance + eps) · gamma + beta over the last axis."""
    centred = x - mean(x, (-1,))
    variance = mean(centred * centred, (-1,))
    return np.asarray(centred / np.sqrt(variance + x.dtype.type(eps)) * gamma + beta, x.dtype)


def rms_norm(x: np.ndarray, gamma: np.ndarray, eps: float) -> np.ndarray:
    """x / sqrt(mean(x²) + eps) · gamma over the last axis."""
    square = mean(x * x, (-1,))
    return np.asarray(x / np.sqrt(square + x.dtype.type(eps)) * gamma, x.dtype)


def rotary(x: np.ndarray, cos: np.ndarray, sin: np.ndarray, heads: int) -> np.ndarray:
    """Each head's halves (a, b) of `[…, tokens, heads · width]` turned by an angle for each token
    and feature: (a, b) · cos + (-b, a) · sin, with angles `[…, tokens, width]` (Su et al.,
    "RoFormer", 2021).
    """
    split = np.reshape(x, (*x.shape[:-1], heads, x.shape[-1] // heads))
    first, second = np.split(split, 2, axis=-1)
    turned = np.concatenate((-second, first), axis=-1)
    mixed = split * cos[..., None, :] + turned * sin[..., None, :]
    return np.asarray(np.reshape(mixed, x.shape), x.dtype)


def attention(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    mask: np.ndarray | None,
    *,
    heads: int,
    scale: float,
    causal: bool,
    key_positions: tuple[np.ndarray, np.ndarray] | None = None,
    query_positions: tuple[np.ndarray, np.ndarray] | None = None,
) -> np.ndarray:
    """softmax(scale · q·kᵀ + mask) · v per head, on `[…, tokens, heads · width]`.

    A boolean mask is True where a key may be seen, a float one is added; it broadcasts to `[…,
    heads, queries, keys]`. Positions are a table `[heads, positions, width]` and which of its rows
    each query and key have between them, `[queries, keys]`: the query's product with that row of
    the one, and the key's with that of the other, are added to q·kᵀ.
    """
    q, k, v = (_split_heads(x, heads) for x in (q, k, v))
    scores = q @ np.swapaxes(k, -1, -2)
    if key_positions is not None:
        scores = scores + _met_positions(q, *key_positions)
    if query_positions is not None:
        table, index = query_positions
        scores = scores + np.swapaxes(_met_positions(k, table, index.T), -1, -2)
    scores = scores * q.dtype.type(scale)
    if mask is not None:
        scores = np.where(mask, scores, -np.inf) if mask.dtype == bool else scores + mask
    if causal:
        seen = np.tril(np.ones(scores.shape[-2:], bool))
        scores = np.where(seen, scores, -np.inf)
    mixed = np.swapaxes(softmax(scores.astype(q.dtype), -1) @ v, -2, -3)
    return np.reshape(mixed, (*mixed.shape[:-2], mixed.shape[-2] * mixed.shape[-1]))


def _met_positions(x: np.ndarray, table: np.ndarray, index: np.ndarray) -> np.ndarray:
    """x_i · table[index[i, j]] for each head: `[…, heads, tokens, others]`."""
    products = x @ np.swapaxes(table, -1, -2)
    index = np.broadcast_to(index, (*products.shape[:-2], *index.shape))
    return np.take_along_axis(products, index, axis=-1)


def _split_heads(x: np.ndarray, heads: int) -> np.ndarray:
    split = np.reshape(x, (*x.shape[:-1], heads, x.shape[-1] // heads))
    return np.swapaxes(split, -2, -3)


def accumulate(tables: list[np.ndarray], ids: list[np.ndarray]) -> np.ndarray:
    """Σ table[ids] over several tables; the ids broadcast against each other."""
    total: np.ndarray = tables[0][ids[0]]
    for table, index in zip(tables[1:], ids[1:], strict=True):
        total = np.add(total, table[index])
    return total
