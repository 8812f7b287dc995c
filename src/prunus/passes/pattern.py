"""Graphs in miniature: the pattern that a rewrite looks for, and what it puts in its place.

Both are written alike, `op.linear(x, op.permute(w))`. In a pattern `x` is a variable, in a
replacement it is the value that the variable was bound to.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import EllipsisType
from typing import Protocol, TypeAlias, TypeVar

import numpy as np

from prunus.ir import DTYPES, Constant, Node, TensorType
from prunus.ir.graph import OPERANDS, AttrValue, operand_position

Number: TypeAlias = int | float | bool

Each = TypeVar("Each")

COMMUTATIVE = frozenset(
    {"add", "multiply", "minimum", "maximum", "equal", "not_equal", "and", "or"}
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Value:
    """A value of the graph, as a rewrite sees it: its name, its type, and what makes it."""

    name: str
    type: TensorType
    node: Node | None = None
    constant: Constant | None = None

    @property
    def inputs(self) -> tuple[str | None, ...]:
        """The operands' names of the node that computes it; none for an input or a constant."""
        return self.node.inputs if self.node is not None else ()

    @property
    def number(self) -> Number | None:
        """The number that all of its elements are known to be, else None."""
        if self.node is not None and self.node.op == "full":
            # As the tensor holds it: 0.1 is another number in float32.
            exact: Number = np.asarray(self.node.attrs.value, DTYPES[self.type.dtype]).item()
            return exact
        if self.constant is not None and all(dim == 1 for dim in self.type.shape):
            item: Number = self.constant.dense().item()
            return item
        return None


@dataclass(frozen=True, slots=True)
class Variable:
    """Matches any value that `accepts` takes; the same variable twice matches the same value."""

    name: str
    accepts: Callable[[Value], bool] = lambda value: True


@dataclass(frozen=True, slots=True)
class Either:
    """Matches what one of the patterns matches, tried in order."""

    patterns: tuple[Operand, ...]


@dataclass(frozen=True, slots=True, eq=False)
class NewConstant:
    """In a replacement: a constant to be added; an equal one of the same name is used again."""

    name: str
    value: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """An op on operands.

    As a pattern: given attributes must be equal, others may be anything, `...` at the end stands
    for any more operands, and a node inside matches only if nothing else reads it, as it
    is going to vanish, unless it is `shared`.
    """

    op: str
    operands: tuple[Operand, ...]
    attrs: Mapping[str, AttrValue] = field(default_factory=dict)
    name: str | None = None
    is_shared: bool = False

    @classmethod
    def like(
        cls, node: Node, attrs: Mapping[str, AttrValue] | None = None, /, **operands: Operand
    ) -> Call:
        """The op of a node, with other attributes and operands where they are given."""
        changed = {operand_position(node.op, name): each for name, each in operands.items()}
        known: list[Operand] = [*node.inputs, *[None] * len(OPERANDS.get(node.op, ()))]
        made = tuple(changed.get(position, each) for position, each in enumerate(known))
        return cls(node.op, without_trailing_none(made), {**node.attrs, **(attrs or {})})

    def named(self, name: str) -> Call:
        """The pattern, binding the value that it matches to `name`."""
        return replace(self, name=name)

    def shared(self) -> Call:
        """The pattern, matching also where other nodes read the value."""
        return replace(self, is_shared=True)


Operand: TypeAlias = (
    Value | Variable | Either | NewConstant | Call | Number | str | EllipsisType | None
)
"""A number is a pattern of a scalar, a text the name of an existing value in a replacement."""

Bindings: TypeAlias = dict[str, Value]


class _Ops:
    """`op.linear(x, w, activation="none")` for any op; `op.and_` where Python has a keyword."""

    def __getattr__(self, name: str) -> Callable[..., Call]:
        def call(*operands: Operand, **attrs: AttrValue) -> Call:
            return Call(name.rstrip("_"), operands, attrs)

        return call


op = _Ops()


