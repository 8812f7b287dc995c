"""`torch.compile(model, backend="prunus")`: every graph that Dynamo finds in a program, compiled.

For inference. A graph that takes part in a gradient, or that prunus cannot take, runs in PyTorch as
before. Where an operator has no translation, the graph is split there: PyTorch runs that operator,
prunus the parts around it that have a linear layer, a matrix product or attention. A warning says
what is left to PyTorch and why.

The options are those of `prunus.compile`: `torch.compile(model, backend="prunus",
options={"threads": 2})`. `mode` may be any of PyTorch's instead of options: see `MODES`.

Weights are constants of what is compiled. Each call looks whether they are still the same, by
address and version, and compiles again if not, so there is no option `copy`; writing to
`weight.data` leaves no trace that could be found. As everywhere in prunus, positions that an
attention mask hides have no meaning in the answer. Answers have PyTorch's strides, and share memory
with each other exactly where PyTorch's do; between the elements of a view of something that is no
answer, memory holds nothing.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch  # whose torch.compile is what imports this module
from torch.fx import GraphModule

from prunus.api import compile as compile_module
from prunus.dynamo.checks import (
    check_answer,
    check_numbers,
    check_values,
    check_weights,
    line_of,
)
from prunus.dynamo.graph import DynamoGraph, Inputs, dynamic_shapes
from prunus.dynamo.layout import Layout
from prunus.dynamo.split import SplitModel
from prunus.errors import InputError, PrunusError, UnsupportedOperatorError
from prunus.frontend.snapshot import count_changes
from prunus.model import CompiledModel
from prunus.plan import make_options, option_names

MODES: Mapping[str, Mapping[str, Any]] = {
    "default": {},
    "reduce-overhead": {},
    "max-autotune": {"tune": "race"},
    "max-autotune-no-cudagraphs": {"tune": "race"},
}
"""PyTorch's modes as options. A compiled graph is one call that keeps its memory for the next, so
there is no overhead of single operators that "reduce-overhead" could take away; "max-autotune" asks
for kernels that are chosen by timing them, as they are by default."""


def backend(
    graph_module: GraphModule,
    example_inputs: Sequence[Any],
    *,
    options: Mapping[str, Any] | None = None,
    mode: str | None = None,
) -> Callable[..., Any]:
    """A function that computes what a graph of Dynamo computes.

    Args:
        graph_module: The graph; modules are inlined, so weights are among its inputs.
        example_inputs: One for each input: tensors, and numbers that may vary.
        options: Of `prunus.compile`.
        mode: One of `MODES`.

    Raises:
        InputError, TargetError: a mode or options that cannot be used.
    """
    if mode is not None and mode not in MODES:
        raise InputError(
            f"unknown mode {mode!r} for the backend prunus; it knows {', '.join(MODES)}"
        )
    options = {**MODES[mode or "default"], **(options or {})}
    known = option_names()
    if unknown := sorted(options.keys() - set(known)):
        raise InputError(
            f"unknown option {unknown[0]!r} for the backend prunus; it knows {', '.join(known)}"
        )
    make_options(**options)
    return _Compiled(graph_module, example_inputs, options)


class _Compiled:
    """A graph, with what was compiled for the weights that it has, if it could be."""

    def __init__(
        self, graph_module: GraphModule, example: Sequence[Any], options: Mapping[str, Any]
    ) -> None:
        self._graph_module, self._options = graph_module, options
        self._inputs = Inputs(graph_module)  # once, as Dynamo takes its notes back afterwards
        self._layout = Layout(graph_module, self._inputs)
        self._model: CompiledModel | SplitModel | None = None
        self._numbers: list[float] | None = None
        self._compile_or_warn(example)

    def __call__(self, *arguments: Any) -> Any:
        if self._model is not None and not self._holds(arguments):
            self._compile_or_warn(arguments)
        if self._model is None:
            return self._graph_module(*arguments)
        with torch.no_grad():  # no answer takes part in a gradient, though inputs may
            answers = self._model(*[arguments[i] for i in self._inputs.tensors])
        return self._layout.restore(answers, arguments)

    def _holds(self, arguments: Sequence[Any]) -> bool:
        """Whether what was compiled is for these weights, numbers and equal sizes."""
        return (
            _state([arguments[i] for i in self._inputs.weights]) == self._state
            and [arguments[i].item() for i in self._inputs.numbers] == self._numbers
            and all(
                arguments[i].shape[axis] == arguments[j].shape[other]
                for (i, axis), (j, other) in self._equal
            )
        )

    def _compile_or_warn(self, arguments: Sequence[Any]) -> None:
        self._model = None
        try:
            self._compile(arguments)
        except PrunusError as error:
            self._warn(f"leaves a graph{self._begin()} to PyTorch: {error}")

    def _compile(self, arguments: Sequence[Any]) -> None:
        inputs = self._inputs
        weights = [arguments[i] for i in inputs.weights]
        numbers = [arguments[i].item() for i in inputs.numbers]
        check_numbers(inputs, self._numbers, numbers)
        check_weights(inputs, weights)
        check_values(self._graph_module)
        self._layout.check()
        shapes, equal = dynamic_shapes(inputs, arguments)
        state = _state(weights)  # as they are before they are read
        # torch.export would take Dynamo's own context, with what it knows of sizes, for its own.
        with torch._guards.tracing(None):
            model = self._import(
                DynamoGraph(self._graph_module, inputs, weights, numbers),
                [arguments[i] for i in inputs.tensors],
                {"tensors": shapes},
            )
        self._weights = weights  # held, so that no other tensor can come to have their addresses
        self._state, self._numbers, self._equal = state, numbers, equal
        self._model = model

    def _import(
        self, module: DynamoGraph, example: Sequence[torch.Tensor], shapes: Mapping[str, Any]
    ) -> CompiledModel | SplitModel:
        """The whole graph, or the parts of it between operators that have no translation."""
        try:
            whole = compile_module(module, example, dynamic_shapes=shapes, **self._options)
        except UnsupportedOperatorError:
            split = SplitModel(module, example, shapes, self._options)
            self._warn(
                f"leaves operators of a graph{self._begin()} to PyTorch and compiles what is "
                f"around them (parts: {len(split.models)}): {split.reason}"
            )
            return split
        check_answer(self._graph_module, whole)
        return whole

    def _begin(self) -> str:
        line = next(filter(None, map(line_of, self._graph_module.graph.nodes)), "")
        return f" that begins at {line}" if line else ""

    def _warn(self, message: str) -> None:
        warnings.warn(f"prunus {message}", stacklevel=2)


def _state(weights: Sequence[torch.Tensor]) -> tuple[list[int], list[int | None]]:
    """What changes when another weight takes the place of one, or when one is written to."""
    return [weight.data_ptr() for weight in weights], [count_changes(each) for each in weights]
