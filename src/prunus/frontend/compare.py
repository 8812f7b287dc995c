"""A graph beside the module that it was made of, at sizes where they might differ."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from prunus.errors import PrunusError, UnsupportedError
from prunus.frontend.arrays import to_array
from prunus.frontend.examples import Example
from prunus.frontend.program import Program
from prunus.frontend.trials import Refusal, attempt
from prunus.ir import Graph, interpret

if TYPE_CHECKING:
    import torch

TOLERANCE = {"float16": 5e-2, "bfloat16": 5e-2}
"""How far the graph may be from the module, 1e-3 for wider numbers: another way through the module
is farther off."""


LONGEST_TRIED = 2048
"""Limits beyond this stay without a trial: attention over twice as many tokens, twice, would take
longer than the rest of the import, and gigabytes."""


def check_doubtful(
    module: torch.nn.Module, example: Example, program: Program, graph: Graph
) -> None:
    """Compare graph and module at the sizes where they might differ.

    Raises:
        UnsupportedError: they do.
    """
    for sizes in program.doubtful_sizes():
        found = _compare(module, example, program, graph, sizes)
        if found:
            where = ", ".join(f"{name} = {size}" for name, size in sizes.items())
            raise UnsupportedError(
                f"{type(module).__name__} takes another way for {where} than for other sizes "
                f"({found}), which torch.export does not follow. Fix the size with "
                "dynamic_shapes, or write the module without a condition on it"
            )


def without_idle_limits(
    module: torch.nn.Module, example: Example, program: Program, graph: Graph
) -> Graph:
    """The graph without limits that the module does not have.

    A limit is the length of a table. DeBERTa has a table of positions that it does not read where
    `position_biased_input` is false; torch.export limits the length all the same. A limit goes if
    the module takes larger sizes and the graph answers as it does for them. Limits that the caller
    set stay.
    """
    usual = program.axes.larger_sizes()
    limits = dict(graph.limits)
    for name, limit in graph.limits.items():
        is_the_callers = getattr(program.axes.dims.get(name), "max", None) == limit
        if is_the_callers or name not in usual or limit > LONGEST_TRIED:
            continue
        rest = {other: bound for other, bound in limits.items() if other != name}
        unlimited = dataclasses.replace(graph, limits=rest)
        # One sequence is enough, as the batch is compared elsewhere, and a long one takes seconds.
        sizes = {**usual, **({"batch": 1} if "batch" in usual and name != "batch" else {})}
        larger = [{**sizes, name: limit + 1}, {**sizes, name: 2 * limit + 3}]
        if all(_compare(module, example, program, unlimited, each) == "" for each in larger):
            limits = rest
    return dataclasses.replace(graph, limits=limits)


def _compare(
    module: torch.nn.Module,
    example: Example,
    program: Program,
    graph: Graph,
    sizes: Mapping[str, int],
) -> str | None:
    """In what the graph differs from the module at given sizes: nothing if it does not, and None if
    the module does not take them.
    """
    import torch
    from torch.utils._pytree import tree_leaves

    tensors = program.axes.resize(example.tensors, sizes)
    args, kwargs = example.call(tensors)
    answer = attempt(lambda: module(*args, **kwargs))
    if isinstance(answer, Refusal):
        return None
    expected = [leaf for leaf in tree_leaves(answer) if isinstance(leaf, torch.Tensor)]
    arrays = {
        name: to_array(name, tensors[name], type.dtype)[0] for name, type in graph.inputs.items()
    }
    found = attempt(lambda: interpret(graph, arrays))
    if not isinstance(found, Refusal):
        return difference(found, expected)
    if isinstance(found.error, PrunusError | ValueError | IndexError):
        return str(found.error)
    raise found.error


def difference(found: Sequence[np.ndarray], expected: Sequence[torch.Tensor]) -> str:
    """In what the graph's outputs differ from the module's; nothing if they do not."""
    for i, (own, tensor) in enumerate(zip(found, expected, strict=False)):
        if own.shape != tuple(tensor.shape):
            return f"output {i} has the shape {list(tensor.shape)}, not {list(own.shape)}"
        tolerance = TOLERANCE.get(str(tensor.dtype).removeprefix("torch."), 1e-3)
        wanted = tensor.double().numpy()
        known = np.isfinite(wanted)  # a row that is masked as a whole is NaN in some modules
        scale = max(1.0, float(np.abs(wanted[known]).max(initial=0)))
        distance = float(np.abs(own[known] - wanted[known]).max(initial=0))
        if not distance <= tolerance * scale:
            return f"output {i} differs by {distance:.3g}"
    return "" if len(found) == len(expected) else f"{len(expected)} outputs, not {len(found)}"
