"""What layers take on this processor, measured once and remembered, and the curves made of it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from prunus import cache
from prunus.kernels.compiler import code_version
from prunus.kernels.limits import COMMON_CACHES
from prunus.kernels.processor import processor_name, read_caches
from prunus.plan import Options
from prunus.prediction.curve import Curve
from prunus.prediction.predictor import Layer
from prunus.prediction.probe import Probe, time_probe
from prunus.sparsity import SparsityRecipe

ANCHORS = (0.5, 0.75, 0.9, 0.97)
"""Shares of zeros that are measured; a curve is straight between them."""

BEYOND = (0.3, 0.99)
"""Measured as well where a share below the first anchor, or above the last, is asked for."""

ALIKE = 1.1
"""Times in this ratio may be equal: a measurement is not more exact."""

KIND = "layer-times"

Measure = Callable[[Probe, Options], float]


class Times:
    """Seconds by name, kept in the cache for this processor, number of threads and version of the
    kernels; each is written as soon as it is measured, so that an interrupted run loses none.
    """

    def __init__(self, options: Options, *, anew: bool = False) -> None:
        target = options.target
        machine = f"{processor_name()} {target.triple} {target.cpu} {target.features}"
        self._key = f"{machine} {options.threads} {options.tune} {code_version()}"
        self._seconds = {} if anew else self._stored()

    def get(self, name: str) -> float | None:
        """What was measured under that name, or None."""
        return self._seconds.get(name)

    def set(self, name: str, seconds: float) -> None:
        """Remember it, beside what another process measured meanwhile."""
        self._seconds[name] = seconds
        merged = {**self._stored(), **self._seconds}
        cache.write(KIND, self._key, json.dumps(merged).encode())

    def _stored(self) -> dict[str, float]:
        stored = cache.read(KIND, self._key)
        return {} if stored is None else _checked(stored)


def _checked(stored: bytes) -> dict[str, float]:
    """What a cache entry says, or nothing where it is not of the expected form."""
    try:
        seconds = {str(name): float(each) for name, each in json.loads(stored).items()}
    except (ValueError, AttributeError, TypeError):
        return {}
    return {name: each for name, each in seconds.items() if 0 < each < math.inf}


@dataclass(frozen=True)
class LayerTimes:
    """Measures what is not remembered.

    Attributes:
        options: How the model is compiled.
        weights: Of all layers of the model together: how much passes through the caches in a call.
        times: What is remembered.
        measure: Times one probe.
    """

    options: Options
    weights: int
    times: Times
    measure: Measure = time_probe
    caches: Mapping[str, int] = field(default_factory=lambda: {**COMMON_CACHES, **read_caches()})

    def probe(self, layer: Layer, recipe: SparsityRecipe | None, tokens: int) -> Probe:
        """What is timed for a layer under a recipe, or dense."""
        return Probe(layer, recipe, tokens, self._footprint(recipe))

    def is_known(self, probe: Probe) -> bool:
        """Whether it needs no measurement."""
        return self.times.get(probe.name) is not None

    def seconds(self, probe: Probe) -> float:
        """Seconds of a layer, from the memory or measured now."""
        found = self.times.get(probe.name)
        return self._measured(probe) if found is None else found

    def curve(self, layer: Layer, recipes: tuple[SparsityRecipe, ...], tokens: int) -> Curve:
        """Through what the recipes of one pattern take.

        What takes longer with fewer weights was disturbed: it is measured once more.
        """
        probes = [self.probe(layer, recipe, tokens)
                  for recipe in sorted(recipes, key=lambda each: each.sparsity)]  # fmt: skip
        seconds = [self.seconds(probe) for probe in probes]
        for i in range(1, len(probes)):
            if seconds[i] > ALIKE * seconds[i - 1]:
                seconds[i] = min(seconds[i], self._measured(probes[i]))
                self.times.set(probes[i].name, seconds[i])
        densities = (1 - each.recipe.sparsity for each in reversed(probes) if each.recipe)
        return Curve(tuple(densities), tuple(reversed(seconds)))

    def _measured(self, probe: Probe) -> float:
        found = self.measure(probe, self.options)
        self.times.set(probe.name, found)
        return found

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
