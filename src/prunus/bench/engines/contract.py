"""What an engine is: something that answers a model's inputs, and can be timed doing it."""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from prunus.bench.rounds import turn_of
from prunus.errors import PrunusError
from prunus.frontend.arrays import leaves

Arrays = dict[str, NDArray[Any]]
"""Inputs or outputs by name."""

Loader = Callable[[], Any]
"""Makes the ``torch.nn.Module`` that the rivals run; called in their own processes."""


class EngineError(PrunusError):
    """An engine that cannot run here, or that stopped: the message is the reason in its row."""


@dataclass(frozen=True, slots=True)
class Job:
    """What an engine is to run: a module, inputs of the first shape, threads, a place for files."""

    loader: Loader | None
    example: Arrays
    threads: int
    folder: Path

    @property
    def key(self) -> str | None:
        """What tells the module from every other without loading it, if its loader knows."""
        return getattr(self.loader, "key", None)

    def load(self) -> Any:
        """The module in evaluation mode and float32. Raises `EngineError` when there is none."""
        if self.loader is None:
            raise EngineError("there is no module to run; give the benchmark module_loader=")
        return self.loader().eval().float()


class Engine(Protocol):
    """One row of the table.

    Engines in other processes load at the same time. What they then do alone, so that a race of
    theirs is not disturbed, is in `prepare`.
    """

    @property
    def name(self) -> str:
        """As it is written on the command line."""

    @property
    def dense(self) -> bool:
        """Whether it ignores the zeros of the weights."""

    @property
    def note(self) -> str:
        """How it runs the model, where it had a choice; known once it is prepared."""

    def versions(self) -> dict[str, str]:
        """The distributions that it uses, as far as they are installed."""

    def available(self) -> str | None:
        """None, or the reason why it cannot run here and what to install."""

    def load(self, job: Job) -> None:
        """Begin to load what it needs; who has another process for that does not wait for it.

        Raises `EngineError`.
        """

    def wait(self) -> None:
        """Return when all is loaded. Raises `EngineError`."""

    def prepare(self) -> None:
        """Convert, race and compile what was loaded. Raises `EngineError`."""

    def run(self, inputs: Arrays) -> Arrays:
        """The float outputs by name; the inputs are kept for `time`."""

    def time(self, calls: int) -> list[float]:
        """Seconds of each of so many calls, back to back, on the inputs of the last `run`."""

    def close(self) -> None:
        """Give back what it holds; harmless when called twice or before `prepare`."""


class LocalEngine(ABC):
    """An engine in this process: what is timed is ``bind``'s function and nothing around it."""

    name: str
    dense: bool = True
    note: str = ""
    _call: Callable[[], object] | None = None

    @abstractmethod
    def versions(self) -> dict[str, str]:
        """The distributions that it uses, as far as they are installed."""

    @abstractmethod
    def available(self) -> str | None:
        """None, or the reason why it cannot run here."""

    @abstractmethod
    def load(self, job: Job) -> None:
        """Load what it needs."""

    def wait(self) -> None:  # noqa: B027
        """Nothing is left to wait for."""

    def prepare(self) -> None:  # noqa: B027
        """Nothing is left to do, unless an engine says otherwise."""

    @abstractmethod
    def bind(self, inputs: Arrays) -> Callable[[], object]:
        """A function that computes the outputs from inputs already in the engine's own form."""

    @abstractmethod
    def outputs(self, result: Any) -> Arrays:
        """Copies of the float outputs that one such call returned."""

    def run(self, inputs: Arrays) -> Arrays:
        """Answer the inputs and keep them for `time`."""
        self._call = self.bind(inputs)
        return self.outputs(self._call())

    def time(self, calls: int) -> list[float]:
        """Seconds of each call. Raises `EngineError` before the first `run`."""
        if self._call is None:
            raise EngineError(f"{self.name} has no inputs yet: run it before it is timed")
        return list(turn_of(self._call)(calls))

    def close(self) -> None:
        """Drop the bound call and what it holds."""
        self._call = None


def make_ready(engine: Engine, job: Job) -> None:
    """All that comes before an engine's first `run`, where no other loads beside it. Raises
    `EngineError`.
    """
    engine.load(job)
    engine.wait()
    engine.prepare()


def missing(modules: Mapping[str, str], install: str) -> str | None:
    """The reason when one of the modules (import name to display name) cannot be found."""
    absent = [
        shown for module, shown in modules.items() if importlib.util.find_spec(module) is None
    ]
    if not absent:
        return None
    return f"{' and '.join(absent)} not installed (pip install {install})"


def float_arrays(answer: object) -> Arrays:
    """Copies of the floating-point arrays of an answer, as float32 or as they are."""
    arrays = {name: np.array(value) for name, value in leaves(answer)}
    return {name: value for name, value in arrays.items() if value.dtype.kind == "f"}
