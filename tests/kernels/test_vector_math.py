"""exp, erf, tanh and the activations against float64, over every magnitude that float32 has."""

import numpy as np
import pytest

from prunus.ir import OPS, Attrs
from prunus.kernels.elementwise import Elementwise
from prunus.kernels.layout import TILE
from tests.kernels.harness import Arguments, Tiled, run_tiles, targets

SPECIAL = (0.0, -0.0, 1e-45, -1e-45, 1e-30, 1e30, -1e30, 88.0, -87.33654, np.inf, -np.inf)


def every_magnitude() -> np.ndarray:
    """Floats of every exponent and sign, and many between -20 and 20."""
    bits = np.arange(0, 1 << 32, 104_729, dtype=np.uint64).astype(np.uint32)
    floats = bits.view(np.float32)
    floats = floats[~np.isnan(floats)]
    near = np.linspace(-20, 20, 40_001, dtype=np.float32)
    return np.concatenate((floats, near, np.array(SPECIAL, np.float32)))


def through(op: str, target: str, x: np.ndarray) -> np.ndarray:
    """The function of every element, by the kernel."""
    rows = -(-len(x) // TILE)
    padded = np.resize(x, rows * TILE).reshape(TILE, rows)
    y = Tiled(TILE, rows)
    arguments: Arguments = {"a": Tiled.of(padded), "y": y, "row_groups": 1, "features": rows}
    run_tiles(lambda width: Elementwise(width, op, ("tile",)), target, TILE, arguments)
    return y.array().reshape(-1)[: len(x)].astype(np.float64)


@targets
def test_exp(target: str) -> None:
    x = every_magnitude()
    found = through("exp", target, x)
    normal = (x >= -87.33654) & (x <= 88.3762)
    np.testing.assert_allclose(found[normal], np.exp(x[normal].astype(np.float64)), rtol=2e-7)
    assert (found[x < -87.33654] == 0).all(), "no denormal numbers, and 0 at -inf"
    assert (found[x > 88.3762] == np.inf).all()


@targets
@pytest.mark.parametrize("op", ["exp", "erf", "tanh", "sigmoid", "silu", "gelu", "relu"])
def test_not_a_number_stays_one(target: str, op: str) -> None:
    assert np.isnan(through(op, target, np.full(TILE, np.nan, np.float32))).all()


@targets
@pytest.mark.parametrize(("op", "error"), [("erf", 3e-7), ("tanh", 2e-7), ("sigmoid", 2e-7)])
def test_bounded_functions(target: str, op: str, error: float) -> None:
    x = every_magnitude()
    wanted = OPS[op].meaning(Attrs(), x.astype(np.float64))
    np.testing.assert_allclose(through(op, target, x), wanted, rtol=0, atol=error)


@targets
@pytest.mark.parametrize("op", ["gelu", "gelu_tanh", "silu", "relu"])
def test_activations(target: str, op: str) -> None:
    x = every_magnitude()
    x = x[(np.abs(x) <= np.float32(1e30)) | (x == np.inf)]
    with np.errstate(over="ignore"):
        wanted = OPS[op].meaning(Attrs(), x.astype(np.float64))
    np.testing.assert_allclose(through(op, target, x), wanted, rtol=1e-6, atol=1e-6)
