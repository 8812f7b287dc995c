"""Several models side by side: time, zeros, size, and a metric that the user knows of each."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunus.bench.inputs import random_inputs
from prunus.bench.machine import Machine, this_machine
from prunus.bench.rounds import Clock, Summary, interleave, summarize, turn_of
from prunus.bench.shapes import Shape, check_shape
from prunus.errors import InputError, PrunusError
from prunus.plan.explain import zeros
from prunus.records import Cell, Records
from prunus.runtime.saved_constants import split_constants

if TYPE_CHECKING:
    from prunus.bench.engines import Compiled
    from prunus.model import CompiledModel

Progress = Callable[[str], None]
Point = tuple[float, float]
"""Seconds of a call, and the metric."""


@dataclass(frozen=True, slots=True)
class Timing:
    """The seconds of a call at a shape, or the reason why there are none."""

    shape: Shape
    seconds: Summary | None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """One model of a comparison.

    Attributes:
        name: Its name there.
        simulated: What was simulated, or None for real weights.
        linear_zeros: Share of zeros of its linear weights.
        model_zeros: Share of zeros of all its floating-point weights, embeddings included.
        disk_bytes: Of its weights as `save_pretrained` stores them, sparse ones compressed.
        weight_bytes: Of the weights that a pass over all of them reads.
        metric: What the user says of it, or None.
        timings: At every shape of the comparison.
    """

    name: str
    simulated: str | None
    linear_zeros: float
    model_zeros: float
    disk_bytes: int
    weight_bytes: int
    metric: float | None
    timings: tuple[Timing, ...]

    def at(self, shape: Shape) -> Timing:
        """Its timing at one of the shapes."""
        return next(timing for timing in self.timings if timing.shape == shape)

    def point(self, shape: Shape) -> Point | None:
        """Its time and metric at a shape; None where either is missing."""
        seconds = self.at(shape).seconds
        return None if seconds is None or self.metric is None else (seconds.median, self.metric)


@dataclass(frozen=True)
class Comparison(Records):
    """Models side by side; `str` shows them as a table.

    Attributes:
        entries: The models, in the order given.
        baseline: The timings of the dense plan of the first, which skips no zeros.
        shapes: Batches and lengths.
        threads: Of every call.
        machine: That they were timed on.
        metric_name: Of the metric, or None where none is given.
        higher_is_better: Whether more of the metric is better.
    """

    entries: tuple[Entry, ...]
    baseline: tuple[Timing, ...]
    shapes: tuple[Shape, ...]
    threads: int
    machine: Machine
    metric_name: str | None
    higher_is_better: bool = True

    @property
    def pareto(self) -> dict[Shape, tuple[str, ...]]:
        """By shape, the models that no other beats: none is as fast and as good, and better in one
        of both. Only models with a time and a metric take part.
        """
        return {shape: self._unbeaten(shape) for shape in self.shapes}

    def dense(self, shape: Shape) -> Summary | None:
        """The time of the dense plan of the first model."""
        return next(timing.seconds for timing in self.baseline if timing.shape == shape)

    def speedup(self, entry: Entry, shape: Shape) -> float | None:
        """How many times as fast a model is as the dense plan of the first."""
        dense, own = self.dense(shape), entry.at(shape).seconds
        return None if dense is None or own is None else dense.median / own.median

    def records(self) -> list[dict[str, Cell]]:
        """A row for each model at each shape; what is not known is None."""
        return [self._row(entry, timing) for entry in self.entries for timing in entry.timings]

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON: times in seconds."""
        return {
            "machine": dataclasses.asdict(self.machine),
            "threads": self.threads,
            "metric": self.metric_name,
            "higher_is_better": self.higher_is_better if self.metric_name else None,
            "shapes": [list(shape) for shape in self.shapes],
            "dense_plan_of_first": [dataclasses.asdict(timing) for timing in self.baseline],
            "models": [self._entry(entry) for entry in self.entries],
        }

    def plot(self, path: Path, *, overwrite: bool = False) -> None:
        """Write the plot of time against the metric, or against the linear weights kept where no
        metric is given, as SVG or PNG by the suffix.

        Raises:
            InputError: another suffix, a file that is there already or cannot be written, or no
                model that could be timed.
            UnsupportedError: matplotlib is not installed.
        """
        from prunus.reporting.comparison_plot import comparison_figure
        from prunus.reporting.output import check_plot
        from prunus.reporting.style import save_figure

        check_plot(path, overwrite=overwrite)
        save_figure(comparison_figure(self), path)

    def __str__(self) -> str:
        from prunus.reporting.comparison_text import comparison_text

        return comparison_text(self)

    def _unbeaten(self, shape: Shape) -> tuple[str, ...]:
        points = {entry.name: entry.point(shape) for entry in self.entries}
        known = {name: point for name, point in points.items() if point is not None}
        front = pareto_front(list(known.values()), higher_is_better=self.higher_is_better)
        return tuple(name for number, name in enumerate(known) if number in front)

    def _row(self, entry: Entry, timing: Timing) -> dict[str, Cell]:
        own, dense = timing.seconds, self.dense(timing.shape)
        return {
            "model": entry.name,
            "simulated": entry.simulated,
            "batch": timing.shape[0],
            "sequence": timing.shape[1],
            "seconds": None if own is None else own.median,
            "p10_seconds": None if own is None else own.low,
            "p90_seconds": None if own is None else own.high,
            "dense_seconds": None if dense is None else dense.median,
            "speedup": self.speedup(entry, timing.shape),
            "linear_zeros": entry.linear_zeros,
            "model_zeros": entry.model_zeros,
            "disk_bytes": entry.disk_bytes,
            "weight_bytes": entry.weight_bytes,
            "metric": self.metric_name,
            "metric_value": entry.metric,
            "pareto": self._is_unbeaten(entry, timing.shape),
            "reason": timing.reason,
        }

    def _entry(self, entry: Entry) -> dict[str, Any]:
        data = dataclasses.asdict(entry)
        for timing, plain in zip(entry.timings, data["timings"], strict=True):
            plain["speedup"] = self.speedup(entry, timing.shape)
            plain["pareto"] = self._is_unbeaten(entry, timing.shape)
        return data

    def _is_unbeaten(self, entry: Entry, shape: Shape) -> bool | None:
        return None if entry.point(shape) is None else entry.name in self._unbeaten(shape)


