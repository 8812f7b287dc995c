"""A graph of Dynamo as a module that `prunus.compile` takes: its weights, numbers and sizes."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from torch.export import Dim
from torch.fx import GraphModule, Node

STATIC = "_dynamo_static_input_type"
"""How Dynamo marks inputs of a graph that are parameters and buffers of modules."""

Axis = tuple[int, int]
"""An input by its position, and one of its axes."""


class Inputs:
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


def dynamic_shapes(
    inputs: Inputs, arguments: Sequence[Any]
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


class DynamoGraph(torch.nn.Module):
    """A graph of Dynamo as a module that has its weights and is called with the other tensors."""

    def __init__(
        self,
        graph_module: GraphModule,
        inputs: Inputs,
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
