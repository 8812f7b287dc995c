"""The program: an immutable list of named nodes over inputs and constants."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from prunus.errors import GraphError
from prunus.ir.dims import Expr
from prunus.ir.types import TensorType, dtype_name
from prunus.sparsity import BlockSparse, Pattern

AttrValue = int | float | bool | str | None | Expr | tuple["AttrValue", ...]


class Attrs(Mapping[str, AttrValue]):
    """A node's attributes: an immutable mapping whose keys read as attributes too."""

    __slots__ = ("_items",)
    _items: dict[str, AttrValue]

    def __init__(self, items: Mapping[str, AttrValue] | None = None, **more: AttrValue) -> None:
        object.__setattr__(self, "_items", dict(sorted({**(items or {}), **more}.items())))

    def __getitem__(self, key: str) -> AttrValue:
        return self._items[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __getattr__(self, key: str) -> Any:
        if key.startswith("_"):
            raise AttributeError(key)
        try:
            return self._items[key]
        except KeyError:
            raise AttributeError(f"no attribute {key!r}; there are {list(self._items)}") from None

    def __setattr__(self, key: str, value: object) -> None:
        raise AttributeError("attributes of a node cannot be changed; make a new node")

    def __hash__(self) -> int:
        return hash(tuple(self._items.items()))

    def __repr__(self) -> str:
        return f"Attrs({self._items})"


OPERANDS: dict[str, Mapping[str, int]] = {}
"""The position of each named operand of each op: entered by the op table."""


@dataclass(frozen=True, slots=True)
class Node:
    """`name = op(inputs) {attrs} : type`. An input is another node's, an input's or a constant's
    name, or None. Operands are also read by the names that the op table gives them: `node["x"]`,
    and `node.get("bias")` where it may be left out.
    """

    name: str
    op: str
    inputs: tuple[str | None, ...]
    attrs: Attrs
    type: TensorType

    def __getitem__(self, operand: str) -> str:
        """The value that an operand is. Raises GraphError where it is left out."""
        name = self.get(operand)
        if name is None:
            raise GraphError(f"{self.op} {self.name} has no {operand}")
        return name

    def get(self, operand: str) -> str | None:
        """The value that an operand is, None where it is left out. Raises GraphError for a name
        that no operand of the op has.
        """
        position = operand_position(self.op, operand)
        return self.inputs[position] if position < len(self.inputs) else None


def operand_position(op: str, operand: str) -> int:
    """Where an operand stands. Raises GraphError for a name that no operand of the op has."""
    positions = OPERANDS.get(op, {})
    if operand not in positions:
        raise GraphError(
            f"{op} has no operand {operand!r}; it has {', '.join(positions) or 'none'}"
        )
    return positions[operand]


@dataclass(frozen=True, slots=True, eq=False)
class Constant:
    """A weight or another fixed tensor.

    `value` is a dense array or a `BlockSparse`: how it is stored is data of the constant and does
    not change what it means. `pattern` is what was measured of its zeros, where that has been done.
    """

    value: np.ndarray | BlockSparse
    pattern: Pattern | None = None

    @property
    def type(self) -> TensorType:
        """The type of the tensor, however it is stored."""
        if isinstance(self.value, BlockSparse):
            return TensorType("f32", self.value.shape)
        return TensorType(dtype_name(self.value.dtype), self.value.shape)

    def dense(self) -> np.ndarray:
        """The tensor as an array; computed anew where it is stored sparsely."""
        return self.value.to_dense() if isinstance(self.value, BlockSparse) else self.value


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """Inputs, constants, nodes in an order in which they can be computed, and the names of the
    outputs.

    A pass never changes a graph, it returns a new one.
    """

    inputs: Mapping[str, TensorType]
    constants: Mapping[str, Constant]
    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]
    limits: Mapping[str, int] = field(default_factory=dict)
    """The largest size of a symbol, where the model has one (a position table's length, say)."""
    removed: int = 0
    """Weights of linear layers that passes took out, as they had no effect: a report counts them
    among the zeros."""

    def type_of(self, name: str) -> TensorType:
        """The type of any value of the graph. Prefer `types()` where many are asked for."""
        if name in self.inputs:
            return self.inputs[name]
        if name in self.constants:
            return self.constants[name].type
        for node in self.nodes:
            if node.name == name:
                return node.type
        raise GraphError(f"the graph has no value named {name!r}")

    def types(self) -> dict[str, TensorType]:
        """The type of every value by its name."""
        types = dict(self.inputs)
        types.update((name, constant.type) for name, constant in self.constants.items())
        types.update((node.name, node.type) for node in self.nodes)
        return types

    def producers(self) -> dict[str, Node]:
        """The node that computes each value."""
        return {node.name: node for node in self.nodes}

    def table_rows(self, name: str) -> int | None:
        """The rows of the smallest constant table in which an input is looked up: how many ids it
        may hold. None where there is no such table.
        """
        rows = [
            self.constants[table].type.sizes({})[0]
            for node in self.nodes
            if node.op == "embedding"
            for table, ids in zip(node.inputs[::2], node.inputs[1::2], strict=True)
            if ids == name and table is not None and table in self.constants
        ]
        return min(rows, default=None)

    def users(self) -> dict[str, list[Node]]:
        """The nodes that read each value; a value that is read twice by one node has it twice."""
        users: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in node.inputs:
                if name is not None:
                    users.setdefault(name, []).append(node)
        return users

    def with_nodes(
        self,
        nodes: Sequence[Node],
        *,
        constants: Mapping[str, Constant] | None = None,
        outputs: tuple[str, ...] | None = None,
    ) -> Graph:
        """The same graph with other nodes; values that nothing needs any more are left out.

        Constants keep their order, and inputs stay even when unused: they are the model's
        signature.
        """
        outputs = self.outputs if outputs is None else outputs
        needed, kept = set(outputs), []
        for node in reversed(nodes):
            if node.name in needed:
                kept.append(node)
                needed.update(name for name in node.inputs if name is not None)
        constants = self.constants if constants is None else constants
        used = {name: constant for name, constant in constants.items() if name in needed}
        return replace(self, nodes=tuple(reversed(kept)), constants=used, outputs=outputs)

    def __str__(self) -> str:
        from prunus.ir.text import print_graph

        return print_graph(self)