def compare(
    models: Mapping[str, CompiledModel],
    *,
    shapes: Sequence[Shape] = ((1, 128),),
    metric: Mapping[str, float] | None = None,
    metric_name: str = "metric",
    higher_is_better: bool = True,
    seconds: float = 0.5,
    rounds: int = 5,
    progress: Progress | None = None,
) -> Comparison:
    """Time models side by side and set beside it what else tells them apart.

    All are timed in this process, in turns, so that drift hits all alike; each gets random ids that
    every model knows, for its own inputs. The dense plan of the first is timed with them.

    Args:
        models: At least two compiled models by name, for equally many threads.
        shapes: Batches and lengths in tokens.
        metric: What is known of each model's quality; prunus does not measure it here.
        metric_name: Of the metric, such as "F1".
        higher_is_better: False for a metric such as perplexity.
        seconds: Length of a turn.
        rounds: Turns that every model has at every shape.
        progress: Told in a few words what is being done.

    Raises:
        InputError: fewer than two models, unequal threads, no or a bad shape, no rounds, or a
            metric that is not a finite number for each model and for no other.
    """
    if metric is not None:
        check_metric(models, metric, metric_name)
    _check(models, shapes, seconds, rounds)
    first, *_ = contenders = list(models.values())
    dense = first.recompile(sparse=False) if first.options.sparse else first
    if dense is not first:
        contenders.append(dense)
    timings = time_models(
        contenders, shapes, seconds=seconds, rounds=rounds, progress=progress or _silent
    )
    return Comparison(
        entries=tuple(
            _entry(name, model, None if metric is None else float(metric[name]), taken)
            for (name, model), taken in zip(models.items(), timings, strict=False)
        ),
        baseline=timings[contenders.index(dense)],
        shapes=tuple(dict.fromkeys(shapes)),
        threads=first.threads,
        machine=this_machine(),
        metric_name=None if metric is None else metric_name,
        higher_is_better=higher_is_better,
    )


