"""Answers against brute force, on a processor whose times are known."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunus.errors import InputError
from prunus.prediction.answer import BreakEven, LeastSparsity, NonUniform, PruneOrder
from prunus.prediction.questions import (
    answers,
    break_even,
    least_sparsity,
    non_uniform,
    order,
)
from prunus.sparsity import SparsityRecipe
from tests.prediction.simulated import (
    LAYERS,
    PER_NONZERO,
    PER_ROW,
    PER_WEIGHT,
    SHAPES,
    simulated_predictor,
)

PREDICTOR = simulated_predictor()
SHARES = [0.5 + i / 1000 for i in range(471)]


@given(
    pattern=st.sampled_from(["1x1", "16x1"]),
    shape=st.sampled_from(SHAPES),
    speedup=st.floats(1.0, 3.0),
)
def test_the_least_sparsity_is_the_first_that_meets_the_target(
    pattern: str, shape: tuple[int, int], speedup: float
) -> None:
    target = PREDICTOR.dense_call(shape) / speedup
    found = least_sparsity(PREDICTOR, pattern, shape, target)
    meeting = [s for s in SHARES if PREDICTOR.seconds(pattern, s, shape) <= target]
    if speedup == 1.0:
        assert found == 0
    elif not meeting:
        assert found is None or found > 0.969
    else:
        assert found == pytest.approx(meeting[0], abs=1.1e-3)


def test_n_of_m_have_one_share() -> None:
    shape = SHAPES[0]
    meets = PREDICTOR.seconds("2:4", 0.5, shape)
    assert least_sparsity(PREDICTOR, "2:4", shape, meets) == 0.5
    assert least_sparsity(PREDICTOR, "2:4", shape, 0.99 * meets) is None
    with pytest.raises(InputError, match="leaves no choice"):
        non_uniform(PREDICTOR, "2:4", shape, 0.5)


@pytest.mark.parametrize("layer", LAYERS, ids=str)
@pytest.mark.parametrize("pattern", ["1x1", "16x1"])
def test_break_even_is_where_both_kernels_take_the_same(layer: object, pattern: str) -> None:
    of = next(each for each in LAYERS if each is layer)
    found = break_even(PREDICTOR, of, pattern, SHAPES[0])
    density = (of.weights * PER_WEIGHT - of.outputs * PER_ROW / 16) / (
        of.weights * PER_NONZERO[pattern]
    )
    if 1 - density > 0.97:
        assert found is None
    else:
        assert found == pytest.approx(max(1 - density, 0.5))


def test_the_first_layer_buys_most_for_each_weight() -> None:
    found = order(PREDICTOR, "16x1", 0.9, SHAPES[0])
    rates = [each.rate for each in found.bought]
    assert rates == sorted(rates, reverse=True)
    first = found.bought[0]
    alone = PREDICTOR.seconds("16x1", {e.name: 0.9 for e in first.group.layers}, SHAPES[0])
    assert first.seconds == pytest.approx(PREDICTOR.dense_call(SHAPES[0]) - alone)


@given(budget=st.floats(0.05, 0.97), pattern=st.sampled_from(["1x1", "16x1"]))
def test_other_shares_by_layer_keep_as_many_weights_and_are_never_slower(
    budget: float, pattern: str
) -> None:
    shape = SHAPES[0]
    found = non_uniform(PREDICTOR, pattern, shape, budget)
    removed = sum(found.shares[layer.name] * layer.weights for layer in LAYERS)
    assert removed == pytest.approx(budget * sum(layer.weights for layer in LAYERS))
    assert found.seconds == pytest.approx(PREDICTOR.seconds(pattern, found.shares, shape))
    assert found.seconds <= found.uniform * (1 + 1e-12)
    assert found.uniform == pytest.approx(PREDICTOR.seconds(pattern, budget, shape))


def test_every_question_is_answered_in_a_sentence_and_as_data() -> None:
    recipes = [SparsityRecipe.parse(each) for each in ("0.5", "0.9", "0.9@16x1", "0.5@2:4")]
    found = answers(PREDICTOR, recipes, SHAPES, target=1e-9, speedup=2.0)
    kinds = [type(each) for each in found]
    assert kinds.count(LeastSparsity) == 2 * 3 * 2
    assert kinds.count(BreakEven) == 2 * 3 * 3
    assert kinds.count(PruneOrder) == 2 * 4
    assert kinds.count(NonUniform) == 2 * 3
    assert all(str(each) and each.to_dict()["answers"] for each in found)
    assert "out of reach" in str(found[0])
