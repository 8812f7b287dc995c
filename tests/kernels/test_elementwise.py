"""Normalisations, rotations, and ops on every element."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunus.ir import OPS, Attrs
from prunus.kernels.elementwise import BINARY, UNARY, Elementwise, Operand
from prunus.kernels.layout import TILE
from prunus.kernels.normalize import LayerNorm
from prunus.kernels.rotary import Rotary
from prunus.kernels.target import parse_target
from tests.kernels.harness import Arguments, Tiled, run_tiles, targets

TOKENS = st.sampled_from([1, 15, 16, 17, 31, 33, 48, 63, 64, 65, 100, 130])
PLACEMENTS: list[tuple[Operand, Operand]] = [
    ("tile", "tile"), ("tile", "feature"), ("feature", "tile"), ("tile", "scalar"),
    ("scalar", "tile"),
]  # fmt: skip


@targets
@given(
    TOKENS,
    st.sampled_from([1, 2, 3, 7, 8, 37, 200]),
    st.sampled_from([1e-5, 1e-12]),
    st.sampled_from([0, 3]),
    st.sampled_from([0.0, 5.0]),
    st.integers(0, 2**32 - 1),
)
def test_layer_norm(
    target: str, tokens: int, features: int, eps: float, first: int, shift: float, seed: int
) -> None:
    random = np.random.default_rng(seed)
    x = (random.standard_normal((tokens, features)) + shift).astype(np.float32)
    gamma, beta = random.standard_normal((2, features)).astype(np.float32)
    y = Tiled(tokens, features, first=first, rows=features + 2 * first)
    vectors = TILE // parse_target(target).lanes
    arguments: Arguments = {
        "x": Tiled.of(x, first=first), "y": y, "gamma": gamma, "beta": beta,
        "features": features, "vectors": vectors,
    }  # fmt: skip
    run_tiles(lambda width: LayerNorm(width, eps), target, tokens, arguments, units=vectors)
    wanted = OPS["layer_norm"].meaning(
        Attrs(eps=eps), *(each.astype(np.float64) for each in (x, gamma, beta))
    )
    # Two features that are nearly equal lose digits in their difference, in any float32.
    spread = np.abs(x - x.mean(axis=1, keepdims=True)).max(axis=1, keepdims=True)
    error = 2e-5 + 1e-6 * np.abs(x).max(axis=1, keepdims=True) / np.maximum(spread, 1e-6)
    assert (np.abs(y.array() - wanted) <= error).all()


@targets
@given(TOKENS, st.sampled_from([1, 2, 7, 37]), st.sampled_from([0, 3]), st.integers(0, 99))
def test_rms_norm(target: str, tokens: int, features: int, first: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    x = random.standard_normal((tokens, features)).astype(np.float32)
    gamma = random.standard_normal(features).astype(np.float32)
    y = Tiled(tokens, features, first=first, rows=features + 2 * first)
    vectors = TILE // parse_target(target).lanes
    arguments: Arguments = {
        "x": Tiled.of(x, first=first), "y": y, "gamma": gamma, "features": features,
        "vectors": vectors,
    }  # fmt: skip
    run_tiles(lambda width: LayerNorm(width, 1e-6, False), target, tokens, arguments, units=vectors)
    wanted = OPS["rms_norm"].meaning(Attrs(eps=1e-6), x.astype("f8"), gamma.astype("f8"))
    np.testing.assert_allclose(y.array(), wanted, rtol=2e-6, atol=2e-6)


@targets
@given(TOKENS, st.sampled_from([1, 2, 5]), st.sampled_from([2, 4, 14]), st.integers(0, 99))
def test_rotary(target: str, tokens: int, heads: int, width: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    x = random.standard_normal((tokens, heads * width)).astype(np.float32)
    cos, sin = random.standard_normal((2, tokens, width)).astype(np.float32)
    y = Tiled(tokens, heads * width, first=3, rows=heads * width + 5)
    arguments: Arguments = {
        "x": Tiled.of(x, first=2), "y": y, "cos": Tiled.of(cos), "sin": Tiled.of(sin),
        "heads": heads,
    }  # fmt: skip
    run_tiles(lambda tile: Rotary(tile, width), target, tokens, arguments, units=heads)
    wide = (each.astype(np.float64) for each in (x, cos, sin))
    wanted = OPS["rotary"].meaning(Attrs(heads=heads), *wide)
    np.testing.assert_allclose(y.array(), wanted, rtol=2e-6, atol=2e-6)


@targets
@pytest.mark.parametrize("op", UNARY)
@pytest.mark.parametrize("tokens", [17, 65])
def test_unary_ops(target: str, op: str, tokens: int) -> None:
    x = np.random.default_rng(0).standard_normal((tokens, 5)).astype(np.float32)
    if "sqrt" in op:
        x = np.abs(x)
    y = Tiled(tokens, 5, first=2, rows=9)
    arguments: Arguments = {
        "a": Tiled.of(x, first=1), "y": y, "row_groups": 3, "features": 5,
    }  # fmt: skip
    run_tiles(lambda width: Elementwise(width, op, ("tile",)), target, tokens, arguments, units=3)
    wanted = OPS[op].meaning(Attrs(), x.astype(np.float64))
    np.testing.assert_allclose(y.array(), wanted, rtol=1e-6, atol=1e-6)


@targets
@pytest.mark.parametrize("placement", PLACEMENTS, ids="-".join)
@pytest.mark.parametrize("op", BINARY)
def test_binary_ops(target: str, op: str, placement: tuple[Operand, Operand]) -> None:
    tokens, features, groups = 70, 7, 10
    random = np.random.default_rng(0)
    shapes = {"tile": (tokens, features), "feature": (features,), "scalar": (1,)}
    operands = [random.uniform(0.5, 2, shapes[kind]).astype(np.float32) for kind in placement]
    y = Tiled(tokens, features)
    arguments: Arguments = {"y": y, "row_groups": groups, "features": features}
    for name, kind, operand in zip("ab", placement, operands, strict=True):
        arguments[name] = Tiled.of(operand) if kind == "tile" else operand
    run_tiles(lambda width: Elementwise(width, op, placement), target, tokens, arguments,
              units=groups)  # fmt: skip
    assert (y.array() == OPS[op].meaning(Attrs(), *operands)).all()
