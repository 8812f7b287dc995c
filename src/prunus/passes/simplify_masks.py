"""Reduces the prologue that builds an attention mask to what it comes to, element by element.

Transformers since release 5 build `[batch, 1, queries, keys]` booleans out of index vectors,
comparisons that are always true, and a look-up of the padding mask at every key, expanded over the
queries. All of it is one padding mask `[batch, 1, 1, keys]`, or none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from prunus.errors import GraphError
from prunus.ir import DTYPES, Graph, Node
from prunus.ir.types import broadcast_shapes
from prunus.passes.elements import Elements
from prunus.passes.fold_constants import new_number
from prunus.passes.pattern import Call, Operand, op
from prunus.passes.rewrite import Editor, Notes, Replacement, apply_rewrites
from prunus.passes.scalars import (
    ELEMENTWISE,
    Apply,
    Dim,
    Element,
    Index,
    Literal,
    Scalar,
    apply,
    describe,
    leaves,
)
from prunus.passes.share_equal import share_equal

BROADCASTING = ELEMENTWISE | {"power"}
"""Ops whose operands are all broadcast against each other."""


def simplify_masks(graph: Graph, notes: Notes) -> Graph:
    """Rebuild masks and ids from the expression of their elements, where that takes fewer nodes."""
    while (simplified := apply_rewrites(graph, (_Simplifier(),), notes)) is not graph:
        # Each reader rebuilt the mask for itself; that they are equal is not worth a note.
        graph = share_equal(simplified, [])
    return graph


class _Simplifier:
    """The rewrite of a node that reads a mask but is not itself part of one."""

    def __init__(self) -> None:
        self._edit: Editor | None = None

    def __call__(self, edit: Editor, node: Node) -> Replacement:
        if edit is not self._edit:
            self._edit = edit
            self._elements = Elements(edit.types, edit.constants, edit.nodes, edit.graph.limits)
        found = self._elements.of_node(node)
        if found is not None and _is_mask(found):
            return None  # its readers see through it
        mask = node.get("mask") if node.op == "attention" and len(node.inputs) == 4 else None
        if mask is not None:
            special = self._attention(edit, node, mask)
            if special is not None:
                return special
        for position, name in enumerate(node.inputs):
            if name is not None and name not in edit.constants:
                element = self._elements.of(name)
                built = self._rebuild(edit, name, element)
                if built is not None and _fits(edit, node, position, built):
                    return (
                        _with_operand(node, position, built),
                        f"each element of {name} is {describe(element)}",
                    )
        return None

    def _attention(self, edit: Editor, node: Node, mask: str) -> Replacement:
        """A mask that hides nothing is none; one of the past alone is what `causal` says."""
        element = self._elements.of(mask)
        if element.dtype != "bool":
            return None
        rank = edit.value(mask).type.rank
        parts = list(_conjuncts(element))
        others = [part for part in parts if not _is_causal(part, rank)]
        causal: bool = node.attrs.causal or len(others) < len(parts)
        rest: Scalar = Literal(True, "bool")
        for part in others:
            rest = apply("and", (rest, part), "bool")
        if rest == Literal(True, "bool"):
            why = "sees no later key, which is 'causal'" if causal else "hides nothing"
            return Call.like(node, {"causal": causal}, mask=None), f"the mask {mask} {why}"
        built = _Builder(edit, edit.value(mask).type.shape).build(rest)
        if built is None or len(others) == len(parts):
            return None
        return (
            Call.like(node, {"causal": causal}, mask=built.term),
            f"the mask {mask} is 'causal' and {describe(rest)}",
        )

    def _rebuild(self, edit: Editor, name: str, element: Scalar) -> _Built | None:
        """What computes the same elements in fewer nodes, with axes of length 1 for unused ones."""
        if (isinstance(element, Element) and element.value == name) or not _is_mask(element):
            return None
        built = _Builder(edit, edit.value(name).type.shape).build(element)
        if built is None:
            return None
        kept = {leaf.value for leaf in leaves(element)}
        return built if len(_calls(built.term)) < _count_nodes(edit, name, kept) else None


@dataclass(frozen=True, slots=True)
class _Built:
    """A term of a broadcasting shape; `inner` is what it is a reshape of, where it is one."""

    term: Operand
    shape: tuple[Dim, ...]
    inner: Operand = None


class _Builder:
    """Builds a tensor of `shape`, or of one that broadcasts to it, out of the expression of its
    elements: every part has the full rank, and length 1 along axes that it does not depend on,
    except for numbers.
    """

    def __init__(self, edit: Editor, shape: tuple[Dim, ...]) -> None:
        self._edit = edit
        self._shape = shape
        self._known: dict[Scalar, _Built | None] = {}

    def build(self, element: Scalar) -> _Built | None:
        """The tensor, or None where its look-ups would have to be computed."""
        if element not in self._known:
            self._known[element] = self._build(element)
        return self._known[element]

    def _build(self, element: Scalar) -> _Built | None:
        match element:
            case Literal(value=value, dtype=dtype):
                return _Built(new_number(value, dtype), ())
            case Index(axis=axis, extent=extent):
                term = op.arange(length=extent, dtype="i64")
                return self._lift(term, (extent,), (axis,))
            case Element():
                return self._look_up(element)
            case Apply(op=name, operands=operands, dtype=dtype):
                return self._apply(name, [self.build(each) for each in operands], dtype)

    def _apply(self, name: str, operands: list[_Built | None], dtype: str) -> _Built | None:
        built = [each for each in operands if each is not None]
        if len(built) < len(operands):
            return None
        attrs = {"dtype": dtype} if name == "cast" else {}
        if len(built) == 1 and built[0].inner is not None:
            # A reshape goes last, so that the op itself works on what the model was given.
            inner = Call(name, (built[0].inner,), attrs)
            return _Built(op.reshape(inner, shape=built[0].shape), built[0].shape, inner)
        shape = broadcast_shapes(*(each.shape for each in built))
        return _Built(Call(name, tuple(each.term for each in built), attrs), shape)

    def _look_up(self, element: Element) -> _Built | None:
        """An opaque value at fixed indices and at the result's, as they come."""
        value = self._edit.value(element.value)
        term: Operand = value
        shape = list(value.type.shape)
        axes: list[int] = []
        for position in reversed(range(len(shape))):
            match element.at[position]:
                case Index(axis=axis, extent=extent) if extent == shape[position]:
                    axes.insert(0, axis)
                case Literal() if shape[position] == 1:
                    continue
                case Literal(value=int(fixed)):
                    term = op.select(term, axis=position, index=fixed)
                    del shape[position]
                case _:
                    return None
        # An axis that comes twice, or before an earlier one, would take more than a reshape.
        return self._lift(term, tuple(shape), axes) if axes == sorted(set(axes)) else None

    def _lift(self, term: Operand, shape: tuple[Dim, ...], axes: Sequence[int]) -> _Built:
        """The term at full rank, its axes (other than those of length 1) at the given places."""
        target = tuple(dim if axis in axes else 1 for axis, dim in enumerate(self._shape))
        if shape == target:
            return _Built(term, target)
        return _Built(op.reshape(term, shape=target), target, term)


