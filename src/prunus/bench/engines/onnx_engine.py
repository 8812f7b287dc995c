"""What the engines that run ONNX files have in common: each at its best, with little ado.

A module is exported with eager and with fused (``sdpa``) attention, and which is faster depends on
the engine; both are raced once on the first shape, and the verdict is kept for the next run on this
machine.
"""

from __future__ import annotations

import statistics
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from prunus.bench.engines.contract import Arrays, EngineError, Job, LocalEngine, missing
from prunus.bench.engines.onnx_export import Exports
from prunus.bench.machine import this_machine
from prunus.bench.rounds import interleave, turn_of
from prunus.versions import package_versions

Infer = Callable[[Arrays], Any]
"""Answers inputs by name with the outputs by place."""

Verdict = dict[str, Any]

TURN_SECONDS = 0.25
"""Length of a turn of the race."""


class OnnxEngine(LocalEngine):
    """An engine for the faster of a module's exports; its package and module are called `name`."""

    shown: ClassVar[str]
    """Its name for people."""

    _infer: Infer | None = None
    _exports: Exports | None = None
    _job: Job

    @abstractmethod
    def compile(self, path: Path, threads: int) -> Infer:
        """Compile an ONNX file for float32, low latency and so many threads."""

    def versions(self) -> dict[str, str]:
        """The engine and what wrote its model."""
        return package_versions((self.name, "onnx", "torch", "transformers"))

    def available(self) -> str | None:
        """The reason when the engine, or what the export needs, is absent."""
        modules = {self.name: self.shown, "onnx": "onnx", "torch": "torch"}
        return missing(modules, f"{self.name} onnx torch")

    def load(self, job: Job) -> None:
        """Compile what won an earlier race; where there was none, load the module for one."""
        self._job, self._exports = job, Exports(job)
        verdict = self._known_verdict()
        if verdict is None:
            self._exports.load_module()
        else:
            self._keep(verdict, self.compile(self._exports.path(verdict["kept"]), job.threads))

    def prepare(self) -> None:
        """Export, race and keep the faster attention, unless an earlier race told which."""
        if self._infer is None:
            self._race()

    def bind(self, inputs: Arrays) -> Callable[[], object]:
        """One inference."""
        infer = self._infer
        if infer is None:
            raise RuntimeError(f"the {self.shown} engine must be prepared before it runs")
        return lambda: infer(inputs)

    def outputs(self, result: Any) -> Arrays:
        """The outputs in the module's own names."""
        names = self._loaded().facts.outputs
        return {name: np.array(result[place]) for place, name in enumerate(names)}

    def close(self) -> None:
        """Drop the compiled model."""
        super().close()
        self._infer = None
        if self._exports is not None:
            self._exports.close()
            self._exports = None

    def _loaded(self) -> Exports:
        if self._exports is None:
            raise EngineError(f"{self.name} has loaded nothing yet: load it before it is prepared")
        return self._exports

    def _known_verdict(self) -> Verdict | None:
        exports = self._loaded()
        found = exports.recall(self.name)
        return checked_verdict(found, exports.facts.attentions, self._conditions())

    def _race(self) -> None:
        """Time every variant side by side, and keep the fastest."""
        exports, job = self._loaded(), self._job
        variants = exports.facts.attentions
        runs = [self.compile(exports.path(attention), job.threads) for attention in variants]
        times = _milliseconds(runs, job.example)
        best = times.index(min(times))
        verdict = {
            "conditions": self._conditions(),
            "kept": variants[best],
            "milliseconds": dict(zip(variants, times, strict=True)),
        }
        exports.remember(self.name, verdict)
        self._keep(verdict, runs[best])

    def _keep(self, verdict: Verdict, infer: Infer) -> None:
        exports = self._loaded()
        exports.forget_module()
        self._infer = infer
        self.note = describe(verdict) + exports.note

    def _conditions(self) -> dict[str, Any]:
        """What a race depends on beside the model."""
        shape = next(iter(self._job.example.values())).shape
        return {
            "processor": this_machine().name,
            "version": package_versions((self.name,)).get(self.name),
            "threads": self._job.threads,
            "shape": "x".join(str(size) for size in shape),
        }


def checked_verdict(
    found: Any, variants: Sequence[str], conditions: Mapping[str, Any]
) -> Verdict | None:
    """What was found if it is the verdict of a race of these variants under equal conditions."""
    try:
        same = found["conditions"] == dict(conditions)
        known = found["kept"] in variants
        times = {str(name): float(time) for name, time in found["milliseconds"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    if not (same and known):
        return None
    return {"conditions": found["conditions"], "kept": found["kept"], "milliseconds": times}


def describe(verdict: Verdict) -> str:
    """What was kept and why: ``sdpa export (raced at 1x128: eager 52 ms, sdpa 50 ms)``."""
    times = verdict["milliseconds"]
    if len(times) < 2:
        return f"{verdict['kept']} export"
    raced = ", ".join(f"{name} {time:.3g} ms" for name, time in times.items())
    return f"{verdict['kept']} export (raced at {verdict['conditions']['shape']}: {raced})"


def _milliseconds(runs: Sequence[Infer], example: Arrays) -> list[float]:
    turns = [turn_of(lambda run=run: run(example)) for run in runs]  # type: ignore[misc]
    samples = interleave(turns, rounds=4, seconds=TURN_SECONDS, least_calls=2)
    return [1e3 * statistics.median(seconds) for seconds in samples]
