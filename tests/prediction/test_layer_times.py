"""What is measured, once, and what is remembered, also of a run that was interrupted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from prunus import cache
from prunus.plan import Options, make_options
from prunus.prediction.layer_times import KIND, LayerTimes, Times, anchors
from prunus.prediction.predictor import Layer
from prunus.prediction.probe import Probe, time_probe
from prunus.sparsity import SparsityRecipe
from tests.prediction.simulated import LAYERS, measure, seconds_of

UP = LAYERS[0]
RECIPES = tuple(SparsityRecipe(share) for share in (0.97, 0.5, 0.9))


def make_times(
    measured: list[Probe], how: Callable[[Probe, Options], float] = measure
) -> LayerTimes:
    def noted(probe: Probe, options: Options) -> float:
        measured.append(probe)
        return how(probe, options)

    options = make_options(threads=1)
    return LayerTimes(options, 10_000, Times(options), noted)


@pytest.fixture(autouse=True)
def empty_cache() -> None:
    cache.clear(KIND)


def test_each_is_measured_once_and_remembered_by_the_next_process() -> None:
    measured: list[Probe] = []
    curve = make_times(measured).curve(UP, RECIPES, 128)
    assert curve.densities == pytest.approx((0.03, 0.1, 0.5))
    assert curve.seconds == tuple(seconds_of(UP, "1x1", s, 128) for s in (0.97, 0.9, 0.5))
    assert len(measured) == 3
    assert make_times(measured).curve(UP, RECIPES, 128) == curve
    assert len(measured) == 3
    make_times(measured).curve(replace(UP, name="another"), RECIPES, 128)
    assert len(measured) == 3, "the name of a layer says nothing about its time"
    make_times(measured).curve(UP, RECIPES, 256)
    assert len(measured) == 6
    options = make_options(threads=1)
    assert Times(options, anew=True).get(measured[0].name) is None


def test_an_interrupted_run_keeps_what_it_measured() -> None:
    measured: list[Probe] = []

    def interrupted(probe: Probe, options: Options) -> float:
        if len(measured) == 3:
            raise KeyboardInterrupt
        return measure(probe, options)

    with pytest.raises(KeyboardInterrupt):
        make_times(measured, interrupted).curve(UP, RECIPES, 128)
    make_times(measured).curve(UP, RECIPES, 128)
    assert len(measured) == 4, "two were kept, one was interrupted, and it alone is done again"


def test_a_damaged_memory_is_made_anew_and_said() -> None:
    measured: list[Probe] = []
    make_times(measured).seconds(make_times(measured).probe(UP, None, 128))
    (entry,) = (cache.cache_folder() / KIND).iterdir()
    entry.write_bytes(entry.read_bytes()[:-5])
    cache._said.discard("damaged")
    with pytest.warns(cache.CacheWarning, match="is damaged, so it is made again"):
        times = make_times(measured)
    times.seconds(times.probe(UP, None, 128))
    assert len(measured) == 2


def test_what_takes_longer_with_fewer_weights_is_measured_again() -> None:
    calls: list[Probe] = []

    def disturbed_once(probe: Probe, options: Options) -> float:
        is_disturbed = probe.recipe == SparsityRecipe(0.97) and calls.count(probe) == 1
        return (50 if is_disturbed else 1) * measure(probe, options)

    curve = make_times(calls, disturbed_once).curve(UP, RECIPES, 128)
    assert curve.seconds[0] == seconds_of(UP, "1x1", 0.97, 128)
    assert make_times(calls).curve(UP, RECIPES, 128) == curve


def test_anchors_reach_as_far_as_is_asked() -> None:
    def shares(asked: tuple[float, ...]) -> list[float]:
        return [each.sparsity for each in anchors(asked, SparsityRecipe(0.5, (4, 1)))]

    assert shares((0.5, 0.97)) == [0.5, 0.75, 0.9, 0.97]
    assert shares((0.2, 0.9)) == [0.3, 0.5, 0.75, 0.9, 0.97]
    assert shares((0.9, 0.99)) == [0.5, 0.75, 0.9, 0.97, 0.99]
    two_of_four = SparsityRecipe(0.5, None, (2, 4))
    assert anchors((0.5,), two_of_four) == (two_of_four,)


@pytest.mark.parametrize("recipe", [None, "0.9", "0.5@16x1", "0.5@2:4"])
@pytest.mark.parametrize("epilogue", ["none", "gelu", "none + residual"])
def test_a_real_layer_takes_some_time(recipe: str | None, epilogue: str) -> None:
    parsed = None if recipe is None else SparsityRecipe.parse(recipe)
    probe = Probe(Layer("w", 48, 32, epilogue), parsed, 40, 1 << 16)
    assert 0 < time_probe(probe, make_options(threads=1)) < 1
