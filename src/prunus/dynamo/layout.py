"""Where the answers of a graph lie in memory: in strides and in sharing as in PyTorch.

prunus answers with contiguous tensors that share no memory. In PyTorch an answer may be a view of
another one or have its axes in another order, and what runs after a graph break may rely on it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch.fx import GraphModule, Node

from prunus.dynamo.graph import Inputs
from prunus.errors import UnsupportedError


@dataclass(frozen=True, slots=True)
class Place:
    """The place of a tensor in a storage of `elements`, counted in elements of the tensor."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    elements: int

    @property
    def is_all(self) -> bool:
        """Whether it is the storage from its begin to its end, in order."""
        return self.has_strides(_contiguous(self.shape)) and prod(self.shape) == self.elements

    @property
    def end(self) -> int:
        """One past its last element."""
        if 0 in self.shape:
            return self.offset
        steps = zip(self.shape, self.strides, strict=True)
        return self.offset + 1 + sum((size - 1) * stride for size, stride in steps)

    def has_strides(self, strides: Sequence[int]) -> bool:
        """Whether a tensor of these strides has its elements in the same places."""
        each = zip(self.shape, self.strides, strides, strict=True)
        return all(size == 1 or own == other for size, own, other in each)

    def put(self, tensor: torch.Tensor, memory: torch.Tensor) -> None:
        """Write a tensor here; axes that repeat the same elements are written once."""
        for axis, stride in enumerate(self.strides):
            if stride == 0:
                tensor = tensor.narrow(axis, 0, min(1, tensor.shape[axis]))
        memory.as_strided(tensor.shape, self.strides, self.offset).copy_(tensor)

    def of(self, memory: torch.Tensor) -> torch.Tensor:
        """What lies here, as a view."""
        return memory.as_strided(self.shape, self.strides, self.offset)


class Layout:
    """How the answers of a graph lie in memory, for any sizes.

    Args:
        graph_module: A graph of Dynamo, with what Dynamo saw of its values.
        inputs: Its inputs.
    """

    def __init__(self, graph_module: GraphModule, inputs: Inputs) -> None:
        answer: Any = graph_module.graph.output_node().args[0]
        values = [n.meta.get("example_value") if isinstance(n, Node) else n for n in answer]
        self._traced = {i: v for i, v in enumerate(values) if isinstance(v, torch.Tensor)}
        groups: dict[int, list[int]] = defaultdict(list)
        for i, tensor in self._traced.items():
            groups[tensor.untyped_storage()._cdata].append(i)
        self._groups = list(groups.values())
        self._symbols = {
            size.node.expr: (i, axis)
            for i, sizes in inputs.tensors.items()
            for axis, size in sizes.items()
            if size.node.expr.is_Symbol
        }
        self._known: dict[tuple[int, ...], Mapping[int, Place]] = {}

    def check(self) -> None:
        """Raises UnsupportedError for answers whose places cannot be told."""
        for group in self._groups:
            if len({self._traced[i].dtype for i in group}) > 1:
                raise UnsupportedError(
                    "its answers share memory in several dtypes: give them memory of their own "
                    "with .clone()"
                )
        for tensor in self._traced.values():
            for number in _numbers_of(tensor):
                free = number.node.expr.free_symbols if isinstance(number, torch.SymInt) else set()
                if free - self._symbols.keys():
                    raise UnsupportedError(
                        f"an answer lies in memory in steps of {number}, which is not told by the "
                        "sizes of its inputs: make it contiguous with .contiguous()"
                    )

    def restore(self, answers: Sequence[Any], arguments: Sequence[Any]) -> list[Any]:
        """Answers in their places; each is only copied where it does not lie so already.

        Args:
            answers: What the graph answers.
            arguments: All its inputs, of which no answer is a part.
        """
        places, results = self._places(arguments), list(answers)
        taken = {_address(each) for each in arguments if isinstance(each, torch.Tensor)}
        for group in self._groups:
            memory = _memory([places[i] for i in group], [results[i] for i in group], taken)
            if memory is not None:
                for i in group:
                    results[i] = places[i].of(memory)
            taken.add(_address(results[group[0]]))
        return results

    def _places(self, arguments: Sequence[Any]) -> Mapping[int, Place]:
        sizes = tuple(arguments[i].shape[axis] for i, axis in self._symbols.values())
        if sizes not in self._known:
            numbers = dict(zip(self._symbols, sizes, strict=True))
            self._known = {
                sizes: {i: _place(tensor, numbers) for i, tensor in self._traced.items()}
            }
        return self._known[sizes]


def _memory(
    places: Sequence[Place], results: Sequence[torch.Tensor], taken: set[int]
) -> torch.Tensor | None:
    """Memory that has these results in these places; None where the only one lies as it should."""
    own = [_address(result) not in taken for result in results]
    if len(places) == 1 and own[0] and places[0].has_strides(results[0].stride()):
        return None
    for place, result, is_own in zip(places, results, own, strict=True):
        fits = place.has_strides(result.stride()) and result.storage_offset() == 0
        if place.is_all and is_own and fits:
            return result  # the others are views of it
    memory = results[0].new_empty(max(place.end for place in places))
    for place, result in zip(places, results, strict=True):
        place.put(result, memory)
    return memory


def _place(tensor: torch.Tensor, numbers: Mapping[Any, int]) -> Place:
    def known(number: Any) -> int:
        return int(number.node.expr.subs(numbers) if isinstance(number, torch.SymInt) else number)

    return Place(
        tuple(map(known, tensor.shape)),
        tuple(map(known, tensor.stride())),
        known(tensor.storage_offset()),
        known(tensor.untyped_storage().nbytes()) // tensor.element_size(),
    )


def _numbers_of(tensor: torch.Tensor) -> list[Any]:
    bytes_ = tensor.untyped_storage().nbytes()
    return [*tensor.shape, *tensor.stride(), tensor.storage_offset(), bytes_]


def _contiguous(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(prod(shape[axis + 1 :]) for axis in range(len(shape)))


def _address(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def in_order(tensor: torch.Tensor, order: Sequence[int] | None) -> torch.Tensor:
    """A tensor without gaps whose axes lie in memory in this order."""
    if order is None:
        return tensor
    inverse = sorted(range(len(order)), key=lambda i: order[i])
    return tensor.permute(*order).contiguous().permute(inverse)