def _is_mask(element: Scalar) -> bool:
    """Whether it depends on integers and booleans only: on masks, ids and indices."""
    return all(DTYPES[leaf.dtype].kind != "f" for leaf in leaves(element))


def _conjuncts(element: Scalar) -> Iterator[Scalar]:
    match element:
        case Apply(op="and", operands=operands):
            for operand in operands:
                yield from _conjuncts(operand)
        case _:
            yield element


def _is_causal(element: Scalar, rank: int) -> bool:
    """Whether it says that the key (the last axis) comes no later than the query (before it)."""
    match element:
        case Apply(op="greater_equal", operands=(Index(axis=query), Index(axis=key))):
            return (query, key) == (rank - 2, rank - 1)
    return False


def _with_operand(node: Node, position: int, built: _Built) -> Call:
    operands: list[Operand] = list(node.inputs)
    operands[position] = built.term
    return Call(node.op, tuple(operands), node.attrs)


def _fits(edit: Editor, node: Node, position: int, built: _Built) -> bool:
    """Whether the reader computes the same with the new operand.

    Only some operands are broadcast; a sum over an axis, say, needs the axis at its full length.
    """
    is_broadcast = node.op in BROADCASTING or (node.op, position) == ("attention", 3)
    if not is_broadcast and not (node.op == "embedding" and position % 2):
        return edit.type_of(built.term) == edit.type_of(node.inputs[position])
    try:
        return edit.type_of(_with_operand(node, position, built)) == node.type
    except GraphError:
        return False


def _calls(term: Operand) -> dict[int, Call]:
    """The nodes that a term will be; a part that occurs twice is one."""
    if not isinstance(term, Call):
        return {}
    found = {id(term): term}
    for operand in term.operands:
        found |= _calls(operand)
    return found


def _count_nodes(edit: Editor, name: str, kept: set[str]) -> int:
    """The number of nodes that compute a value out of the values that are kept."""
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        node = edit.nodes.get(waiting.pop())
        if node is not None and node.name not in seen | kept:
            seen.add(node.name)
            waiting += [each for each in node.inputs if each is not None]
    return len(seen)
