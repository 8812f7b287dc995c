from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from prunus.errors import InputError
from prunus.sparsity import (
    BlockSparse,
    SparsityRecipe,
    layer_seed,
    simulate_weight,
)

METHODS: tuple[Literal["random", "magnitude"], ...] = ("random", "magnitude")
SHAPES = st.tuples(st.integers(0, 30), st.integers(0, 30))
BLOCKS = st.none() | st.tuples(st.integers(1, 35), st.integers(1, 9))
SPARSITIES = st.floats(0, 1, exclude_max=True) | st.sampled_from([0.0, 0.5, 0.8, 0.9, 0.95])


def normal(shape: tuple[int, int], seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


@given(shape=SHAPES, sparsity=SPARSITIES, block=BLOCKS, seed=st.integers(0, 99))
def test_whole_blocks_of_at_least_the_wanted_number(
    shape: tuple[int, int], sparsity: float, block: tuple[int, int] | None, seed: int
) -> None:
    wanted = int((1 - sparsity) * shape[0] * shape[1])
    for method in METHODS:
        weight = simulate_weight(
            normal(shape, seed), SparsityRecipe(sparsity, block), seed=seed, method=method
        )
        assert weight.shape == shape
        assert weight.dtype == np.float32
        r, c = block or (1, 1)
        # One more than wanted: 1 - 0.9 is a little below 0.1, which simulate makes good.
        assert wanted <= np.count_nonzero(weight) <= wanted + r * c
        padded = np.pad(weight != 0, ((0, -shape[0] % r), (0, -shape[1] % c)))
        inside = np.pad(np.ones(shape, np.bool_), ((0, -shape[0] % r), (0, -shape[1] % c)))
        blocks = padded.reshape(padded.shape[0] // r, r, padded.shape[1] // c, c)
        whole = np.repeat(np.repeat(blocks.any(axis=(1, 3)), r, axis=0), c, axis=1) & inside
        np.testing.assert_array_equal(padded, whole)


@pytest.mark.parametrize(
    ("recipe", "count"), [("0.9", 10), ("0.0", 100), ("0.99", 1), ("0.7", 30), ("0.85@4x5", 20)]
)
def test_counts_are_exact_where_they_can_be(recipe: str, count: int) -> None:
    for method in METHODS:
        weight = simulate_weight(
            normal((10, 10)), SparsityRecipe.parse(recipe), seed=3, method=method
        )
        assert np.count_nonzero(weight) == count


def test_the_stored_values_are_those_wanted() -> None:
    weight = simulate_weight(np.zeros((64, 48)), SparsityRecipe.parse("0.85@16x1"), seed=0)
    sparse = BlockSparse.from_dense(weight, (16, 1))
    assert sparse.stored == sparse.nnz == 464  # 29 blocks; 0.15 · 3072 is 460.8


def test_random_values_are_uniform_and_never_zero() -> None:
    values = simulate_weight(np.zeros((300, 400)), SparsityRecipe(0.0), seed=5)
    assert np.all(values != 0)
    assert np.abs(values).max() <= np.float32(0.1)
    counts = np.histogram(values, 10, (-0.1000001, 0.1000001))[0]
    assert np.all(np.abs(counts - 12_000) < 600)


def test_random_blocks_lie_anywhere() -> None:
    kept = sum(
        simulate_weight(np.zeros((10, 10)), SparsityRecipe(0.5, (3, 3)), seed=seed) != 0
        for seed in range(300)
    )
    assert kept.min() > 100
    assert kept.max() < 220


@given(
    shape=SHAPES,
    n=st.integers(1, 5),
    more=st.integers(1, 5),
    method=st.sampled_from(METHODS),
)
def test_n_of_every_m(
    shape: tuple[int, int], n: int, more: int, method: Literal["random", "magnitude"]
) -> None:
    m = n + more
    recipe = SparsityRecipe(1 - n / m, n_of_m=(n, m))
    weight = simulate_weight(normal(shape), recipe, seed=0, method=method)
    for start in range(0, shape[1], m):
        group = weight[:, start : start + m]
        assert np.all(np.count_nonzero(group, axis=1) == min(n, group.shape[1]))


def test_magnitude_keeps_the_largest_of_every_m() -> None:
    original = np.array([[1, -4, 3, 2, 0, 0, 0, 5, -7]], np.float32)
    recipe = SparsityRecipe.parse("0.5@2:4")
    weight = simulate_weight(original, recipe, seed=0, method="magnitude")
    np.testing.assert_array_equal(weight, [[0, -4, 3, 0, 0, 0, 0, 5, -7]])


def test_magnitude_keeps_the_largest() -> None:
    original = normal((40, 30))
    weight = simulate_weight(original, SparsityRecipe(0.9), seed=0, method="magnitude")
    kept = weight != 0
    assert np.count_nonzero(kept) == 120
    np.testing.assert_array_equal(weight[kept], original[kept])
    assert np.abs(original[kept]).min() >= np.abs(original[~kept]).max()


def test_magnitude_keeps_the_blocks_of_largest_norm() -> None:
    original = np.ones((4, 6), np.float32)
    original[0:2, 2:4] = 2
    original[2:4, 4:6] = -3
    recipe = SparsityRecipe(0.6, (2, 2))
    weight = simulate_weight(original, recipe, seed=0, method="magnitude")
    expected = np.zeros((4, 6), np.float32)
    expected[0:2, 2:4] = 2
    expected[2:4, 4:6] = -3
    expected[0:2, 0:2] = 1
    np.testing.assert_array_equal(weight, expected)


def test_magnitude_takes_the_first_of_equals() -> None:
    weight = simulate_weight(np.ones((2, 4)), SparsityRecipe(0.6), seed=0, method="magnitude")
    np.testing.assert_array_equal(weight, [[1, 1, 1, 0], [0, 0, 0, 0]])


def test_magnitude_gives_no_value_to_a_zero() -> None:
    original = np.zeros((4, 4))
    original[2, 1] = 0.5
    weight = simulate_weight(original, SparsityRecipe(0.5), seed=0, method="magnitude")
    np.testing.assert_array_equal(weight, original)


def test_the_original_is_left_as_it_was() -> None:
    original = normal((8, 8))
    copy = original.copy()
    for method in METHODS:
        weight = simulate_weight(original, SparsityRecipe(0.0), seed=0, method=method)
        weight[:] = 7
        np.testing.assert_array_equal(original, copy)


def test_a_seed_decides_everything() -> None:
    recipe = SparsityRecipe.parse("0.8@4x1")

    def make(seed: Any) -> NDArray[np.float32]:
        return simulate_weight(np.zeros((32, 16)), recipe, seed=seed)

    np.testing.assert_array_equal(make(7), make(7))
    np.testing.assert_array_equal(make(layer_seed(7, "a.b")), make([*layer_seed(7, "a.b")]))
    others = [make(seed) for seed in (7, 8, layer_seed(7, "a"), layer_seed(7, "b"))]
    for index, one in enumerate(others):
        assert not any(np.array_equal(one, other) for other in others[:index])


def test_float16_and_transposed_weights() -> None:
    original = normal((6, 10)).astype(np.float16).T
    weight = simulate_weight(original, SparsityRecipe(0.0), seed=0, method="magnitude")
    np.testing.assert_array_equal(weight, original.astype(np.float32))


@pytest.mark.parametrize("seed", [-1, None, "7", 1.5, [], [1, -1], ["a"]])
def test_a_wrong_seed_is_refused(seed: Any) -> None:
    with pytest.raises(InputError, match="a seed is"):
        simulate_weight(np.zeros((2, 2)), SparsityRecipe(0.5), seed=seed)


def test_wrong_arguments_are_refused() -> None:
    recipe = SparsityRecipe(0.5)
    with pytest.raises(InputError, match="matrix"):
        simulate_weight(np.zeros(4), recipe, seed=0)
    with pytest.raises(InputError, match="found 'movement'"):
        simulate_weight(np.zeros((2, 2)), recipe, seed=0, method="movement")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="from 0 on"):
        layer_seed(-1, "a")
    for value in (np.nan, np.inf, 1e300):
        with pytest.raises(InputError, match="no magnitude"):
            simulate_weight(np.full((2, 2), value), recipe, seed=0, method="magnitude")
