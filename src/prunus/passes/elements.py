"""One element of a tensor as an expression of its indices: what a chain of shape ops comes to.

`expand(reshape(cast(mask)))[i, j, k, l]` is `cast(mask[i, l])`, whatever the shapes on the way. Ops
that are not understood, and look-ups that cannot be proved to stay inside their tensor, are
elements of an opaque value; so every step is exact.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from prunus.ir import Constant, Node, TensorType
from prunus.passes.scalars import (
    ELEMENTWISE,
    UNBOUNDED,
    Dim,
    Element,
    Index,
    Literal,
    Range,
    Scalar,
    apply,
    bounds,
    size_of,
    within,
)

MAX_SIZE = 64
"""Largest expression that is followed: masks need about ten, and more would only cost time."""


class Elements:
    """Finds the expressions of a graph's values.

    Args:
        types: Types of all values.
        constants: The constants.
        nodes: The nodes by name; may grow while this is in use, but not change.
        limits: The largest sizes of symbols.
    """

    def __init__(
        self,
        types: Mapping[str, TensorType],
        constants: Mapping[str, Constant],
        nodes: Mapping[str, Node],
        limits: Mapping[str, int],
    ) -> None:
        self._types = types
        self._constants = constants
        self._nodes = nodes
        self._limits = limits
        self._uniform: dict[str, Literal | None] = {}
        self._known: dict[tuple[str, tuple[Scalar, ...]], Scalar] = {}

    def of(self, name: str) -> Scalar:
        """The element of a value at the indices of its own axes."""
        return self._at(name, own_indices(self._types[name].shape))

    def of_node(self, node: Node) -> Scalar | None:
        """The element of a node's result, or None if the node is opaque."""
        return self._through(node, own_indices(node.type.shape))

    def _at(self, name: str, at: tuple[Scalar, ...]) -> Scalar:
        """The element at `at`, which is known to lie inside the value."""
        key = (name, at)
        if key not in self._known:
            found = self._followed(name, at)
            if found is None or size_of(found) > MAX_SIZE:
                found = Element(name, at, self._types[name].dtype)
            self._known[key] = found
        return self._known[key]

    def _followed(self, name: str, at: tuple[Scalar, ...]) -> Scalar | None:
        if name in self._constants:
            return self._uniform_value(name)
        return self._through(self._nodes[name], at) if name in self._nodes else None

    def _through(self, node: Node, at: tuple[Scalar, ...]) -> Scalar | None:
        """The element in terms of the node's operands; None where the node is opaque."""
        if node.op in ELEMENTWISE:
            operands = [self._broadcast(name, at) for name in _names(node)]
            return apply(node.op, tuple(operands), node.type.dtype)
        match node.op:
            case "arange":
                return apply("cast", (at[0],), node.type.dtype)
            case "full":
                return Literal(node.attrs.value, node.type.dtype)
            case "expand":
                return self._broadcast(_names(node)[0], at)
            case "permute":
                pairs = dict(zip(node.attrs.axes, at, strict=True))
                return self._at(_names(node)[0], tuple(pairs[axis] for axis in range(len(at))))
            case "reshape":
                return self._reshaped(node, at)
            case "select" if isinstance(node.attrs.index, int) and node.attrs.index >= 0:
                axis = node.attrs.axis
                chosen = Literal(node.attrs.index, "i64")
                return self._look_up(_names(node)[0], (*at[:axis], chosen, *at[axis:]))
            case "slice" if node.attrs.step == 1:
                axis = node.attrs.axis
                return self._sliced(node, axis, at)
            case "index":
                return self._indexed(node, at)
            case "gather":
                axis = node.attrs.axis
                x, index = _names(node)
                return self._look_up(x, (*at[:axis], self._at(index, at), *at[axis + 1 :]))
        return None

    def _broadcast(self, name: str, at: tuple[Scalar, ...]) -> Scalar:
        """The element of an operand that broadcasts to the shape that `at` indexes."""
        shape = self._types[name].shape
        own = at[len(at) - len(shape) :]
        zero = Literal(0, "i64")
        return self._at(
            name, tuple(zero if dim == 1 else i for i, dim in zip(own, shape, strict=True))
        )

    def _reshaped(self, node: Node, at: tuple[Scalar, ...]) -> Scalar | None:
        """Through a reshape that only adds and removes axes of length 1."""
        operand = _names(node)[0]
        shape = self._types[operand].shape
        kept = [i for i, dim in zip(at, node.type.shape, strict=True) if dim != 1]
        if [dim for dim in shape if dim != 1] != [dim for dim in node.type.shape if dim != 1]:
            return None
        zero = Literal(0, "i64")
        return self._at(operand, tuple(zero if dim == 1 else kept.pop(0) for dim in shape))

    def _sliced(self, node: Node, axis: int, at: tuple[Scalar, ...]) -> Scalar | None:
        """Through a slice, where its end is known to lie inside the operand."""
        operand, start = _names(node)[0], node.attrs.start
        size = self._types[operand].shape[axis]
        if not isinstance(start, int) or start < 0 or not self._at_most(node.attrs.stop, size):
            return None
        shifted = apply("add", (at[axis], Literal(start, "i64")), "i64")
        return self._at(operand, (*at[:axis], shifted, *at[axis + 1 :]))

    def _indexed(self, node: Node, at: tuple[Scalar, ...]) -> Scalar | None:
        x, *indices = _names(node)
        lead = len(at) - (self._types[x].rank - len(indices))
        chosen = [self._broadcast(name, at[:lead]) for name in indices]
        return self._look_up(x, (*chosen, *at[lead:]))

    def _look_up(self, name: str, at: tuple[Scalar, ...]) -> Scalar | None:
        """The element at computed indices, if they are proved to lie inside the value."""
        shape = self._types[name].shape
        inside = all(self._is_inside(i, dim) for i, dim in zip(at, shape, strict=True))
        return self._at(name, at) if inside else None

    def _is_inside(self, index: Scalar, size: Dim) -> bool:
        if isinstance(index, Index) and index.extent == size:
            return True
        least, most = bounds(index, self._limits, self._bounds_of)
        return isinstance(size, int) and least >= 0 and most < size

    def _bounds_of(self, element: Element) -> Range:
        """What is known of the elements of a constant, and of running counts (position ids)."""
        if element.value in self._constants:
            array = self._constants[element.value].dense()
            whole = array.size and array.dtype.kind in "iu"
            return (int(array.min()), int(array.max())) if whole else UNBOUNDED
        node = self._nodes.get(element.value)
        if node is None or node.op != "cumsum":
            return UNBOUNDED
        least, most = bounds(self.of(_names(node)[0]), self._limits, self._bounds_of)
        length = node.type.shape[node.attrs.axis]
        longest = length if isinstance(length, int) else self._limits.get(str(length))
        if longest is None or least < 0 or most == math.inf:
            return UNBOUNDED
        return within((0, most * longest), node.type.dtype)

    def _at_most(self, dim: Dim, size: Dim) -> bool:
        """Whether `dim` is at most `size` for all sizes that the symbols may have."""
        if dim == size:
            return True
        largest = dim if isinstance(dim, int) else self._limits.get(str(dim))
        return largest is not None and isinstance(size, int) and largest <= size

    def _uniform_value(self, name: str) -> Literal | None:
        """The number that all elements of a constant are, if they are."""
        if name not in self._uniform:
            constant = self._constants[name]
            array, literal = constant.value, None
            if isinstance(array, np.ndarray) and array.size:
                first = array.flat[0]
                # Bit for bit, so that -0.0 among zeros counts as another number.
                if array.tobytes() == np.full_like(array, first).tobytes():
                    literal = Literal(first.item(), constant.type.dtype)
            self._uniform[name] = literal
        return self._uniform[name]


def own_indices(shape: tuple[Dim, ...]) -> tuple[Scalar, ...]:
    """The indices of a tensor's own axes; the only index along an axis of length 1 is 0."""
    return tuple(
        Literal(0, "i64") if dim == 1 else Index(axis, dim) for axis, dim in enumerate(shape)
    )


def _names(node: Node) -> list[str]:
    return [name for name in node.inputs if name is not None]
