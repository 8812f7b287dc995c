"""How the time of a call grows with its tokens and with its batch, sparse beside dense."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from prunus.bench import LONG_CALL, turn_of
from prunus.bench.inputs import random_inputs
from prunus.bench.shapes import Shape
from prunus.model import CompiledModel

LENGTHS = (16, 64, 128, 256, 512)
BATCHES = (1, 2, 4, 8)

LEAST_CALLS, MOST_CALLS = 2, 9
SECONDS = 0.15
"""Time to spend on the counted calls of a shape, within so many of each plan."""

ONE_IS_ENOUGH = 0.5
"""Seconds of a call beside which it is nothing that the first of a shape binds, and from which on
no other is made."""


@dataclass(frozen=True, slots=True)
class GrowthPoint:
    """One shape: the median seconds of a call, with the zeros skipped and with them computed."""

    shape: Shape
    sparse: float
    dense: float

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return asdict(self)


def growth_shapes(model: CompiledModel, shape: Shape) -> tuple[Shape, ...]:
    """The shapes to time around this one: other lengths up to the model's limit, other batches."""
    type = model.graph.inputs["input_ids"]
    batch, length = shape
    longest = min(model.longest or LENGTHS[-1], max(LENGTHS[-1], length))
    fixed_batch, fixed_length = (isinstance(type.shape[axis], int) for axis in (0, -1))
    lengths = () if fixed_length else (n for n in LENGTHS if n <= longest)
    batches = () if fixed_batch else BATCHES
    shapes = {shape, *((batch, n) for n in lengths), *((n, length) for n in batches)}
    return tuple(sorted(shapes))


def measure_growth(
    sparse: CompiledModel,
    dense: CompiledModel,
    shapes: Sequence[Shape],
    progress: Callable[[str], None],
    known: Sequence[GrowthPoint] = (),
) -> tuple[GrowthPoint, ...]:
    """Time both plans in turns at every shape that is not known, a few calls each: enough for the
    run of a curve.
    """
    points = list(known)
    for shape in shapes:
        if any(point.shape == shape for point in known):
            continue
        progress(f"timing growth, {shape[0]}x{shape[1]}")
        inputs = random_inputs(sparse.input_names, shape, sparse.vocabulary)
        points.append(
            GrowthPoint(shape, *_medians([partial(e, **inputs) for e in (sparse, dense)]))
        )
    return tuple(sorted(points, key=lambda point: point.shape))


def _medians(calls: Sequence[Callable[[], object]]) -> list[float]:
    """The median seconds of each call, all in turns."""
    turns = [turn_of(call) for call in calls]
    samples = [list(turn(1)) for turn in turns]
    for turn, taken in zip(turns, samples, strict=True):
        if taken[0] < ONE_IS_ENOUGH:
            taken[:] = turn(1)
    begin = time.perf_counter()
    for made in range(1, MOST_CALLS):
        if made >= LEAST_CALLS and time.perf_counter() - begin >= SECONDS:
            break
        for turn, taken in zip(turns, samples, strict=True):
            if taken[0] < ONE_IS_ENOUGH:
                uncounted = taken[0] < LONG_CALL
                taken.append(turn(1 + uncounted)[-1])
    return [statistics.median(taken) for taken in samples]


def save_growth(points: Sequence[GrowthPoint], path: Path) -> None:
    """Write the points as JSON."""
    path.write_text(json.dumps([point.to_dict() for point in points]), encoding="utf-8")


def read_growth(path: Path) -> tuple[GrowthPoint, ...]:
    """Read what `save_growth` wrote. Raises ValueError for anything else."""
    try:
        return tuple(
            GrowthPoint(
                (int(each["shape"][0]), int(each["shape"][1])),
                float(each["sparse"]),
                float(each["dense"]),
            )
            for each in json.loads(path.read_text(encoding="utf-8"))
        )
    except (KeyError, IndexError, TypeError) as error:
        raise ValueError(f"{path} holds no points of growth: {error}") from error
