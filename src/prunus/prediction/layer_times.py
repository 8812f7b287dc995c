"""Curves of what layers take on this processor, made of times that are measured and remembered."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate

from prunus.kernels.limits import COMMON_CACHES
from prunus.kernels.processor import read_caches
from prunus.plan import Options
from prunus.prediction.curve import Curve
from prunus.prediction.predictor import Layer, Shape
from prunus.prediction.probe import Probe, time_probe
from prunus.prediction.times import Job, Times
from prunus.runtime.parts import most_tokens
from prunus.sparsity import SparsityRecipe

ANCHORS = (0.5, 0.75, 0.9, 0.97)
"""Shares of zeros that are measured; a curve is straight between them."""

BEYOND = (0.3, 0.99)
"""Measured as well where a share below the first anchor, or above the last, is asked for."""

Measure = Callable[[Probe, Options], float]


@dataclass(frozen=True)
class LayerTimes:
    """The times of single layers.

    Attributes:
        options: How the model is compiled.
        weights: Of all layers of the model together: how much passes through the caches in a call.
        times: Where they are.
        measure: Times one probe.
        caches: Bytes of each cache.
        splits: Whether the model computes a large batch in parts.
    """

    options: Options
    weights: int
    times: Times
    measure: Measure = time_probe
    caches: Mapping[str, int] = field(default_factory=lambda: {**COMMON_CACHES, **read_caches()})
    splits: bool = False

    def job(self, layer: Layer, recipe: SparsityRecipe | None, tokens: int, shape: Shape) -> Job:
        """What to measure for a layer under a recipe, or dense, in calls of a shape."""
        probe, _ = self.probe(layer, recipe, tokens, shape)
        return Job(probe.name, str(probe), partial(self.measure, probe, self.options))

    def seconds(
        self, layer: Layer, recipe: SparsityRecipe | None, tokens: int, shape: Shape
    ) -> float:
        """What was measured. Raises KeyError for what was not."""
        probe, parts = self.probe(layer, recipe, tokens, shape)
        return parts * self.times[probe.name]

    def curve(
        self, layer: Layer, recipes: tuple[SparsityRecipe, ...], tokens: int, shape: Shape
    ) -> Curve:
        """Through what the recipes of one pattern take; none longer than one of more weights."""
        rising = sorted(recipes, key=lambda each: each.sparsity)
        seconds = [*accumulate((self.seconds(layer, each, tokens, shape) for each in rising), min)]
        densities = (1 - each.sparsity for each in reversed(rising))
        return Curve(tuple(densities), tuple(reversed(seconds)))

    def most(self, recipe: SparsityRecipe | None) -> int:
        """Tokens that a call computes at once, if its weights follow the recipe."""
        return most_tokens(int(self._weight_bytes(recipe)), self.options.threads)

    def probe(
        self, layer: Layer, recipe: SparsityRecipe | None, tokens: int, shape: Shape
    ) -> tuple[Probe, float]:
        """The probe of a part of a call, and how many such parts the call has.

        A layer at all tokens at once would take another way through the caches.
        """
        batch, length = shape
        at_once = batch
        if self.splits and batch * length > self.most(recipe):
            at_once = min(batch, max(1, self.most(recipe) // length))
        probe = Probe(layer, recipe, tokens * at_once // batch, self._footprint(recipe))
        return probe, batch / at_once

    def _footprint(self, recipe: SparsityRecipe | None) -> int:
        """Bytes of weights of a call, in steps of a quarter; what is larger than all caches is all
        the same.
        """
        largest = 1.5 * max(self.caches.values())
        total = max(min(self._weight_bytes(recipe), largest), 1)
        return int(2 ** (math.ceil(4 * math.log2(total)) / 4))

    def _weight_bytes(self, recipe: SparsityRecipe | None) -> float:
        density = 1.0 if recipe is None else 1 - recipe.sparsity
        # Of a single zero the stream stores value and index, of others nearly values alone.
        single = recipe is not None and (recipe.block is None or recipe.block[0] == 1)
        return self.weights * density * (5 if single else 4.2)


def anchors(sparsities: tuple[float, ...], pattern: SparsityRecipe) -> tuple[SparsityRecipe, ...]:
    """The recipes to measure for a pattern and the shares of zeros that are asked for."""
    if pattern.n_of_m is not None:
        return (pattern,)
    beyond = [BEYOND[0]] * (min(sparsities) < ANCHORS[0]) + [BEYOND[1]] * (
        max(sparsities) > ANCHORS[-1]
    )
    shares = sorted({*ANCHORS, *beyond})
    return tuple(SparsityRecipe(share, pattern.block, None) for share in shares)
