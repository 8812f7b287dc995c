"""The norm that magnitude pruning keeps, against the weight that it makes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunus.errors import InputError
from prunus.prediction.norms import norm_kept, norms_kept
from prunus.sparsity import SparsityRecipe, simulate_weight

PATTERNS = ("", "@1x1", "@4x1", "@1x4", "@3x5", "@16x1", "@64x64")
N_OF_M = ("0.5@2:4", "0.75@1:4", "0.4@3:5", "0.875@1:8")


@st.composite
def weights(draw: st.DrawFn) -> np.ndarray:
    """A weight of any shape; of few values, so that many are tied, some zero."""
    shape = draw(st.integers(1, 24)), draw(st.integers(1, 24))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    if draw(st.booleans()):
        return generator.integers(-3, 4, shape).astype(np.float32)
    return generator.standard_normal(shape, np.float32) * np.float32(
        draw(st.sampled_from([1, 1e-30]))
    )


def made(weight: np.ndarray, recipe: SparsityRecipe) -> float:
    """The share of the norm of what is really made."""
    kept = simulate_weight(weight, recipe, seed=0, method="magnitude").astype(np.float64)
    whole = float(np.square(weight.astype(np.float64)).sum())
    return float(np.sqrt(np.square(kept).sum() / whole)) if whole else 1.0


@given(weights(), st.lists(st.floats(0, 0.999), min_size=1, max_size=5), st.data())
def test_equals_what_is_made(
    weight: np.ndarray, sparsities: list[float], data: st.DataObject
) -> None:
    patterns = data.draw(st.lists(st.sampled_from(PATTERNS), min_size=1, max_size=3))
    recipes = [SparsityRecipe.parse(f"{s!r}{p}") for p in patterns for s in sparsities]
    recipes += [SparsityRecipe.parse(text) for text in N_OF_M]
    found = norm_kept(weight, recipes)
    assert set(found) == set(recipes)
    for recipe in recipes:
        assert found[recipe] == pytest.approx(made(weight, recipe), rel=1e-12, abs=1e-12), recipe


@given(st.integers(1, 5), st.integers(1, 5), st.sampled_from(["4x1", "1x4", "2x2", "16x1"]))
def test_counts_blocks_as_the_rounding_does(rows: int, columns: int, block: str) -> None:
    weight = np.random.default_rng(0).standard_normal((16 * rows, 16 * columns), np.float32)
    for percent in (10, 50, 66, 90, 97, 99):
        recipe = SparsityRecipe.parse(f"{percent / 100}@{block}")
        assert norm_kept(weight, [recipe])[recipe] == pytest.approx(made(weight, recipe), rel=1e-12)


def test_a_model_is_all_its_weights_together() -> None:
    generator = np.random.default_rng(0)
    weights = {
        "small": generator.standard_normal((8, 8), np.float32),
        "large": 10 * generator.standard_normal((16, 8), np.float32),
    }
    recipes = [SparsityRecipe(0.5), SparsityRecipe(0.9, (4, 1))]
    said: list[tuple[int, int, str]] = []
    found = norms_kept(weights, recipes, lambda *told: said.append(told))
    assert said == [(0, 2, "weighing small"), (1, 2, "weighing large")]
    for recipe in recipes:
        total, layers = found[recipe]
        assert layers == {name: norm_kept(w, [recipe])[recipe] for name, w in weights.items()}
        squares = [float(np.square(w, dtype=np.float64).sum()) for w in weights.values()]
        kept = sum(
            square * layers[name] ** 2 for name, square in zip(weights, squares, strict=True)
        )
        assert total == pytest.approx((kept / sum(squares)) ** 0.5)


def test_a_weight_of_zeros_loses_nothing() -> None:
    recipe = SparsityRecipe(0.9)
    assert norm_kept(np.zeros((4, 4), np.float32), [recipe]) == {recipe: 1.0}
    assert norms_kept({}, [recipe]) == {recipe: (1.0, {})}


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_values_without_magnitude_are_refused(value: float) -> None:
    with pytest.raises(InputError, match="no magnitude"):
        norm_kept(np.full((2, 2), value), [SparsityRecipe(0.5)])


def test_only_matrices_have_it() -> None:
    with pytest.raises(InputError, match=r"matrix .* \(3,\)"):
        norm_kept(np.ones(3, np.float32), [SparsityRecipe(0.5)])
