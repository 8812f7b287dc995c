"""The arithmetic of a prediction, on a processor whose times are known."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunus.errors import InputError
from prunus.prediction.curve import Curve
from tests.prediction.simulated import (
    LAYERS,
    REST,
    SHAPES,
    seconds_of,
    simulated_predictor,
    tokens_of,
)


@given(sparsity=st.floats(0.01, 0.99), shape=st.sampled_from(SHAPES), blocks=st.booleans())
def test_a_call_is_the_sum_of_its_layers_and_the_rest(
    sparsity: float, shape: tuple[int, int], blocks: bool
) -> None:
    pattern = "16x1" if blocks else "1x1"
    expected = REST[shape]
    for layer in LAYERS:
        tokens = tokens_of(layer, shape)
        dense = seconds_of(layer, None, 0, tokens)
        expected += min(dense, seconds_of(layer, pattern, sparsity, tokens))
    assert simulated_predictor().seconds(pattern, sparsity, shape) == pytest.approx(expected)


def test_layers_may_have_shares_of_their_own_and_are_dense_otherwise() -> None:
    predictor, shape = simulated_predictor(), SHAPES[0]
    one = predictor.seconds("16x1", {LAYERS[0].name: 0.9}, shape)
    gain = predictor.dense_seconds(LAYERS[0], shape)
    gain -= predictor.layer_seconds(LAYERS[0], "16x1", 0.9, shape)
    assert gain > 0
    assert one == pytest.approx(predictor.dense_call(shape) - gain)


def test_what_was_not_measured_is_an_error() -> None:
    with pytest.raises(InputError, match=r"4x4 at 1x128 was not measured .* name it in the grid"):
        simulated_predictor().seconds("4x4", 0.9, (1, 128))


def test_a_curve_goes_through_what_was_measured_and_never_below_reason() -> None:
    curve = Curve((0.1, 0.2, 0.5), (2.0, 3.0, 9.0))
    assert [curve.at(1 - density) for density in (0.1, 0.15, 0.2, 0.35, 0.5)] == pytest.approx(
        [2.0, 2.5, 3.0, 6.0, 9.0]
    )
    assert curve.at(0.4) == pytest.approx(11.0)  # the last line goes on
    steep = Curve((0.1, 0.2), (1.0, 8.0))
    assert steep.at(0.999) == pytest.approx(0.5)
    assert Curve((0.5,), (4.0,)).at(0.9) == 4.0
    with pytest.raises(ValueError, match="rising"):
        Curve((0.2, 0.1), (1.0, 2.0))
