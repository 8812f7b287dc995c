"""prunus itself, sparse or dense, in this process and without torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from prunus.bench.engines.contract import Arrays, Job, LocalEngine, float_arrays
from prunus.versions import package_versions


class Compiled(Protocol):
    """What the benchmark needs of a compiled model."""

    @property
    def threads(self) -> int:
        """Threads that it was compiled for."""

    @property
    def simulated(self) -> str | None:
        """How its weights were made up, or None for real ones."""

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the arguments of a call."""

    @property
    def vocabulary(self) -> int | None:
        """Number of ids that it knows, where it looks any up."""

    def flops(self, *, dense: bool = False, **inputs: Any) -> int:
        """Floating-point operations of a call; with `dense` also those that zeros save."""

    def __call__(self, **inputs: Any) -> Any:
        """NumPy arrays in, NumPy arrays out, in the structure of the module."""

    def recompile(self, *, sparse: bool) -> Compiled:
        """The same graph and threads, with or without sparse kernels."""


class PrunusEngine(LocalEngine):
    """A compiled model as it is."""

    name = "prunus"
    dense = False

    def __init__(self, model: Compiled) -> None:
        self._model = model

    def versions(self) -> dict[str, str]:
        """The versions of prunus and of what its kernels come from."""
        return package_versions(("prunus", "llvmlite", "numpy"))

    def available(self) -> str | None:
        """Always."""
        return None

    def load(self, job: Job) -> None:
        """The model comes compiled."""

    def bind(self, inputs: Arrays) -> Callable[[], object]:
        """A call with NumPy arrays, as a user makes it."""
        model = self._model
        return lambda: model(**inputs)

    def outputs(self, result: Any) -> Arrays:
        """The float arrays of the answer."""
        return float_arrays(result)


class PrunusDenseEngine(PrunusEngine):
    """The same graph compiled without sparse kernels: the honest baseline."""

    name = "prunus-dense"
    dense = True

    def prepare(self) -> None:
        """Compile the graph once more, densely."""
        self._model = self._model.recompile(sparse=False)
