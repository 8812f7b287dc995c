"""Makes pruned weights: what a model would gain from pruning, before anyone prunes it.

The idea is that of `random_sparse_bert_params` in Apache TVM's tutorial "Deploy a Hugging Face
Pruned Model on CPU": only the number of zeros and their pattern decide the speed, so random weights
measure it as well as trained ones.
"""

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from prunus.errors import InputError
from prunus.sparsity.blocks import block_grid, block_sums, spread_blocks
from prunus.sparsity.recipe import SparsityRecipe

Method: TypeAlias = Literal["random", "magnitude"]

RANDOM_RANGE = np.float32(0.1)
"""Random values are uniform in ±0.1, as in the tutorial."""


def layer_seed(seed: int, name: str) -> tuple[int, ...]:
    """A seed for one layer that depends on no other layer and not on their order.

    Raises:
        InputError: `seed` is negative.
    """
    if seed < 0:
        raise InputError(f"a seed is an integer from 0 on, found {seed}")
    return (seed, *name.encode())


def simulate_weight(
    weight: NDArray[Any],
    recipe: SparsityRecipe,
    *,
    seed: int | Sequence[int],
    method: Method = "random",
) -> NDArray[np.float32]:
    """Make a pruned weight of the shape of `weight` [outputs, inputs].

    Whole blocks are kept until they hold at least `int((1 - sparsity) · outputs · inputs)` values;
    a block that overhangs the edge counts the values that it has inside. With N:M, N of every M
    neighbouring inputs of an output are kept, and as many as N of a shorter last group.

    Args:
        weight: The weight to prune; "random" uses nothing but its shape.
        recipe: How many values are kept, and in which pattern.
        seed: Decides everything that is random: the same seed, shape and recipe give the same
            weight. `layer_seed` makes one from a model's seed and a layer's name.
        method: "random" keeps random blocks and draws new values, uniform in ±0.1 and never zero,
            so that the number kept is the number of nonzeros. "magnitude" keeps the blocks of the
            largest Euclidean norm (of equal ones, the first) with their values, and needs no
            chance. A zero of the original that is kept stays a zero, so a weight that had fewer
            nonzeros than are to be kept does not gain any.

    Raises:
        InputError: `weight` is not 2-D, a value that "magnitude" compares is not finite in float32,
            the method is unknown, or the seed is negative.
    """
    if weight.ndim != 2:
        raise InputError(f"a weight is a matrix [outputs, inputs], found shape {weight.shape}")
    shape = (weight.shape[0], weight.shape[1])
    block = recipe.block or (1, 1)
    if method == "magnitude":
        values = _finite_float32(weight)
        norms = block_sums(np.square(values, dtype=np.float64), block)
        return np.where(_keep(norms, recipe, shape), values, np.float32(0))
    if method != "random":
        raise InputError(f'a method is "random" or "magnitude", found {method!r}')
    generator = _generator(seed)
    kept = _keep(generator.random(block_grid(shape, block)), recipe, shape)
    simulated = np.zeros(shape, np.float32)
    simulated[kept] = _random_values(int(np.count_nonzero(kept)), generator)
    return simulated


def _keep(
    scores: NDArray[np.float64], recipe: SparsityRecipe, shape: tuple[int, int]
) -> NDArray[np.bool_]:
    """Choose the elements that stay, by the highest scores, one score for each block."""
    if recipe.n_of_m is not None:
        return _keep_n_of_m(scores, *recipe.n_of_m)
    block = recipe.block or (1, 1)
    # The tiny addition undoes rounding: 1 - 0.9 is 0.0999…98, and 10 of 100 are wanted, not 9.
    wanted = int((1 - recipe.sparsity) * shape[0] * shape[1] + 1e-6)
    areas = np.outer(_sides(shape[0], block[0]), _sides(shape[1], block[1])).reshape(-1)
    return spread_blocks(_keep_best(scores, areas, wanted), block, shape)


def _keep_best(
    scores: NDArray[np.float64], areas: NDArray[np.int64], wanted: int
) -> NDArray[np.bool_]:
    """Choose the blocks of the highest scores until their areas add up to `wanted`."""
    flat = scores.reshape(-1)
    kept = np.zeros(flat.size, np.bool_)
    if wanted <= 0:
        return kept.reshape(scores.shape)
    if areas.min() < areas.max():
        order = np.argsort(-flat, kind="stable")
        kept[order[: np.searchsorted(np.cumsum(areas[order]), wanted) + 1]] = True
        return kept.reshape(scores.shape)
    # Equal areas need no sort, only the last score that is still in: 20 times faster at 1×1.
    count = -(-wanted // int(areas[0]))
    last = np.partition(flat, flat.size - count)[flat.size - count]
    kept[flat > last] = True
    ties = np.flatnonzero(flat == last)
    kept[ties[: count - int(np.count_nonzero(kept))]] = True
    return kept.reshape(scores.shape)


def _keep_n_of_m(scores: NDArray[np.float64], n: int, m: int) -> NDArray[np.bool_]:
    """Choose the `n` highest of each `m` neighbours in a row; the last group may be short."""
    rows, columns = scores.shape
    groups = -(-columns // m)
    padded = np.full((rows, groups * m), -np.inf)
    padded[:, :columns] = scores
    best = np.argsort(-padded.reshape(rows, groups, m), axis=-1, kind="stable")[:, :, :n]
    kept = np.zeros((rows, groups, m), np.bool_)
    np.put_along_axis(kept, best, True, axis=-1)
    return kept.reshape(rows, groups * m)[:, :columns]


def _sides(length: int, side: int) -> NDArray[np.int64]:
    """Elements in each block along one axis: `side`, less what the last block overhangs."""
    starts = np.arange(0, length, side)
    return np.minimum(side, length - starts)


def _random_values(count: int, generator: np.random.Generator) -> NDArray[np.float32]:
    values = (2 * generator.random(count, dtype=np.float32) - 1) * RANDOM_RANGE
    values[values == 0] = RANDOM_RANGE
    return values


def _finite_float32(weight: NDArray[Any]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        values = weight.astype(np.float32)
    if not np.isfinite(values).all():
        raise InputError(
            f"the weight {weight.shape} holds NaN, infinity or a value beyond float32, which have "
            f"no magnitude to compare; repair the checkpoint"
        )
    return values


def _generator(seed: int | Sequence[int]) -> np.random.Generator:
    parts: tuple[object, ...] = tuple(seed) if isinstance(seed, Sequence) else (seed,)
    if not parts or not all(isinstance(part, int) and part >= 0 for part in parts):
        raise InputError(f"a seed is one or more integers from 0 on, found {seed!r}")
    return np.random.default_rng(seed)
