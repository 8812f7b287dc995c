"""How long calls of a model take."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class BenchmarkResult:
    """Times of a model's calls, as TVM's `benchmark` gives them.

    Attributes:
        seconds: The mean of each repeat.
        mean: In seconds, as all that follow.
        median: Of the repeats.
        std: Standard deviation of the repeats.
        minimum: The fastest repeat.
        maximum: The slowest.
        simulated: What was simulated, or None.
    """

    seconds: tuple[float, ...]
    mean: float
    median: float
    std: float
    minimum: float
    maximum: float
    simulated: str | None

    def __str__(self) -> str:
        note = f"  (SIMULATED: {self.simulated})" if self.simulated else ""
        return (
            f"mean {1e3 * self.mean:.2f} ms, median {1e3 * self.median:.2f}, "
            f"min {1e3 * self.minimum:.2f}, max {1e3 * self.maximum:.2f}, std {1e3 * self.std:.2f}"
            + note
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return asdict(self)


def time_calls(
    call: Callable[[], object], repeat: int, number: int, *, simulated: str | None
) -> BenchmarkResult:
    """Time `repeat` times the mean of `number` calls, after one call to warm up.

    `simulated` says what was simulated in the model, or is None.
    """
    call()
    seconds = []
    for _ in range(repeat):
        begin = time.perf_counter()
        for _ in range(number):
            call()
        seconds.append((time.perf_counter() - begin) / number)
    array = np.array(seconds)
    return BenchmarkResult(
        tuple(seconds),
        float(array.mean()),
        float(np.median(array)),
        float(array.std()),
        float(array.min()),
        float(array.max()),
        simulated,
    )
