"""What translations of ATen ops work with: the call, values of the graph that grows, and the table
that they are entered in.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

import numpy as np

from prunus.errors import UnsupportedError
from prunus.ir import (
    DTYPES,
    Attrs,
    Constant,
    Expr,
    Graph,
    Node,
    TensorType,
    infer,
    interpret,
    verify,
)
from prunus.ir.graph import AttrValue

Dim: TypeAlias = int | Expr
Number: TypeAlias = int | float | bool | Expr

Translation: TypeAlias = Callable[..., Any]
"""`(call, **arguments)` → the value of the result, or a list of values with None for what prunus
does not compute. Arguments have the names of ATen's schema, but the tensor that an op is a method
of (`self`, `input`) is `x`."""

Function = TypeVar("Function", bound=Translation)

TRANSLATIONS: dict[str, Translation] = {}


def translates(*names: str) -> Callable[[Function], Function]:
    """Enter a translation for these ops, named without `aten::` and overload."""

    def enter(function: Function) -> Function:
        TRANSLATIONS.update(dict.fromkeys(names, function))
        return function

    return enter


@dataclass(frozen=True, slots=True)
class Value:
    """An input, a constant or a node of the graph."""

    name: str
    type: TensorType

    @property
    def dtype(self) -> str:
        """The dtype's name."""
        return self.type.dtype

    @property
    def shape(self) -> tuple[Dim, ...]:
        """The shape."""
        return self.type.shape

    @property
    def rank(self) -> int:
        """The number of dimensions."""
        return self.type.rank


class Writer:
    """Writes a graph node by node; types are inferred, names are unique.

    Args:
        inputs: The graph's inputs.
        reserved: Names that are kept for constants.
    """

    def __init__(self, inputs: Mapping[str, TensorType], reserved: Iterable[str] = ()) -> None:
        self._inputs = dict(inputs)
        self._constants: dict[str, Constant] = {}
        self._nodes: list[Node] = []
        self._given: dict[str, Value] = {}
        self._taken = {*inputs, *map(plain_name, reserved)}
        self._counts: dict[str, int] = {}

    def emit(
        self, name: str, op: str, operands: Sequence[Value | None], attrs: Mapping[str, AttrValue]
    ) -> Value:
        """A node, under a name like `name`.

        Raises:
            GraphError: the op does not take such operands.
        """
        while operands and operands[-1] is None:
            operands = operands[:-1]
        node_attrs = Attrs(attrs)
        type = infer(op, [None if each is None else each.type for each in operands], node_attrs)
        names = tuple(None if each is None else each.name for each in operands)
        self._nodes.append(Node(self._unique(plain_name(name)), op, names, node_attrs, type))
        return Value(self._nodes[-1].name, type)

    def constant(self, name: str, make: Callable[[], np.ndarray]) -> Value:
        """The constant of a name that was reserved or is new; made when it is first asked for."""
        if name not in self._given:
            plain = plain_name(name)
            is_free = plain not in self._inputs and plain not in self._constants
            unique = plain if is_free else self._unique(plain)
            self._taken.add(unique)
            self._constants[unique] = Constant(make())
            self._given[name] = Value(unique, self._constants[unique].type)
        return self._given[name]

    def scalar(self, number: int | float | bool, dtype: str) -> Value:
        """A number as a constant without dimensions, named after itself: `f32:0.25`."""
        value = np.asarray(number).astype(DTYPES[dtype])
        return self.constant(f"{dtype}:{value}".replace("+", ""), lambda: value)

    def input(self, name: str, type: TensorType) -> Value:
        """One more input, under a name like `name`."""
        unique = self._unique(plain_name(name))
        self._inputs[unique] = type
        return Value(unique, type)

    def ops_since(self, position: int) -> list[str]:
        """The ops of the nodes from a position on, in order; that of all nodes is their number."""
        return [node.op for node in self._nodes[position:]]

    def is_constant(self, value: Value) -> bool:
        """Whether a value is a constant of the graph."""
        return value.name in self._constants

    def array(self, value: Value) -> np.ndarray | None:
        """The numbers of a value that constants alone make; None for any other."""
        if self.is_constant(value):
            return self._constants[value.name].dense()
        nodes = {node.name: node for node in self._nodes}
        pending = {value.name}
        while pending:
            name = pending.pop()
            if name in self._inputs or (name in nodes and nodes[name].type.symbols()):
                return None
            pending |= {each for each in nodes[name].inputs if each} if name in nodes else set()
        return interpret(self.part([], [value], {}), {})[0]

    def part(
        self, inputs: Sequence[Value], outputs: Sequence[Value], limits: Mapping[str, int]
    ) -> Graph:
        """The graph of what lies between these values, verified; the inputs may be any values."""
        given = {value.name: value.type for value in inputs}
        nodes = tuple(node for node in self._nodes if node.name not in given)
        names = tuple(value.name for value in outputs)
        whole = Graph(given, self._constants, nodes, names, dict(limits))
        return verify(whole.with_nodes(nodes))

    def graph(self, outputs: Sequence[Value], limits: Mapping[str, int]) -> Graph:
        """The graph of what the outputs need, verified."""
        names = tuple(value.name for value in outputs)
        whole = Graph(self._inputs, self._constants, tuple(self._nodes), names, dict(limits))
        return verify(whole.with_nodes(whole.nodes))

    def _unique(self, name: str) -> str:
        unique = name
        while unique in self._taken:
            self._counts[name] = self._counts.get(name, 0) + 1
            unique = f"{name}_{self._counts[name]}"
        self._taken.add(unique)
        return unique


