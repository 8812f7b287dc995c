import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from prunus.errors import InputError
from prunus.sparsity import (
    CANDIDATE_BLOCKS,
    BlockSparse,
    SparsityRecipe,
    empty_heads,
    measure,
    simulate_weight,
)


def simulated(recipe: str, shape: tuple[int, int] = (256, 192), seed: int = 0) -> NDArray[Any]:
    return simulate_weight(np.zeros(shape), SparsityRecipe.parse(recipe), seed=seed)


def dense(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).uniform(1, 2, shape).astype(np.float32)


@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    density=st.sampled_from([0.0, 0.02, 0.2, 0.9]),
    block=st.tuples(st.integers(1, 45), st.integers(1, 45)),
    seed=st.integers(0, 1000),
)
def test_block_measures_are_those_of_the_stored_blocks(
    shape: tuple[int, int], density: float, block: tuple[int, int], seed: int
) -> None:
    mask = np.random.default_rng(seed).random(shape) < density
    pattern = measure(mask.astype(np.float32), (block, (2, 3), (4, 6)))
    sparse = BlockSparse.from_dense(mask.astype(np.float32), block)
    grid = [math.ceil(side / part) for side, part in zip(shape, block, strict=True)]
    measured = pattern.of(block)
    assert measured.empty == pytest.approx(1 - len(sparse.indices) / (grid[0] * grid[1]))

    inside = np.outer(mask.any(axis=1), mask.any(axis=0)).astype(np.float64)
    reached = BlockSparse.from_dense(inside, block)
    stored = np.zeros(shape)
    for row in range(grid[0]):
        for b in range(sparse.indptr[row], sparse.indptr[row + 1]):
            column = sparse.indices[b] * block[1]
            stored[row * block[0] : (row + 1) * block[0], column : column + block[1]] = 1
    if mask.any():
        assert measured.fill == pytest.approx(mask.sum() / stored.sum())
        assert measured.fill_inside == pytest.approx(mask.sum() / (stored * inside).sum())
        assert measured.empty_inside == pytest.approx(
            1 - len(sparse.indices) / len(reached.indices)
        )
    else:
        assert (measured.fill, measured.fill_inside, measured.empty_inside) == (0, 0, 0)


@given(
    sparsity=st.floats(0.3, 0.95),
    block=st.sampled_from(CANDIDATE_BLOCKS),
    shape=st.tuples(st.integers(300, 340), st.integers(300, 340)),
    seed=st.integers(0, 100),
)
def test_simulated_blocks_are_recognised(
    sparsity: float, block: tuple[int, int], shape: tuple[int, int], seed: int
) -> None:
    recipe = SparsityRecipe(sparsity, block)
    pattern = measure(simulate_weight(np.zeros(shape), recipe, seed=seed))
    assert (pattern.kind, pattern.block) == ("block", block)
    assert pattern.of(block).fill == 1
    assert pattern.zeros == pytest.approx(sparsity, abs=0.02)


@pytest.mark.parametrize("n_of_m", [(1, 2), (1, 4), (2, 4), (4, 8)])
@pytest.mark.parametrize("columns", [192, 190, 187])
def test_simulated_n_of_m_is_recognised(n_of_m: tuple[int, int], columns: int) -> None:
    recipe = SparsityRecipe(1 - n_of_m[0] / n_of_m[1], n_of_m=n_of_m)
    original = dense(64, columns)
    for method in ("random", "magnitude"):
        pattern = measure(simulate_weight(original, recipe, seed=1, method=method))
        assert (pattern.kind, pattern.n_of_m) == ("n:m", n_of_m)


def test_n_of_m_survives_empty_rows() -> None:
    weight = simulated("0.5@2:4")
    weight[::3] = 0
    assert measure(weight).describe() == ("66.8 % zero, 2:4 along the inputs; 86 of 256 rows empty")


@pytest.mark.parametrize("sparsity", ["0.3", "0.5", "0.8", "0.9", "0.97", "0.99", "0.999"])
@pytest.mark.parametrize("shape", [(256, 192), (768, 768), (61, 63)])
def test_random_zeros_are_unstructured_at_every_sparsity(
    sparsity: str, shape: tuple[int, int]
) -> None:
    pattern = measure(simulated(sparsity, shape))
    assert (pattern.kind, pattern.n_of_m, pattern.block) == ("unstructured", None, None)


@pytest.mark.parametrize("density", [0.02, 0.05, 0.15])
@pytest.mark.parametrize("seed", range(5))
def test_uneven_rows_and_columns_are_unstructured(density: float, seed: int) -> None:
    generator = np.random.default_rng(seed)
    rows, columns = generator.lognormal(0, 1.5, (400, 1)), generator.lognormal(0, 1.0, 256)
    chances = density * rows * columns / (rows * columns).mean()
    weight = (generator.random(chances.shape) < chances).astype(np.float32)
    weight[generator.random(400) < 0.3] = 0
    weight[64:128] = 0
    pattern = measure(weight)
    assert (pattern.kind, pattern.n_of_m, pattern.block) == ("unstructured", None, None)


def test_a_group_broken_once_is_no_n_of_m() -> None:
    weight = simulated("0.5@2:4")
    weight[17, 4:8] = 1
    assert measure(weight).kind == "unstructured"


