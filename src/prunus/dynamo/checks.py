"""Checks of a graph before it is compiled: what prunus would compute differently, or not at all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.fx import GraphModule, Node

from prunus.dynamo.graph import Inputs
from prunus.errors import UnsupportedError
from prunus.frontend.failures import user_line_of_trace
from prunus.ir import DTYPES
from prunus.model import CompiledModel


def check_numbers(inputs: Inputs, before: Sequence[float] | None, numbers: Sequence[float]) -> None:
    """Raises UnsupportedError where numbers vary, which are constants of a compiled graph."""
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


def check_weights(inputs: Inputs, weights: Sequence[torch.Tensor]) -> None:
    """Raises UnsupportedError for another dtype than float32, and for weights whose changes torch
    does not count.
    """
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


def check_values(graph_module: GraphModule) -> None:
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


def check_answer(graph_module: GraphModule, model: CompiledModel) -> None:
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
    line = line_of(node)
    return f"{node.name} ({line})" if line else node.name


def line_of(node: Node) -> str:
    """The user's line that a node comes from; nothing where that is not known."""
    return user_line_of_trace(node.meta.get("stack_trace") or "")


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
