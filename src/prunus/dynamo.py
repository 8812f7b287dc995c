"""`torch.compile(model, backend="prunus")`: every graph that Dynamo finds in a program, compiled.

For inference. A graph that prunus cannot take, or that takes part in a gradient, runs in PyTorch as
before, and a warning says which and why. The options are those of `prunus.compile`:
`torch.compile(model, backend="prunus", options={"threads": 2})`.

Weights are constants of what is compiled. Each call looks whether they are still the same, by
address and version, and compiles again if not, so there is no option `copy`; writing to
`weight.data` leaves no trace that could be found. As everywhere in prunus, positions that an
attention mask hides have no meaning in the answer. Answers share no memory with each other, even
where torch's would.
"""

from __future__ import annotations

import inspect
import re
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch  # whose torch.compile is what imports this module
from torch.export import Dim
from torch.fx import GraphModule, Node

from prunus.api import compile as compile_module
from prunus.errors import InputError, PrunusError, UnsupportedError
from prunus.frontend.failures import user_line_of_trace
from prunus.ir import DTYPES
from prunus.model import CompiledModel
from prunus.plan import make_options

STATIC = "_dynamo_static_input_type"
"""How Dynamo marks inputs of a graph that are parameters and buffers of modules."""

Axis = tuple[int, int]
"""An input by its position, and one of its axes."""


def backend(
    graph_module: GraphModule,
    example_inputs: Sequence[Any],
    *,
    options: Mapping[str, Any] | None = None,
) -> Callable[..., Any]:
    """A function that computes what a graph of Dynamo computes.

    Args:
        graph_module: The graph; modules are inlined, so weights are among its inputs.
        example_inputs: One for each input: tensors, and numbers that may vary.
        options: Of `prunus.compile`.

    Raises:
        InputError, TargetError: options that cannot be used.
    """
    options = options or {}
    known = inspect.signature(make_options).parameters
    if unknown := sorted(options.keys() - known.keys()):
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
        self._inputs = _Inputs(graph_module)  # once, as Dynamo takes its notes back afterwards
        self._model: CompiledModel | None = None
        self._numbers: list[float] | None = None
        self._compile_or_warn(example)

    def __call__(self, *arguments: Any) -> Any:
        if self._model is not None and not self._holds(arguments):
            self._compile_or_warn(arguments)
        if self._model is None:
            return self._graph_module(*arguments)
        with torch.no_grad():  # no answer takes part in a gradient, though inputs may
            return self._model(*[arguments[i] for i in self._inputs.tensors])

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
            nodes = self._graph_module.graph.nodes
            line = next(filter(None, map(_line, nodes)), "")
            warnings.warn(
                f"prunus leaves a graph{f' that begins at {line}' if line else ''} to PyTorch: "
                f"{error}",
                stacklevel=2,
            )

    def _compile(self, arguments: Sequence[Any]) -> None:
        inputs = self._inputs
        weights = [arguments[i] for i in inputs.weights]
        numbers = [arguments[i].item() for i in inputs.numbers]
        _check_numbers(inputs, self._numbers, numbers)
        _check_weights(inputs, weights)
        _check_values(self._graph_module)
        shapes, equal = _dynamic_shapes(inputs, arguments)
        # torch.export would take Dynamo's own context, with what it knows of sizes, for its own.
        with torch._guards.tracing(None):
            model = compile_module(
                _DynamoGraph(self._graph_module, inputs, weights, numbers),
                [arguments[i] for i in inputs.tensors],
                dynamic_shapes={"tensors": shapes},
                **self._options,
            )
        _check_answer(self._graph_module, model)
        self._weights = weights  # held, so that no other tensor can come to have their addresses
        self._state, self._numbers, self._equal = _state(weights), numbers, equal
        self._model = model


def _state(weights: Sequence[torch.Tensor]) -> tuple[list[int], list[int]]:
    """What changes when another weight takes the place of one, or when one is written to."""
    return [weight.data_ptr() for weight in weights], [weight._version for weight in weights]