def test_empty_columns_do_not_pass_for_n_of_m() -> None:
    weight = simulated("0.4")
    weight[:, ::2] = 0
    assert measure(weight).n_of_m is None
    assert measure(weight).describe() == "69.9 % zero, unstructured; 96 of 192 columns empty"


def test_whole_rows_and_columns() -> None:
    weight = dense(256, 192)
    weight[5:60] = 0
    weight[:, 7::11] = 0
    pattern = measure(weight)
    assert (pattern.kind, pattern.empty_rows, pattern.empty_columns) == ("rows-columns", 55, 17)
    assert pattern.describe() == (
        "28.4 % zero, whole rows or columns; 55 of 256 rows and 17 of 192 columns empty"
    )


def test_rows_that_are_empty_in_an_unstructured_weight() -> None:
    weight = simulated("0.9")
    weight[:32] = 0
    pattern = measure(weight)
    assert pattern.kind == "unstructured"
    assert pattern.describe().endswith("% zero, unstructured; 32 of 256 rows empty")


def test_blocks_are_recognised_among_empty_rows_and_columns() -> None:
    weight = simulated("0.8@16x16")
    weight[3::7] = 0
    weight[:, 5::9] = 0
    pattern = measure(weight)
    assert (pattern.kind, pattern.block) == ("block", (16, 16))
    assert pattern.of((16, 16)).fill_inside == 1
    assert 0.7 < pattern.of((16, 16)).fill < 0.8


def test_blocks_that_lost_a_few_values_are_still_blocks() -> None:
    weight = simulated("0.8@4x4", (256, 256))
    weight[np.random.default_rng(1).random(weight.shape) < 0.03] = 0
    pattern = measure(weight)
    assert (pattern.kind, pattern.block) == ("block", (4, 4))
    assert pattern.describe().startswith("80.6 % zero, 4×4 blocks 97.")


@pytest.mark.parametrize("zeros", [0.0, 0.01, 0.08])
def test_a_few_zeros_are_no_pruning(zeros: float) -> None:
    pattern = measure(simulated(f"{zeros}"))
    assert pattern.kind == "dense"
    assert pattern.describe() == f"{100 * zeros:.1f} % zero, dense"


def test_a_dead_feature_is_no_pruning_but_is_counted() -> None:
    weight = dense(256, 192)
    weight[9] = 0
    assert measure(weight).describe() == "0.4 % zero, dense; 1 of 256 rows empty"


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (5, 0), (1, 1), (33, 70)])
def test_nothing_is_empty(shape: tuple[int, int]) -> None:
    pattern = measure(np.zeros(shape, np.float32))
    assert pattern.kind == "empty"
    assert pattern.zeros == 1
    assert (pattern.empty_rows, pattern.empty_columns) == shape
    assert pattern.of((1, 1)).empty == 1
    assert pattern.of((16, 1)).empty == 1
    assert pattern.describe().startswith("empty")


def test_one_weight_is_dense() -> None:
    assert measure(np.ones((1, 1), np.float32)).kind == "dense"


def test_almost_everything_is_not_everything() -> None:
    weight = np.zeros((256, 192), np.float32)
    weight[[1, 2], [1, 2]] = 1
    assert measure(weight).describe().startswith("over 99.9 % zero, unstructured")


def test_single_elements_are_always_measured() -> None:
    weight = simulated("0.9")
    weight[::2] = 0
    single = measure(weight, ()).of((1, 1))
    assert single.empty == np.mean(weight == 0)
    assert single.fill == 1
    live = weight[weight.any(axis=1)][:, weight.any(axis=0)]
    assert single.empty_inside == pytest.approx(np.mean(live == 0))


def test_a_block_that_was_not_measured_is_an_error() -> None:
    with pytest.raises(InputError, match="3x5 were not measured"):
        measure(dense(4, 4)).of((3, 5))


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int8])
def test_any_number_is_measured_in_any_order(dtype: type) -> None:
    weight = (simulated("0.9@1x4") != 0).astype(dtype)
    assert measure(weight).block == (1, 4)
    assert measure(weight.T).block == (4, 1)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_refused(value: float) -> None:
    weight = dense(4, 4)
    weight[2, 2] = value
    with pytest.raises(InputError, match="NaN"):
        measure(weight)
    with pytest.raises(InputError, match="NaN"):
        empty_heads(weight, 2, 0)


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(InputError, match="matrix"):
        measure(dense(4, 4, 4))
    with pytest.raises(InputError, match="two positive integers"):
        measure(dense(4, 4), [(0, 1)])
    with pytest.raises(InputError, match="axis 2"):
        empty_heads(dense(4, 4), 2, 2)
    with pytest.raises(InputError, match="3 heads do not divide the 4 columns"):
        empty_heads(dense(4, 4), 3, 1)
    with pytest.raises(InputError, match="0 heads"):
        empty_heads(dense(4, 4), 0, 0)


def test_empty_heads_on_both_axes() -> None:
    weight = dense(12, 20)
    weight[3:6] = 0
    weight[7] = 0
    assert empty_heads(weight, 4, 0).tolist() == [False, True, False, False]
    assert empty_heads(weight.T, 4, 1).tolist() == [False, True, False, False]
    assert not empty_heads(weight, 4, 1).any()
    assert empty_heads(np.zeros((4, 0), np.float32), 2, 0).tolist() == [True, True]
