"""Which kernel a linear layer gets, and the reason that is given."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunus.ir import Constant
from prunus.kernels.panel import MAX_ROWS
from prunus.plan import linear, make_options
from prunus.plan.linear import LinearChoice, choose, row_groups
from prunus.plan.race import Choices, Entrant
from prunus.sparsity import BlockSparse, SparsityRecipe, measure, simulate_weight


def chosen(weight: np.ndarray, **options: Any) -> LinearChoice:
    """The choice for a measured weight, without a race unless asked for."""
    made = make_options(**{"tune": "cost", "threads": 1, **options})
    return choose(Constant(weight, measure(weight)), made, Choices(made.target))


def simulated(recipe: str, shape: tuple[int, int] = (96, 128)) -> np.ndarray:
    weight = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    return simulate_weight(weight, SparsityRecipe.parse(recipe), seed=1)


def half_empty(block: tuple[int, int], empty: int, of: int) -> np.ndarray:
    """A weight of `of` blocks in a column, the first `empty` of which hold nothing."""
    weight = np.ones((of * block[0], block[1]), np.float32)
    weight[: empty * block[0]] = 0
    return weight


def test_sparse_false_is_the_dense_baseline() -> None:
    choice = chosen(simulated("0.95"), sparse=False)
    assert choice.candidate.key == chosen(np.ones((96, 128), np.float32)).candidate.key
    assert choice.reason == "dense: asked for: sparse=False"


def test_a_dense_weight_is_dense() -> None:
    choice = chosen(np.random.default_rng(0).standard_normal((96, 128)).astype(np.float32))
    assert not choice.candidate.sparse
    assert choice.reason.startswith("dense: 0.0 % zero")


def test_few_zeros_do_not_pay() -> None:
    choice = chosen(simulated("0.35"))
    assert not choice.candidate.sparse
    assert "would take" in choice.reason
    assert "(estimated)" in choice.reason


def test_unstructured_zeros_get_the_row_stream() -> None:
    choice = chosen(simulated("0.95"))
    assert choice.candidate.key.startswith("stream")
    assert "unstructured" in choice.reason
    assert "times as fast as dense (estimated)" in choice.reason


@pytest.mark.parametrize("stored", [False, True])
def test_blocks_get_panels(stored: bool) -> None:
    weight = simulated("0.85@16x1")
    constant = BlockSparse.from_dense(weight, (16, 1)) if stored else weight
    options = make_options(tune="cost", threads=1)
    choice = choose(Constant(constant, measure(weight)), options, Choices(options.target))
    assert choice.candidate.label == "16×1 blocks"
    assert choice.reason.startswith("16×1 blocks: ")


def test_a_block_that_is_asked_for_is_the_only_sparse_form() -> None:
    assert chosen(simulated("0.97"), block=(4, 2)).candidate.label == "4×2 blocks"


def test_without_a_measure_a_weight_is_dense() -> None:
    options = make_options(threads=1)
    choice = choose(Constant(simulated("0.9")), options, Choices(options.target))
    assert choice.reason == "dense: not measured"


@pytest.mark.parametrize("block", ["auto", (1, 1), (1, 4), (4, 1), (16, 16)])
@pytest.mark.parametrize("tune", ["cost", "race"])
@pytest.mark.parametrize("threshold", ["auto", 1.0])
def test_a_weight_of_zeros_is_sparse(block: Any, tune: str, threshold: Any) -> None:
    weight = np.zeros((12, 10), np.float32)
    assert chosen(weight, block=block, tune=tune, threshold=threshold).candidate.sparse


# The tutorial's rule: sparse exactly where at least that share of the blocks is empty.


@given(
    st.integers(1, 40),
    st.integers(0, 40),
    st.sampled_from([(1, 1), (4, 1), (1, 4), (3, 5)]),
)
def test_the_threshold_counts_empty_blocks(of: int, empty: int, block: tuple[int, int]) -> None:
    empty = min(empty, of)
    weight = half_empty(block, empty, of)
    share = empty / of
    assert chosen(weight, block=block, threshold=share).candidate.sparse
    above = float(np.nextafter(share, 2))
    if above <= 1:
        assert not chosen(weight, block=block, threshold=above).candidate.sparse


def test_the_threshold_counts_overhanging_blocks_as_blocks() -> None:
    weight = np.ones((6, 6), np.float32)
    weight[:4, 4:] = weight[4:, :4] = 0  # two of the four blocks of 4×4
    at = chosen(weight, block=(4, 4), threshold=0.5)
    assert at.reason == (
        "4×4 blocks: 50.0 % of the blocks are empty, at least the threshold of 50 %"
    )
    above = chosen(weight, block=(4, 4), threshold=0.51)
    assert above.reason == (
        "dense: 50.0 % of the blocks are empty, less than the threshold of 51 %"
    )


def test_a_threshold_of_zero_makes_even_a_dense_weight_sparse() -> None:
    assert chosen(np.ones((8, 8), np.float32), threshold=0).candidate.sparse


# Races.


@pytest.fixture
def races(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Races whose results are `seconds`: of dense, and of every other entrant."""
    state: dict[str, Any] = {"seconds": (1.0, 1.0), "run": 0}

    def fake(entrants: Sequence[Entrant], *_: object) -> dict[str, float]:
        state["run"] += 1
        dense, other = state["seconds"]
        return {key: dense if key.startswith("dense") else other for key, _, _ in entrants}

    monkeypatch.setattr(linear, "race", fake)
    return state


@pytest.mark.parametrize(
    ("seconds", "sparse"), [((1.0, 0.98), False), ((1.0, 0.96), True), ((1.0, 3.0), False)]
)
def test_a_race_favours_dense_by_three_percent(
    races: dict[str, Any],
    seconds: tuple[float, float],
    sparse: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Choices, "remembered", lambda self, identity, keys, run: run())
    races["seconds"] = seconds
    choice = chosen(simulated("0.4"), tune="race")
    assert races["run"] == 1
    assert choice.candidate.sparse is sparse
    assert "raced" in choice.reason


def test_far_slower_kernels_are_not_raced(races: dict[str, Any]) -> None:
    dense = chosen(simulated("0.97", (96, 64)), tune="race")
    assert races["run"] == 0
    assert "estimated" in dense.reason


# The split of rows.


@given(st.integers(1, 10_000), st.integers(1, 64))
def test_row_groups_are_even_and_not_too_small(outputs: int, threads: int) -> None:
    groups = row_groups(outputs, threads)
    assert 1 <= groups <= max(1, outputs // MAX_ROWS)
    if groups * MAX_ROWS < outputs - MAX_ROWS * threads:
        assert groups % threads == 0
        assert outputs / groups <= linear.ROWS_PER_GROUP