class _Inputs:
    """What the inputs of a graph are, by position.

    Attributes:
        count: How many there are.
        weights: The names of parameters and buffers.
        numbers: Floats, which Dynamo passes as tensors.
        tensors: Of the other tensors, the sizes that vary, by axis.
        sizes: Of integers, which axis has this size.
        unknown: Names of integers that are no such size.
    """

    def __init__(self, graph_module: GraphModule) -> None:
        nodes = graph_module.graph.find_nodes(op="placeholder")
        self.count = len(nodes)
        self.weights: dict[int, str] = {}
        self.numbers: list[int] = []
        self.tensors: dict[int, dict[int, Any]] = {}
        for i, node in enumerate(nodes):
            value = node.meta["example_value"]
            if STATIC in (node.meta.get("tensor_dict") or {}):
                self.weights[i] = _weight_name(node)
            elif getattr(node.meta.get("grapharg"), "pass_arg_as_tensor", False):
                self.numbers.append(i)
            elif isinstance(value, torch.Tensor):
                self.tensors[i] = {axis: s for axis, s in enumerate(value.shape) if _varies(s)}
        places = {
            str(size): (i, axis)
            for i, sizes in self.tensors.items()
            for axis, size in sizes.items()
        }
        self.sizes: dict[int, Axis] = {}
        self.unknown: list[str] = []
        for i in {*range(self.count)} - {*self.weights, *self.numbers, *self.tensors}:
            place = places.get(str(nodes[i].meta["example_value"]))
            if place is None:
                self.unknown.append(str(nodes[i].target))
            else:
                self.sizes[i] = place


def _varies(size: Any) -> bool:
    return isinstance(size, torch.SymInt) and not size.node.expr.is_number


def _weight_name(node: Node) -> str:
    """`encoder.layers.0.weight` for `L_self_modules_encoder_…_modules_0_parameters_weight_`."""
    parts = re.split(r"_(?:modules|parameters|buffers)_", str(node.target).strip("_"))
    return ".".join(parts[1:]) or parts[0]


def _dynamic_shapes(
    inputs: _Inputs, arguments: Sequence[Any]
) -> tuple[tuple[dict[int, Any], ...], list[tuple[Axis, Axis]]]:
    """`dynamic_shapes` of the tensors, and pairs of axes that it takes to have one size.

    Dynamo does not know that a mask and ids have one batch where torch would broadcast them, while
    padding is only left out where this is known. So axes of one size are taken to be equal, and
    each call looks whether they are.
    """
    groups: dict[tuple[int, int], list[int]] = defaultdict(list)
    for i, sizes in inputs.tensors.items():
        for axis in sizes:
            groups[axis, arguments[i].shape[axis]].append(i)
    shapes: dict[int, dict[int, Any]] = {i: {} for i in inputs.tensors}
    equal = []
    for (axis, size), members in groups.items():
        own = {i: inputs.tensors[i][axis] for i in members}
        dim = _dim(f"size{axis}_{size}", list(own.values()))
        for i in members:
            shapes[i][axis] = dim
            if str(own[i]) != str(own[members[0]]):
                equal.append(((members[0], axis), (i, axis)))
    return tuple(shapes.values()), equal


def _dim(name: str, sizes: Sequence[Any]) -> Dim:
    """A dimension for which all that Dynamo knows of these sizes holds."""
    bounds = [size.node.shape_env.bound_sympy(size.node.expr) for size in sizes]
    limits = [int(each.upper) for each in bounds if each.upper.is_Integer]
    return Dim(name, min=max(int(each.lower) for each in bounds), max=min(limits, default=None))


class _Number(float):
    """A float where Dynamo's graphs expect it as a tensor, which they ask for its `item`."""

    def item(self) -> float:
        return float(self)


class _DynamoGraph(torch.nn.Module):
    """A graph of Dynamo as a module that has its weights and is called with the other tensors."""

    def __init__(
        self,
        graph_module: GraphModule,
        inputs: _Inputs,
        weights: Sequence[torch.Tensor],
        numbers: Sequence[float],
    ) -> None:
        super().__init__()
        self.graph_module, self._inputs = graph_module, inputs
        self._numbers = dict(zip(inputs.numbers, map(_Number, numbers), strict=True))
        self._names = {i: f"weight_{i}" for i in inputs.weights}
        for name, weight in zip(self._names.values(), weights, strict=True):
            if isinstance(weight, torch.nn.Parameter):
                self.register_parameter(name, weight)
            else:
                self.register_buffer(name, weight)

    def forward(self, *tensors: torch.Tensor) -> Any:
        """What the graph answers; sizes among its inputs are read off the tensors."""
        arguments: list[Any] = [None] * self._inputs.count
        for i, tensor in zip(self._inputs.tensors, tensors, strict=True):
            arguments[i] = tensor
        for i, name in self._names.items():
            arguments[i] = getattr(self, name)
        for i, number in self._numbers.items():
            arguments[i] = number
        for i, (position, axis) in self._inputs.sizes.items():
            arguments[i] = arguments[position].shape[axis]
        # Node by node, so that an operator that is not known can be named with the user's line.
        with torch.fx.traceback.preserve_node_meta():
            return torch.fx.Interpreter(self.graph_module).run(*arguments)


