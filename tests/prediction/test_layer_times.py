"""Curves of layers, and that a real layer takes real time."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from prunus.plan import Options, make_options
from prunus.prediction.curve import Curve
from prunus.prediction.layer_times import LayerTimes, anchors
from prunus.prediction.predictor import Layer
from prunus.prediction.probe import Probe, time_probe
from prunus.prediction.times import Times
from prunus.runtime.parts import most_tokens
from prunus.sparsity import SparsityRecipe
from tests.prediction.simulated import LAYERS, measure, seconds_of

UP = LAYERS[0]
RECIPES = tuple(SparsityRecipe(share) for share in (0.97, 0.5, 0.9))


def make_times(how: Callable[[Probe, Options], float] = measure) -> LayerTimes:
    options = make_options(threads=1)
    return LayerTimes(options, 10_000, Times(options, anew=True), how)


def taken(times: LayerTimes, layer: Layer, tokens: int) -> Curve:
    jobs = [times.job(layer, recipe, tokens, (1, tokens)) for recipe in RECIPES]
    times.times.take(jobs, lambda: lambda: 1.0, lambda *_: None)
    return times.curve(layer, RECIPES, tokens, (1, tokens))


def test_a_curve_is_made_of_what_was_measured() -> None:
    times = make_times()
    curve = taken(times, UP, 128)
    assert curve.densities == pytest.approx((0.03, 0.1, 0.5))
    assert curve.seconds == tuple(seconds_of(UP, "1x1", s, 128) for s in (0.97, 0.9, 0.5))
    assert times.curve(replace(UP, name="another"), RECIPES, 128, (1, 128)) == curve
    with pytest.raises(KeyError):
        times.curve(UP, RECIPES, 256, (1, 256))
    with pytest.raises(KeyError):
        times.seconds(UP, None, 128, (1, 128))


def test_fewer_weights_never_take_longer() -> None:
    def disturbed(probe: Probe, options: Options) -> float:
        slower = 50 if probe.recipe == SparsityRecipe(0.97) else 1
        return slower * measure(probe, options)

    curve = taken(make_times(disturbed), UP, 128)
    assert curve.seconds[0] == curve.seconds[1] == seconds_of(UP, "1x1", 0.9, 128)


def test_a_footprint_ends_at_the_caches() -> None:
    def footprint(weights: int, recipe: SparsityRecipe | None) -> int:
        options = make_options(threads=1)
        times = LayerTimes(options, weights, Times(options), measure, {"L2": 1 << 20})
        return int(json.loads(times.job(UP, recipe, 8, (1, 8)).name)[-1])

    assert footprint(1000, None) < footprint(100_000, None) < footprint(1 << 30, None)
    assert footprint(1 << 40, None) == footprint(1 << 30, SparsityRecipe(0.5))
    assert footprint(1 << 30, None) <= 2 * (1 << 20)


def test_a_layer_is_timed_in_the_parts_that_a_model_computes() -> None:
    options, probed = make_options(threads=1), list[Probe]()

    def noted(probe: Probe, options: Options) -> float:
        probed.append(probe)
        return 0.5 * probe.tokens

    def seconds(weights: int, shape: tuple[int, int], *, splits: bool = True) -> float:
        memory = Times(options, anew=True)
        times = LayerTimes(options, weights, memory, noted, splits=splits)
        tokens = shape[0] * shape[1]
        memory.take([times.job(UP, None, tokens, shape)], lambda: lambda: 1.0, lambda *_: None)
        return times.seconds(UP, None, tokens, shape)

    most = most_tokens(0, 1)
    length = most // 2
    # Few weights: parts of two sequences, and the last one of a single sequence.
    assert seconds(1000, (5, length)) == pytest.approx(0.5 * 5 * length)
    assert probed[-1].tokens == 2 * length
    # A sequence is never cut, and what fits at once is not either.
    for shape in ((1, 4 * most), (2, length)):
        assert seconds(1000, shape) == pytest.approx(0.5 * shape[0] * shape[1])
        assert probed[-1].tokens == shape[0] * shape[1]
    # Weights beyond the caches, or a model that is not computed in parts.
    seconds(1 << 40, (5, length))
    assert probed[-1].tokens == 5 * length
    seconds(1000, (5, length), splits=False)
    assert probed[-1].tokens == 5 * length


def test_anchors_reach_as_far_as_is_asked() -> None:
    def shares(asked: tuple[float, ...]) -> list[float]:
        return [each.sparsity for each in anchors(asked, SparsityRecipe(0.5, (4, 1)))]

    assert shares((0.5, 0.97)) == [0.5, 0.75, 0.9, 0.97]
    assert shares((0.2, 0.9)) == [0.3, 0.5, 0.75, 0.9, 0.97]
    assert shares((0.9, 0.99)) == [0.5, 0.75, 0.9, 0.97, 0.99]
    two_of_four = SparsityRecipe(0.5, None, (2, 4))
    assert anchors((0.5,), two_of_four) == (two_of_four,)


@pytest.mark.parametrize("recipe", [None, "0.9", "0.5@16x1", "0.5@2:4"])
@pytest.mark.parametrize(
    ("activation", "residual"), [("none", False), ("gelu", False), ("none", True)]
)
def test_a_real_layer_takes_some_time(recipe: str | None, activation: str, residual: bool) -> None:
    parsed = None if recipe is None else SparsityRecipe.parse(recipe)
    probe = Probe(Layer("w", 48, 32, activation, residual), parsed, 40, 1 << 16)
    assert 0 < time_probe(probe, make_options(threads=1)) < 1
