"""Times candidates against each other on the real weights, and remembers the results per
processor.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from prunus import cache
from prunus.kernels.compiler import code_version
from prunus.kernels.layout import TILE
from prunus.kernels.panel import Panels
from prunus.kernels.row_stream import RowStreams
from prunus.kernels.spec import Argument, Kernel, TileArgument
from prunus.kernels.target import Target
from prunus.runtime.arena import aligned_words

SETTLED = 8
"""A race ends after so many rounds in which no candidate's fastest run fell by more than FALL.
Candidates alternate, so a disturbance must hit one and spare the others in all of them to mislead.
With five rounds and no more, 1 choice of 560 was 12 % slower than the best (Zen 4)."""

FALL = 0.01

MOST_ROUNDS = 64
"""Where a race never settles, as on a machine that others use."""

Entrant = tuple[str, Kernel, RowStreams | Panels]


def race(
    entrants: Sequence[Entrant],
    shape: tuple[int, ...],
    target: Target,
    *,
    settled: int = SETTLED,
    most_rounds: int = MOST_ROUNDS,
) -> dict[str, float]:
    """Seconds that each entrant needs for a full tile in its fastest run, by key. Runs on the
    calling thread.
    """
    outputs, inputs = shape
    generator = np.random.default_rng(0)
    x = _lanes(inputs)
    x[:] = generator.standard_normal(len(x))
    y, bias = _lanes(outputs), np.zeros(outputs, np.float32)
    runs = []
    for _, kernel, packed in entrants:
        arguments: dict[str, Argument] = {
            "x": TileArgument(x.ctypes.data, inputs),
            "y": TileArgument(y.ctypes.data, outputs),
            "bias": bias.ctypes.data,
            **packed.arguments(),
        }
        words = np.array(kernel.words(arguments), np.int64)
        runs.append((kernel.function(target), words))
    best = [float("inf")] * len(runs)
    calm = 0
    for _ in range(most_rounds):
        calm += 1
        for i, (function, words) in enumerate(runs):
            begin = time.perf_counter()
            function(words.ctypes.data, 0, None)
            seconds = time.perf_counter() - begin
            if seconds < best[i] * (1 - FALL):  # always in the first round, which warms up
                calm = 0
            best[i] = min(best[i], seconds)
        if calm == settled:
            break
    return {key: seconds for (key, _, _), seconds in zip(entrants, best, strict=True)}


def _lanes(rows: int) -> np.ndarray:
    """One aligned tile."""
    return aligned_words(rows * TILE // 2 + 8).view(np.float32)


class Choices:
    """Results of races, remembered in the cache under the target and the version of the kernels."""

    def __init__(self, target: Target) -> None:
        self._key = f"{target.triple} {target.cpu} {code_version()}"
        self._seconds: dict[str, dict[str, float]] = {}
        self._changed = False
        stored = cache.read("choices", self._key)
        if stored is not None:
            self._seconds = _checked(stored)

    def remembered(
        self, identity: str, keys: Iterable[str], run: Callable[[], dict[str, float]]
    ) -> dict[str, float]:
        """The seconds of a race between `keys` that was run before, or of `run` now."""
        if not self._seconds.get(identity, {}).keys() >= set(keys):
            self._seconds[identity] = run()
            self._changed = True
        return self._seconds[identity]

    def save(self) -> None:
        """Write new results to the cache, beside those that another process wrote meanwhile."""
        if self._changed:
            stored = cache.read("choices", self._key)
            others = _checked(stored) if stored is not None else {}
            whole = {i: s for i, s in others.items() if s.keys() >= self._seconds.get(i, {}).keys()}
            cache.write("choices", self._key, json.dumps({**self._seconds, **whole}).encode())
            self._changed = False


def _checked(stored: bytes) -> dict[str, dict[str, float]]:
    """What a cache entry says, or nothing where it is not of the expected form."""
    try:
        data = json.loads(stored)
        return {
            str(identity): {str(key): float(s) for key, s in seconds.items()}
            for identity, seconds in data.items()
        }
    except (ValueError, AttributeError, TypeError):
        return {}