def _check_numbers(
    inputs: _Inputs, before: Sequence[float] | None, numbers: Sequence[float]
) -> None:
    if inputs.unknown:
        raise UnsupportedError(
            f"its input {inputs.unknown[0]} is a number that varies and not the size of another "
            "input: pass it as a tensor, or compile with dynamic=False for a graph for each number"
        )
    if before is not None and before != numbers:
        raise UnsupportedError(
            f"its numbers were {before} and are {numbers} now, while a compiled graph has them as "
            "constants: pass them as tensors, or compile with dynamic=False"
        )


def _check_weights(inputs: _Inputs, weights: Sequence[torch.Tensor]) -> None:
    for name, weight in zip(inputs.weights.values(), weights, strict=True):
        if weight.is_floating_point() and weight.dtype != torch.float32:
            raise UnsupportedError(
                f"the weight {name} is {_name(weight.dtype)}, and prunus computes in float32: call "
                "model.float() first"
            )
        if weight.is_inference():
            raise UnsupportedError(
                f"the weight {name} was made under torch.inference_mode(), where torch does not "
                "count changes to it: make the model outside of it"
            )


def _check_values(graph_module: GraphModule) -> None:
    """Refuse what prunus would compute otherwise than torch, or not at all.

    Raises:
        UnsupportedError: another dtype than float32, a gradient, or an answer that is a view.
    """
    owners: dict[int, str] = {}
    for node in graph_module.graph.nodes:
        for tensor in _tensors(node):
            if tensor.dtype in (torch.float16, torch.bfloat16):
                raise UnsupportedError(
                    f"{_where(node)} is {_name(tensor.dtype)}, and prunus computes in float32: "
                    "pass float32, and call it outside of torch.autocast"
                )
            if node.op == "placeholder":
                owners[tensor.untyped_storage()._cdata] = str(node.target)
    for node in graph_module.graph.output_node().all_input_nodes:
        for tensor in _tensors(node):
            if tensor.requires_grad:
                raise UnsupportedError(
                    "its answer takes part in a gradient, and prunus is for inference only: call "
                    "the model under torch.no_grad() or torch.inference_mode()"
                )
            if owner := owners.get(tensor.untyped_storage()._cdata):
                raise UnsupportedError(
                    f"its answer {_where(node)} shares memory with its input {owner}: give it "
                    "memory of its own with .clone()"
                )


def _check_answer(graph_module: GraphModule, model: CompiledModel) -> None:
    """Raises UnsupportedError where prunus answers in another dtype than torch."""
    types, output = model.graph.types(), graph_module.graph.output_node()
    answer: Any = output.args[0]
    wanted = [_name(tensor.dtype) for node in answer for tensor in _tensors(node)]
    found = [str(DTYPES[types[name].dtype]) for name in model.graph.outputs]
    if found != wanted:
        raise UnsupportedError(f"it answers in {', '.join(wanted)}, prunus in {', '.join(found)}")


def _tensors(node: Any) -> Iterator[torch.Tensor]:
    """The tensors of a node, as Dynamo saw them while it traced."""
    value = node.meta.get("example_value") if isinstance(node, Node) else None
    for each in value if isinstance(value, tuple | list) else [value]:
        if isinstance(each, torch.Tensor):
            yield each


def _where(node: Node) -> str:
    """A value of the graph, with the user's line that makes it."""
    line = _line(node)
    return f"{node.name} ({line})" if line else node.name


def _line(node: Node) -> str:
    return user_line_of_trace(node.meta.get("stack_trace") or "")


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
