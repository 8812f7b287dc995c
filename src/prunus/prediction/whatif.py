"""What would pruning buy? Predicts a grid of recipes, then builds and runs the few worth a look."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial

import numpy as np

from prunus.bench.engines.contract import Arrays, float_arrays
from prunus.bench.inputs import random_inputs
from prunus.bench.rounds import interleave, turn_of
from prunus.bench.shapes import check_shape
from prunus.errors import InputError
from prunus.ir import bind_sizes
from prunus.kernels.processor import processor_name
from prunus.model import CompiledModel
from prunus.passes.merge_qkv import merged_names
from prunus.prediction.grid import grid_of, pattern_of
from prunus.prediction.layer_times import LayerTimes, anchors
from prunus.prediction.norms import norms_kept
from prunus.prediction.predictor import Layer, Predictor, Shape
from prunus.prediction.probe import make_gauge
from prunus.prediction.pruned import find_layers, pruned_model, separate
from prunus.prediction.questions import answers
from prunus.prediction.rest import rest_of, structure
from prunus.prediction.result import Built, Combination, WhatIf
from prunus.prediction.times import Gauge, Job, Progress, Times
from prunus.runtime.packing import PackingRule
from prunus.sparsity import Method, SparsityRecipe

REST_RECIPE = SparsityRecipe(0.9, None, None)
"""What the model has when the rest of a call is measured."""

REST_TAKES = 5.0
"""Seconds that building and measuring it takes, about."""

BUILT_SECONDS = 0.2
"""Length of a turn of what was built."""

LOOKED_AT = 0.9
"""Where no target is given: the share of zeros that pruning most often ends at, so this one is
built first, and then its neighbours."""


def whatif(
    model: CompiledModel,
    *,
    sparsities: Sequence[float],
    patterns: Sequence[str],
    shapes: Sequence[Shape],
    method: Method = "random",
    target: float | None = None,
    speedup: float | None = None,
    build: int = 3,
    seed: int = 0,
    progress: Progress | None = None,
    anew: bool = False,
) -> WhatIf:
    """Predict the time of a model under every recipe of a grid.

    Each kind of linear layer is timed once for each pattern, a few shares of zeros and each number
    of tokens, and remembered for this processor; the rest of a call is measured in a model that is
    pruned at random. A prediction is their sum. No other recipe is built, but those of `build`.

    Args:
        model: As it is now; its weights matter for "magnitude" alone.
        sparsities: Shares of zeros, each above 0 and below 1.
        patterns: `1x1` for single weights, `16x1` for blocks of rows by columns, `2:4` for N of M,
            which has one share of zeros.
        shapes: Batch and length of calls.
        method: "magnitude" also tells the share of the weights' norm that is kept, and how far the
            answers of what is built lie from those of the dense model.
        target: Seconds that a call may take.
        speedup: Over the dense model.
        build: How many recipes to build and run.
        seed: Of random zeros.
        progress: Told about each measurement.
        anew: Measure also what is remembered.

    Raises:
        InputError: an empty grid, a share of zeros, a pattern, a shape, a target or a number to
            build that is none, or a model without linear layers or with inputs that cannot be made
            up.
    """
    _check_wanted(target, speedup, build)
    model.check_weights()
    recipes, skipped = grid_of(sparsities, patterns)
    if not shapes:
        raise InputError("the grid is empty: it has no shape; name at least one, such as (1, 128)")
    for shape in shapes:
        _check_fits(model, shape)
    study = _Study(model, find_layers(model.graph), tuple(dict.fromkeys(shapes)), recipes,
                   Times(model.options, anew=anew), method, seed, progress or _silent)  # fmt: skip
    predictor, disturbed = study.predictor()
    grid = study.grid(predictor)
    first = study.shapes[0]
    for_speedup = predictor.dense_call(first) / speedup if speedup else math.inf
    chosen = worth_a_look(grid, first, min(target or math.inf, for_speedup))[:build]
    built, disturbed_runs = study.built(chosen, grid)
    return WhatIf(
        model=model.source.name,
        method=method,
        threads=model.threads,
        processor=processor_name(),
        zeros=1 - model.density,
        shapes=study.shapes,
        recipes=recipes,
        grid=grid,
        built=built,
        predictor=predictor,
        answers=answers(predictor, recipes, study.shapes, target=target, speedup=speedup),
        skipped=skipped,
        disturbed=disturbed + disturbed_runs,
    )


def _check_fits(model: CompiledModel, shape: Shape) -> None:
    check_shape(shape)
    if model.longest is not None and shape[1] > model.longest:
        raise InputError(
            f"the shape {shape[0]}x{shape[1]} is longer than the {model.longest} tokens that "
            f"{model.source.name} takes; give shorter ones"
        )


def _check_wanted(target: float | None, speedup: float | None, build: int) -> None:
    for name, value, least in (("target", target, 0), ("speedup", speedup, 1)):
        if value is not None and not least < value < math.inf:
            raise InputError(f"{name}={value}: expected a number above {least}")
    if build < 0:
        raise InputError(f"build={build}: expected how many recipes to build, from 0 on")


def worth_a_look(
    grid: Sequence[Combination], shape: Shape, wanted: float
) -> tuple[SparsityRecipe, ...]:
    """Recipes in the order in which a person would look at them: for each pattern the fewest zeros
    that take no longer than `wanted`, then the fastest pattern of each share of zeros, 90 % first.
    """
    here = [each for each in grid if each.shape == shape]
    order: dict[SparsityRecipe, None] = {}
    fastest = sorted(here, key=lambda each: (each.recipe.sparsity, each.seconds))
    if wanted < math.inf:
        met = set[str]()
        for each in fastest:
            if each.seconds <= wanted and pattern_of(each.recipe) not in met:
                met.add(pattern_of(each.recipe))
                order[each.recipe] = None
    shares = set[float]()
    for each in sorted(fastest, key=lambda each: abs(each.recipe.sparsity - LOOKED_AT)):
        if each.recipe.sparsity not in shares:
            shares.add(each.recipe.sparsity)
            order[each.recipe] = None
    return tuple(order)


@dataclass(frozen=True)
class _Study:
    """What all parts of one question share."""

    model: CompiledModel
    layers: tuple[Layer, ...]
    shapes: tuple[Shape, ...]
    recipes: tuple[SparsityRecipe, ...]
    times: Times
    method: Method
    seed: int
    progress: Progress

    def predictor(self) -> tuple[Predictor, int]:
        """Made of what is remembered and what is measured now; and how much of it was disturbed."""
        weights = sum(layer.weights for layer in self.layers)
        packing = self.model.program.packing
        splits = isinstance(packing, PackingRule) and packing.splits
        times = LayerTimes(self.model.options, weights, self.times, splits=splits)
        patterns = self._patterns()
        kinds = {layer.key: layer for layer in self.layers}.values()
        cells = [(kind, shape, self._tokens(kind, shape))
                 for kind in kinds for shape in self.shapes]  # fmt: skip
        recipes = (None, *(recipe for each in patterns.values() for recipe in each))
        jobs = [
            times.job(kind, recipe, tokens, shape)
            for kind, shape, tokens in cells
            for recipe in recipes
        ]
        rest = self._rest()
        disturbed = self.times.take(
            (*jobs, *rest.values()), partial(make_gauge, self.model.options), self.progress
        )
        predictor = Predictor(
            layers=self.layers,
            curves={
                (kind.key, pattern, shape): times.curve(kind, anchored, tokens, shape)
                for kind, shape, tokens in cells
                for pattern, anchored in patterns.items()
            },
            dense={
                (kind.key, shape): times.seconds(kind, None, tokens, shape)
                for kind, shape, tokens in cells
            },
            rest={shape: self.times[job.name] for shape, job in rest.items()},
        )
        return predictor, disturbed

    def grid(self, predictor: Predictor) -> tuple[Combination, ...]:
        """Every recipe at every shape."""
        kept = self._norms()
        return tuple(
            Combination(
                recipe=recipe,
                shape=shape,
                seconds=(seconds := predictor.seconds(pattern_of(recipe), recipe.sparsity, shape)),
                dense=predictor.dense_call(shape),
                linear=seconds - predictor.rest[shape],
                norm=kept.get(recipe),
            )
            for shape in self.shapes
            for recipe in self.recipes
        )

    def built(
        self, chosen: Sequence[SparsityRecipe], grid: Sequence[Combination]
    ) -> tuple[tuple[Built, ...], int]:
        """Build these recipes and the dense model, and time them side by side at every shape; and
        at how many shapes that was disturbed.
        """
        if not chosen:
            return (), 0
        models = [self.model.recompile(sparse=False)]
        for number, recipe in enumerate(chosen):
            self.progress(number, len(chosen), f"building {recipe}")
            models.append(self._pruned(recipe, self.method))
        gauge = make_gauge(self.model.options)
        built, disturbed = list[Built](), 0
        for shape in self.shapes:
            inputs = self._inputs(shape)
            self.progress(len(chosen), len(chosen), f"running at {shape[0]}x{shape[1]}")
            calls = [partial(model, **inputs) for model in models]
            expected, *found = (float_arrays(call()) for call in calls)
            (dense, *medians), slowed = self.times.undisturbed(partial(_side_by_side, calls, gauge))
            disturbed += slowed > 1
            predicted = {each.recipe: each for each in grid if each.shape == shape}
            for recipe, median, answer in zip(chosen, medians, found, strict=True):
                distance = _distance(answer, expected) if self.method == "magnitude" else None
                built.append(Built(predicted[recipe], median, dense, slowed, distance))
        return tuple(built), disturbed

    def _patterns(self) -> dict[str, tuple[SparsityRecipe, ...]]:
        """The recipes that are measured for each pattern."""
        shares: dict[str, list[SparsityRecipe]] = {}
        for recipe in self.recipes:
            shares.setdefault(pattern_of(recipe), []).append(recipe)
        return {
            pattern: anchors(tuple(each.sparsity for each in recipes), recipes[0])
            for pattern, recipes in shares.items()
        }

    def _rest(self) -> Mapping[Shape, Job]:
        """What to measure for all that is not linear layers, in a model that is built for it."""
        digest = structure(self.model.graph)
        within = {layer.name for layer in self.layers}
        pruned = cache(partial(self._pruned, REST_RECIPE, "random"))
        return {
            shape: Job(
                f"rest {digest} {shape[0]}x{shape[1]}",
                f"all but the linear layers of {REST_RECIPE}, {shape[0]}x{shape[1]}",
                partial(self._rest_seconds, pruned, shape, within),
                takes=REST_TAKES,
            )
            for shape in self.shapes
        }

    def _rest_seconds(
        self, pruned: Callable[[], CompiledModel], shape: Shape, layers: Collection[str]
    ) -> float:
        return rest_of(pruned(), self._inputs(shape), layers)

    def _pruned(self, recipe: SparsityRecipe, method: Method) -> CompiledModel:
        return pruned_model(self.model, recipe, method, self.seed)

    def _norms(self) -> Mapping[SparsityRecipe, float]:
        if self.method != "magnitude":
            return {}
        self.progress(0, 1, "sorting the weights by magnitude")
        constants = self.model.graph.constants
        weights = {
            f"{layer.name} {number}": matrix
            for layer in self.layers
            for number, matrix in enumerate(
                separate(constants[layer.name].dense(), len(merged_names(layer.name)))
            )
        }
        return {recipe: total for recipe, (total, _) in norms_kept(weights, self.recipes).items()}

    def _inputs(self, shape: Shape) -> Arrays:
        return random_inputs(self.model.input_names, shape, self.model.vocabulary)

    def _tokens(self, layer: Layer, shape: Shape) -> int:
        sizes = bind_sizes(self.model.graph.inputs, self._inputs(shape))
        return layer.count_tokens(sizes)


def _side_by_side(calls: Sequence[Callable[[], object]], gauge: Gauge) -> tuple[list[float], float]:
    """The median seconds of each call, all in turns, and what the gauge read in its own turns."""
    turns = [*map(turn_of, calls), lambda count: [gauge() for _ in range(count)]]
    samples = interleave(turns, seconds=BUILT_SECONDS, least_calls=1, have_run=True)
    *medians, reading = map(statistics.median, samples)
    return medians, reading


def _distance(answer: Arrays, expected: Arrays) -> float:
    """The Euclidean distance of two answers, relative to the second."""
    apart = math.hypot(*(float(np.linalg.norm(answer[n] - e)) for n, e in expected.items()))
    whole = math.hypot(*(float(np.linalg.norm(e)) for e in expected.values()))
    return apart / whole if whole else apart


def _silent(done: int, total: int, text: str) -> None:
    """Progress that nobody watches."""
