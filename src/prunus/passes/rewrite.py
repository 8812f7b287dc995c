"""Applies rewrites to a graph: a pattern, what to put in its place, and why.

    @rewrite(op.multiply(x, op.sigmoid(x)))
    def silu(x: Value) -> Replacement:
        return op.silu(x), "x · sigmoid(x) is silu"

A replacement takes the name of the node at the pattern's root, so names of values survive, and it
never changes a value's type: one of another type is declined.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from prunus.errors import GraphError
from prunus.ir import Attrs, Constant, Graph, Node, TensorType, infer
from prunus.passes.pattern import (
    Call,
    Either,
    NewConstant,
    Operand,
    Value,
    bound_names,
    match_node,
    without_trailing_none,
)

Notes: TypeAlias = list[str]
"""Where a pass says what it did and why, a sentence each."""

Replacement: TypeAlias = tuple[Operand, str] | None
"""What stands in for a node, with the reason; None leaves it as it is."""

Rewrite: TypeAlias = "Callable[[Editor, Node], Replacement]"


@dataclass(frozen=True, slots=True)
class Rule:
    """A rewrite made of a pattern and a function of what the pattern binds."""

    pattern: Call | Either
    build: Callable[..., Replacement]

    def __call__(self, edit: Editor, node: Node) -> Replacement:
        """The replacement of `node`, by the first match that the function wants."""
        for bindings in match_node(self.pattern, node, edit):
            found = self.build(**bindings)
            if found is not None:
                return found
        return None


def rewrite(pattern: Call | Either) -> Callable[[Callable[..., Replacement]], Rule]:
    """Make a rule of a function whose parameters are the names that the pattern binds.

    Raises:
        TypeError: the function lacks one of them.
    """

    def make(build: Callable[..., Replacement]) -> Rule:
        parameters = inspect.signature(build).parameters
        takes_any = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
        missing = bound_names(pattern) - set(parameters)
        if missing and not takes_any:
            raise TypeError(f"{build.__name__} does not take {', '.join(sorted(missing))}")
        return Rule(pattern, build)

    return make


MAX_REWRITES = 100
"""More sweeps over a graph, or rewrites of one node, than any chain needs: beyond that, rules must
be undoing each other."""


def apply_rewrites(graph: Graph, rewrites: Sequence[Rewrite], notes: Notes) -> Graph:
    """The graph with every rewrite applied until none fits; the same object if none did.

    Raises:
        GraphError: the rewrites never come to an end.
    """
    for _ in range(MAX_REWRITES):
        edit = Editor(graph, notes)
        for node in graph.nodes:
            edit.visit(node, rewrites)
        if not edit.changed:
            return graph
        graph = edit.finish()
    raise _endless(notes)


def _endless(notes: Notes) -> GraphError:
    return GraphError(f"rewrites undo each other; the last were: {'; '.join(notes[-4:])}")


class Editor:
    """One sweep over a graph, from its first node to its last.

    Nodes before the one that is visited are final; of those after it only how often they read a
    value is known. A value that nothing reads any more goes at once, so use counts are always true.
    """

    def __init__(self, graph: Graph, notes: Notes) -> None:
        self.graph = graph
        self.notes = notes
        self.nodes: dict[str, Node] = {}
        self.constants = dict(graph.constants)
        self.changed = False
        self.types = graph.types()
        self._renamed: dict[str, str] = {}
        self._uses = Counter(graph.outputs)
        for node in graph.nodes:
            self._uses.update(name for name in node.inputs if name is not None)

    def value(self, name: str) -> Value:
        """The value of a name that is defined so far."""
        return Value(name, self.types[name], self.nodes.get(name), self.constants.get(name))

    def is_read_once(self, name: str) -> bool:
        """Whether exactly one operand of one node, or one output, is this value."""
        return self._uses[name] == 1

    def visit(self, node: Node, rewrites: Sequence[Rewrite]) -> None:
        """Go on to `node`, and rewrite it as long as something fits.

        Raises:
            GraphError: something always fits.
        """
        if not self._uses[node.name]:
            self.changed = True
            self._release(self._resolve(node).inputs)
            return
        node = self._resolve(node)
        for _ in range(MAX_REWRITES):
            found = self._find(node, rewrites)
            if found is None:
                self.nodes[node.name] = node
                return
            self.changed = True
            self.notes.append(f"{node.name}: {found[1]}")
            result = self._replace(node, found[0])
            if isinstance(result, str):
                return
            node = result
        raise _endless(self.notes)

    def finish(self) -> Graph:
        """The graph as it is after the sweep."""
        outputs = tuple(self._renamed.get(name, name) for name in self.graph.outputs)
        return self.graph.with_nodes(
            list(self.nodes.values()), constants=self.constants, outputs=outputs
        )

    def type_of(self, operand: Operand) -> TensorType | None:
        """The type that a replacement will have.

        Raises:
            GraphError: it is not well formed.
        """
        match operand:
            case None:
                return None
            case str(name):
                return self.types[name]
            case Value(type=type):
                return type
            case NewConstant(value=array):
                return Constant(array).type
            case Call(op=op, operands=operands, attrs=attrs):
                return infer(op, [self.type_of(each) for each in operands], Attrs(attrs))
        raise GraphError(f"{operand!r} cannot be part of a replacement")

    def _resolve(self, node: Node) -> Node:
        inputs = tuple(name and self._renamed.get(name, name) for name in node.inputs)
        return node if inputs == node.inputs else replace(node, inputs=inputs)

    def _find(self, node: Node, rewrites: Sequence[Rewrite]) -> Replacement:
        for each in rewrites:
            found = each(self, node)
            if found is not None and self._fits(found[0], node):
                return found
        return None

    def _fits(self, operand: Operand, node: Node) -> bool:
        """Whether a replacement has the node's type. A rule looks at a pattern, and an op may still
        not take what it bound: a scale that is infinite, say.
        """
        try:
            return self.type_of(operand) == node.type
        except GraphError:
            return False

    def _replace(self, node: Node, operand: Operand) -> Node | str:
        """Put an operand in the place of `node`: the new node, or the name of an existing value."""
        placed: dict[int, str] = {}
        if isinstance(operand, Call):
            new = replace(self._make(operand, node.name, placed), name=node.name)
            self._release(node.inputs)
            return new
        name = self._place(operand, node.name, placed)
        if name is None:
            raise GraphError(f"{node.name} cannot be replaced by nothing")
        self._uses[name] += self._uses[node.name]
        self._renamed[node.name] = name
        self._release(node.inputs)
        return name

    def _place(self, operand: Operand, root: str, placed: dict[int, str]) -> str | None:
        match operand:
            case None | str():
                return operand
            case Value(name=name):
                return name
            case NewConstant(name=name, value=array):
                return self._place_constant(name, array)
            case Call():
                # One object used twice in a replacement is one node.
                if id(operand) not in placed:
                    node = self._make(operand, root, placed)
                    name = self._fresh(f"{root}.{operand.op}")
                    node = replace(node, name=name)
                    self.nodes[name], self.types[name] = node, node.type
                    placed[id(operand)] = name
                return placed[id(operand)]
        raise GraphError(f"{operand!r} cannot be part of a replacement")

    def _make(self, call: Call, root: str, placed: dict[int, str]) -> Node:
        inputs = tuple(self._place(operand, root, placed) for operand in call.operands)
        inputs = without_trailing_none(inputs)
        self._uses.update(name for name in inputs if name is not None)
        attrs = Attrs(call.attrs)
        operands = [None if name is None else self.types[name] for name in inputs]
        return Node(root, call.op, inputs, attrs, infer(call.op, operands, attrs))

    def _place_constant(self, name: str, array: np.ndarray) -> str:
        new = Constant(array)
        known = self.constants.get(name)
        if known is not None and known.type == new.type and np.array_equal(known.dense(), array):
            return name
        name = self._fresh(name)
        self.constants[name], self.types[name] = new, new.type
        return name

    def _fresh(self, name: str) -> str:
        tries = (name if count == 0 else f"{name}_{count}" for count in range(len(self.types) + 1))
        return next(each for each in tries if each not in self.types)

    def _release(self, names: Iterable[str | None]) -> None:
        for name in names:
            if name is None:
                continue
            self._uses[name] -= 1
            if not self._uses[name] and name in self.nodes:
                self._release(self.nodes.pop(name).inputs)
