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
from prunus.prediction.predictor import Layer
from prunus.prediction.probe import Probe, time_probe
from prunus.prediction.times import Job, Times
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
    """

    options: Options
    weights: int
    times: Times
    measure: Measure = time_probe
    caches: Mapping[str, int] = field(default_factory=lambda: {**COMMON_CACHES, **read_caches()})

    def job(self, layer: Layer, recipe: SparsityRecipe | None, tokens: int) -> Job:
        """What to measure for a layer under a recipe, or dense."""
        probe = self._probe(layer, recipe, tokens)
        return Job(probe.name, str(probe), partial(self.measure, probe, self.options))

    def seconds(self, layer: Layer, recipe: SparsityRecipe | None, tokens: int) -> float:
        """What was measured. Raises KeyError for what was not."""
        return self.times[self._probe(layer, recipe, tokens).name]

    def curve(self, layer: Layer, recipes: tuple[SparsityRecipe, ...], tokens: int) -> Curve:
        """Through what the recipes of one pattern take; none longer than one of more weights."""
        rising = sorted(recipes, key=lambda each: each.sparsity)
        seconds = [*accumulate((self.seconds(layer, each, tokens) for each in rising), min)]
        densities = (1 - each.sparsity for each in reversed(rising))
        return Curve(tuple(densities), tuple(reversed(seconds)))

    def _probe(self, layer: Layer, recipe: SparsityRecipe | None, tokens: int) -> Probe:
        return Probe(layer, recipe, tokens, self._footprint(recipe))

    def _footprint(self, recipe: SparsityRecipe | None) -> int:
        """Bytes of weights of a call, in steps of a quarter; what is larger than all caches is all
        the same.
        """
        density = 1.0 if recipe is None else 1 - recipe.sparsity
        # Of a single zero the stream stores value and index, of others nearly values alone.
        single = recipe is not None and (recipe.block is None or recipe.block[0] == 1)
        total = self.weights * density * (5 if single else 4.2)
        largest = 1.5 * max(self.caches.values())
        return int(2 ** (math.ceil(4 * math.log2(max(min(total, largest), 1))) / 4))


def anchors(sparsities: tuple[float, ...], pattern: SparsityRecipe) -> tuple[SparsityRecipe, ...]:
    """The recipes to measure for a pattern and the shares of zeros that are asked for."""
    if pattern.n_of_m is not None:
        return (pattern,)
    beyond = [BEYOND[0]] * (min(sparsities) < ANCHORS[0]) + [BEYOND[1]] * (
        max(sparsities) > ANCHORS[-1]
    )
    shares = sorted({*ANCHORS, *beyond})
    return tuple(SparsityRecipe(share, pattern.block, None) for share in shares)