def variable(name: str) -> Variable:
    """Matches any value."""
    return Variable(name)


def constant(name: str) -> Variable:
    """Matches a constant."""
    return Variable(name, lambda value: value.constant is not None)


def number(name: str) -> Variable:
    """Matches a value all of whose elements are one known number."""
    return Variable(name, lambda value: value.number is not None)


def either(*patterns: Operand) -> Either:
    """Matches what one of the patterns matches."""
    return Either(patterns)


class Surroundings(Protocol):
    """What matching needs to know of a graph."""

    def value(self, name: str) -> Value:
        """The value of a name."""
        ...

    def is_read_once(self, name: str) -> bool:
        """Whether exactly one operand of one node, or one output, is this value."""
        ...


def match_node(pattern: Call | Either, node: Node, graph: Surroundings) -> Iterator[Bindings]:
    """All ways in which the pattern fits with `node` at its root."""
    for choice in pattern.patterns if isinstance(pattern, Either) else (pattern,):
        if isinstance(choice, Call) and choice.op == node.op:
            yield from _match_call(choice, Value(node.name, node.type, node), graph, {})


def _match(
    pattern: Operand, name: str | None, graph: Surroundings, bound: Bindings
) -> Iterator[Bindings]:
    if pattern is None or name is None:
        if pattern is None and name is None:
            yield bound
        return
    value = graph.value(name)
    match pattern:
        case Variable(name=key, accepts=accepts):
            if key in bound:
                if bound[key].name == name:
                    yield bound
            elif accepts(value):
                yield {**bound, key: value}
        case Either(patterns=patterns):
            for choice in patterns:
                yield from _match(choice, name, graph, bound)
        case Call():
            if pattern.is_shared or graph.is_read_once(name):
                yield from _match_call(pattern, value, graph, bound)
        case int() | float():
            found = value.number
            # Written as 0.7978845608 here and computed as √(2/π) there: a float32 holds 7 digits.
            if found is not None and math.isclose(found, pattern, rel_tol=1e-6):
                yield bound
        case _:
            raise TypeError(f"{pattern!r} is no pattern")


def _match_call(
    pattern: Call, value: Value, graph: Surroundings, bound: Bindings
) -> Iterator[Bindings]:
    node = value.node
    if node is None or node.op != pattern.op:
        return
    if any(node.attrs.get(key) != wanted for key, wanted in pattern.attrs.items()):
        return
    if pattern.name is not None:
        bound = {**bound, pattern.name: value}
    operands, patterns = without_trailing_none(node.inputs), pattern.operands
    if patterns[-1:] == (...,):
        patterns = patterns[:-1]
        operands = operands[: len(patterns)]
    if len(operands) != len(patterns):
        return
    yield from _match_all(patterns, operands, graph, bound)
    if node.op in COMMUTATIVE:
        yield from _match_all(patterns, operands[::-1], graph, bound)


def _match_all(
    patterns: tuple[Operand, ...],
    names: tuple[str | None, ...],
    graph: Surroundings,
    bound: Bindings,
) -> Iterator[Bindings]:
    if not patterns:
        yield bound
        return
    for extended in _match(patterns[0], names[0], graph, bound):
        yield from _match_all(patterns[1:], names[1:], graph, extended)


def without_trailing_none(operands: tuple[Each, ...]) -> tuple[Each, ...]:
    """Operands without those at the end that were left out."""
    count = len(operands)
    while count and operands[count - 1] is None:
        count -= 1
    return operands[:count]


def bound_names(pattern: Operand) -> frozenset[str]:
    """The names that a match of the pattern may bind."""
    match pattern:
        case Variable(name=name):
            return frozenset({name})
        case Either(patterns=patterns):
            return frozenset().union(*map(bound_names, patterns))
        case Call(operands=operands, name=own):
            inner = frozenset[str]().union(*map(bound_names, operands))
            return inner | {own} if own is not None else inner
    return frozenset()