def plain_name(name: str) -> str:
    """A name that a graph's text can hold; `_` alone stands for nothing there."""
    plain = re.sub(r"[^\w.:/\-]", "_", name)
    return plain if plain.strip("_") else f"value{plain}"


@dataclass(frozen=True, slots=True)
class Call:
    """One call of an ATen op.

    Attributes:
        writer: Where the graph is written.
        path: The module that makes the call, `encoder.layer.0`.
        results: The types of the results, as torch has them.
        common: The dtype to which torch would promote the first two arguments.
    """

    writer: Writer
    path: str
    results: tuple[TensorType, ...]
    common: Callable[[], str] = field(repr=False)

    @property
    def result(self) -> TensorType:
        """The type of the only result."""
        return self.results[0]

    def emit(self, op: str, *operands: Value | None, **attrs: AttrValue) -> Value:
        """A node, named after the module and the op."""
        return self.writer.emit(f"{self.path}.{op}".lstrip("."), op, operands, attrs)

    def cast(self, x: Value, dtype: str) -> Value:
        """`x` in another dtype."""
        return x if x.dtype == dtype else self.emit("cast", x, dtype=dtype)

    def number(self, number: Number, dtype: str) -> Value:
        """A number as a tensor without dimensions; a size is the sum of as many ones."""
        if isinstance(number, Expr):
            ones = self.emit("full", shape=(number,), value=1, dtype="i64")
            return self.cast(self.emit("sum", ones, axes=(0,), keep=False), dtype)
        return self.writer.scalar(number, dtype)

    def operand(self, x: Value | Number, dtype: str) -> Value:
        """A tensor or number as an operand of `dtype`."""
        return self.cast(x, dtype) if isinstance(x, Value) else self.number(x, dtype)

    def binary(self, op: str, x: Value | Number, y: Value | Number, dtype: str) -> Value:
        """An op on two operands that are brought to one dtype first."""
        return self.emit(op, self.operand(x, dtype), self.operand(y, dtype))

    def reshape(self, x: Value, shape: Sequence[Dim]) -> Value:
        """`x` in another shape of as many elements."""
        return x if x.shape == tuple(shape) else self.emit("reshape", x, shape=tuple(shape))

    def permute(self, x: Value, axes: Sequence[int]) -> Value:
        """`x` with its axes in another order."""
        return x if list(axes) == list(range(x.rank)) else self.emit("permute", x, axes=tuple(axes))

    def expand(self, x: Value, shape: Sequence[Dim]) -> Value:
        """`x` broadcast to a shape."""
        return x if x.shape == tuple(shape) else self.emit("expand", x, shape=tuple(shape))

    def slice(self, x: Value, axis: int, start: Dim, stop: Dim, step: int = 1) -> Value:
        """A part of `x` along an axis, where 0 ≤ start ≤ stop ≤ its size."""
        if (start, stop, step) == (0, x.shape[axis], 1):
            return x
        return self.emit("slice", x, axis=axis, start=start, stop=stop, step=step)

    def reduce(self, op: str, x: Value, dim: int | Sequence[int] | None, keep: bool) -> Value:
        """A reduction along one, several or (None, or none) all axes."""
        dims = [dim] if isinstance(dim, int) else list(dim or range(x.rank))
        axes = tuple(sorted({axis(each, x.rank) for each in dims})) if x.rank else ()
        return self.emit(op, x, axes=axes, keep=keep) if axes else x


def axis(dim: int, rank: int) -> int:
    """An axis counted from the start; a scalar counts as a vector, as torch has it."""
    return dim % max(rank, 1)


def refuse(option: str, advice: str) -> UnsupportedError:
    """The error for an option of an op that has no translation."""
    return UnsupportedError(f"{option} has no translation; {advice}")