def pareto_front(points: Sequence[Point], *, higher_is_better: bool = True) -> set[int]:
    """The positions of the points that no other beats: none is as fast and as good, and better in
    one of both. Equal points are unbeaten together.
    """
    sign = -1 if higher_is_better else 1
    ordered = sorted((seconds, sign * metric) for seconds, metric in points)
    front, best = set(), math.inf
    for seconds, cost in ordered:
        if cost < best:
            front.add((seconds, cost))
            best = cost
    return {n for n, (seconds, metric) in enumerate(points) if (seconds, sign * metric) in front}


def time_models(
    models: Sequence[Compiled],
    shapes: Sequence[Shape],
    *,
    seconds: float,
    rounds: int,
    progress: Progress,
    clock: Clock = time.perf_counter,
) -> list[tuple[Timing, ...]]:
    """The timings of each model at each shape, taken in turns on this clock."""
    known = [model.vocabulary for model in models if model.vocabulary is not None]
    vocabulary = min(known, default=None)
    columns = []
    for shape in dict.fromkeys(shapes):
        progress(f"timing {shape[0]}x{shape[1]}")
        calls = [_ready(model, shape, vocabulary) for model in models]
        turns = [turn_of(call, clock) for call in calls if not isinstance(call, str)]
        samples = iter(interleave(turns, rounds=rounds, seconds=seconds))
        columns.append(
            [
                Timing(shape, None, call)
                if isinstance(call, str)
                else Timing(shape, summarize(next(samples)))
                for call in calls
            ]
        )
    return list(zip(*columns, strict=True))


def check_metric(models: Mapping[str, object], metric: Mapping[str, float], name: str) -> None:
    """Raise `InputError` unless the metric is a finite number for each model, and for no other."""
    for other in metric:
        if other not in models:
            raise InputError(
                f"{name} is given for {other!r}, which is none of the models: {', '.join(models)}; "
                "write their names as here"
            )
    for model in models:
        if model not in metric:
            raise InputError(f"{name} is not given for {model!r}; give it for every model")
        value = metric[model]
        if not math.isfinite(value):
            raise InputError(f"{name} of {model!r} is {value}, expected a finite number")


def check_count(names: Sequence[str]) -> None:
    """Raise `InputError` for fewer than two models."""
    if len(names) < 2:
        raise InputError(
            f"a comparison needs at least two models, and there is {names[0] if names else 'none'}"
            "; give another checkpoint, or --simulate with a recipe such as 0.9"
        )


def _check(
    models: Mapping[str, CompiledModel], shapes: Sequence[Shape], seconds: float, rounds: int
) -> None:
    check_count(tuple(models))
    if not shapes:
        raise InputError("there is no shape to time; give at least one, such as (1, 128)")
    for shape in shapes:
        check_shape(shape)
    if rounds < 1 or not seconds >= 0:
        raise InputError(
            f"rounds={rounds}, seconds={seconds}; expected at least 1 round, and 0 s or more"
        )
    (first, threads), *others = ((name, model.threads) for name, model in models.items())
    for name, count in others:
        if count != threads:
            raise InputError(
                f"{first} is compiled for {threads} threads and {name} for {count}, so their times "
                f"cannot be compared; compile both with threads={threads}"
            )


def _ready(model: Compiled, shape: Shape, vocabulary: int | None) -> Callable[[], object] | str:
    """A call of the model that is known to work, or the reason why there is none."""
    try:
        inputs = random_inputs(model.input_names, shape, vocabulary)
    except InputError:
        return (
            f"it takes {', '.join(model.input_names)}; inputs can be made up only for a text "
            "encoder with ids of a known vocabulary"
        )
    call = partial(model, **inputs)
    try:
        call()
    except PrunusError as error:
        return str(error)
    return call


def _entry(
    name: str, model: CompiledModel, metric: float | None, timings: tuple[Timing, ...]
) -> Entry:
    linear, whole = zeros(model.program, model.graph)
    tensors, _ = split_constants(model.graph.constants)
    disk = sum(tensor.nbytes for tensor in tensors.values())
    read = model.program.weight_bytes
    return Entry(name, model.simulated, linear, whole, disk, read, metric, timings)


def _silent(_: str) -> None:
    """Progress that nobody watches."""
