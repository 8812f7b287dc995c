import math

import numpy as np
import pytest
import scipy.special
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from prunus.ir import numeric

WIDE = arrays.arrays(np.float64, st.integers(0, 40), elements=st.floats(-60, 60))


@given(WIDE)
def test_erf_is_exact_to_the_last_digits(x: np.ndarray) -> None:
    np.testing.assert_allclose(numeric.erf(x), scipy.special.erf(x), rtol=2e-15, atol=0)


def test_erf_at_the_borders_of_its_pieces_and_beyond() -> None:
    x = np.array([0.0, -0.0, 0.46875, np.nextafter(0.46875, 0), 4, np.nextafter(4, 0), 26, 1e300,
                  np.inf, -np.inf, 5e-324, 1e-310])  # fmt: skip
    np.testing.assert_allclose(numeric.erf(x), scipy.special.erf(x), rtol=2e-15, atol=0)
    assert math.copysign(1, numeric.erf(x)[1]) == -1
    assert np.isnan(numeric.erf(np.array([np.nan])))[0]
    assert numeric.erf(np.ones(1, np.float32)).dtype == np.float32


@given(WIDE)
def test_activations(x: np.ndarray) -> None:
    np.testing.assert_allclose(numeric.gelu(x), x * scipy.special.ndtr(x), rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(numeric.sigmoid(x), scipy.special.expit(x), rtol=1e-14)
    np.testing.assert_allclose(numeric.gelu_tanh(x), numeric.gelu(x), atol=2e-3)


def test_sigmoid_does_not_overflow() -> None:
    with np.errstate(all="raise", under="ignore"):
        np.testing.assert_array_equal(numeric.sigmoid(np.array([-1e4, 1e4])), [0, 1])


@given(arrays.arrays(np.float64, (3, 5), elements=st.floats(-500, 500)), st.integers(-2, 1))
def test_softmax(x: np.ndarray, axis: int) -> None:
    np.testing.assert_allclose(
        numeric.softmax(x, axis), scipy.special.softmax(x, axis), rtol=1e-12, atol=1e-300
    )


def test_softmax_of_nothing_to_see_is_zero() -> None:
    x = np.array([[-np.inf, -np.inf], [0, -np.inf]])
    np.testing.assert_array_equal(numeric.softmax(x, -1), [[0, 0], [1, 0]])
    assert numeric.softmax(np.zeros((2, 0)), -1).shape == (2, 0)


def test_layer_norm() -> None:
    x = np.random.default_rng(0).standard_normal((4, 7))
    gamma, beta = np.arange(7.0), np.ones(7)
    expected = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-3)
    np.testing.assert_allclose(
        numeric.layer_norm(x, gamma, beta, 1e-3), expected * gamma + beta, rtol=1e-12
    )
    np.testing.assert_array_equal(numeric.layer_norm(np.full((2, 7), 3.0), gamma, beta, 1e-12), 1)


@pytest.mark.parametrize("mask_kind", ["none", "hide", "add", "per head"])
@pytest.mark.parametrize("causal", [False, True])
def test_attention_is_what_its_formula_says(mask_kind: str, causal: bool) -> None:
    random = np.random.default_rng(1)
    batch, heads, queries, keys, width, out = 2, 3, 4, 5, 6, 2
    q = random.standard_normal((batch, queries, heads * width))
    k = random.standard_normal((batch, keys, heads * width))
    v = random.standard_normal((batch, keys, heads * out))
    mask = {
        "none": None,
        "hide": random.random((batch, 1, 1, keys)) < 0.5,
        "add": random.standard_normal((queries, keys)),
        "per head": random.random((batch, heads, queries, keys)) < 0.5,
    }[mask_kind]
    found = numeric.attention(q, k, v, mask, heads=heads, scale=0.3, causal=causal)
    added = np.zeros((batch, heads, queries, keys))
    if mask is not None:
        added = added + (np.where(mask, 0, -np.inf) if mask.dtype == bool else mask)
    for b, h, i in np.ndindex(batch, heads, queries):
        here, there = slice(h * width, (h + 1) * width), slice(h * out, (h + 1) * out)
        scores = k[b, :, here] @ q[b, i, here] * 0.3 + added[b, h, i]
        if causal:
            scores[i + 1 :] = -np.inf
        weights = np.nan_to_num(scipy.special.softmax(scores)) if np.isfinite(scores).any() else 0
        np.testing.assert_allclose(
            found[b, i, there], np.broadcast_to(weights, keys) @ v[b, :, there], atol=1e-12
        )
