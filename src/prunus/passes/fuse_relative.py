"""Recognises attention whose scores have terms for relative positions, as DeBERTa writes it out.

The heads are joined with the batch, and the scores of head h, query i and key j are a sum of

    q_i · k_j,   (q_i · table)[index[i, j]],   (k_j · table)[index[j, i]]

each times a number, where the tables are projections of weights: constants. What is added or chosen
after that is the mask.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import dropwhile

import numpy as np

from prunus.ir import Graph, Node, product
from prunus.ir.rules import Shape
from prunus.passes.fold_constants import new_number
from prunus.passes.fuse_attention import fits_scores, join_heads, split_heads
from prunus.passes.pattern import NewConstant, Operand, Value, op
from prunus.passes.rewrite import Editor, Notes, Replacement, apply_rewrites
from prunus.runtime.packing import MASKED

SWAPPED = (0, 2, 1)
"""The order of axes that turns scores [batch · heads, queries, keys] over."""


def fuse_relative(graph: Graph, notes: Notes) -> Graph:
    """Make attention with relative positions one op, on joined heads."""
    return apply_rewrites(graph, (relative_attention,), notes)


@dataclass(frozen=True, slots=True)
class _Scaled:
    """A value behind numbers that it is multiplied with and an exchange of its last axes."""

    value: Value
    factor: float
    is_turned: bool


@dataclass(frozen=True, slots=True)
class _Positions:
    """A term for relative positions: `x` meets the table's rows that the index names.

    Attributes:
        x: Queries, or keys if the term is turned over.
        table: [heads, positions, width].
        index: What the index is computed from, of as many elements as `shape` has.
        shape: [tokens of x, the others].
        factor: That the term is multiplied with.
        is_turned: Whether the term's axes are [keys, queries].
    """

    x: Value
    table: np.ndarray
    index: Value
    shape: Shape
    factor: float
    is_turned: bool


@dataclass(frozen=True, slots=True)
class _Scores:
    """The scores' terms: queries [batch · heads, tokens, width], keys, the factor of their product,
    and positions.
    """

    q: Value
    k: Value
    factor: float
    positions: tuple[_Positions, ...]


def relative_attention(edit: Editor, node: Node) -> Replacement:
    """The product of a softmax with the values, both with heads joined to the batch."""
    if node.op != "matmul" or node.type.rank != 3:
        return None
    softmax = _unshaped(edit, edit.value(node["x"]))
    if not _is_softmax_of_heads(softmax) or not edit.is_read_once(softmax.name):
        return None
    batch, heads, queries, keys = softmax.type.shape
    assert isinstance(heads, int) and softmax.node is not None, "checked"
    chosen = _mask(edit, edit.value(softmax.node["x"]))
    found = None if chosen is None else _scores(edit, _unshaped(edit, chosen[0]), heads)
    if chosen is None or found is None:
        return None
    v = edit.value(node["y"])
    width, depth = found.q.type.shape[-1], v.type.shape[-1]
    lead = product((batch, heads))
    wanted = ((lead, queries, width), (lead, keys, width), (lead, keys, depth))
    if tuple(x.type.shape for x in (found.q, found.k, v)) != wanted:
        return None
    joined = [
        join_heads(op.reshape(x, shape=split), split)
        for x, split in (
            (found.q, (batch, heads, queries, width)),
            (found.k, (batch, heads, keys, width)),
            (v, (batch, heads, keys, depth)),
        )
    ]
    positions = _operands(node, found)
    if positions is None:
        return None
    attention = op.attention(
        *joined, chosen[1], *positions, heads=heads, scale=found.factor, causal=False
    )
    split = split_heads(attention, (batch, heads, queries, depth))
    terms = len(found.positions)
    why = f"attention with {heads} heads, and {terms} terms for relative positions in its scores"
    return op.reshape(split, shape=node.type.shape), why


def _is_softmax_of_heads(value: Value) -> bool:
    node, shape = value.node, value.type.shape
    is_softmax = node is not None and node.op == "softmax" and node.attrs.axis in (-1, 3)
    return is_softmax and len(shape) == 4 and isinstance(shape[1], int)


def _unshaped(edit: Editor, value: Value) -> Value:
    """What a value is a reshape of."""
    while value.node is not None and value.node.op == "reshape" and edit.is_read_once(value.name):
        value = edit.value(value.node["x"])
    return value


def _mask(edit: Editor, scores: Value) -> tuple[Value, Operand] | None:
    """Scores as they were before they were masked, and the mask that attention takes.

    To put the least float in the place of a score is to add it: the score is less than its last
    digit. None where a score is replaced by anything that is not as low.
    """
    node = scores.node
    if node is None or node.op != "where" or not edit.is_read_once(scores.name):
        return scores, None
    condition, yes, no = (edit.value(str(name)) for name in node.inputs)
    if condition.number is not None:
        return (yes if condition.number else no), None
    if not fits_scores(condition, scores.type.shape):
        return None
    none = new_number(0.0, "f32")
    if no.number is not None and no.number < MASKED and yes.type == scores.type:
        return yes, op.where(condition, none, new_number(no.number, "f32"))
    if yes.number is not None and yes.number < MASKED and no.type == scores.type:
        return no, op.where(condition, new_number(yes.number, "f32"), none)
    return None


def _scores(edit: Editor, total: Value, heads: int) -> _Scores | None:
    """The terms of the scores, one of which is q·kᵀ; None where one is something else."""
    products, positions = [], []
    for term in _addends(edit, total):
        scaled = _scaled(edit, term)
        if scaled.value.node is not None and scaled.value.node.op == "matmul":
            products.append(scaled)
        else:
            found = _positions(edit, scaled, heads)
            if found is None:
                return None
            positions.append(found)
    if len(products) != 1 or products[0].is_turned or not positions:
        return None
    left, right = (_scaled(edit, edit.value(str(name))) for name in products[0].value.inputs)
    if left.is_turned or not right.is_turned:
        return None
    factor = products[0].factor * left.factor * right.factor
    queries = [(left.value.name, False), (right.value.name, True)]
    if any((p.x.name, p.is_turned) not in queries for p in positions):
        return None
    return _Scores(left.value, right.value, factor, tuple(positions))


def _addends(edit: Editor, total: Value) -> Iterator[Value]:
    """The terms of a sum, none of which is broadcast."""
    node = total.node
    if node is not None and node.op == "add" and edit.is_read_once(total.name):
        terms = [edit.value(str(name)) for name in node.inputs]
        if all(term.type == total.type for term in terms):
            for term in terms:
                yield from _addends(edit, term)
            return
    yield total


def _scaled(edit: Editor, value: Value) -> _Scaled:
    """A value without the numbers and the exchange of axes around it."""
    factor, is_turned = 1.0, False
    while (node := value.node) is not None:
        if node.op == "permute" and node.attrs.axes == SWAPPED:
            is_turned = not is_turned
        elif node.op in ("multiply", "divide"):
            by = edit.value(node["y"]).number
            if not by or edit.types[node["x"]] != value.type:
                break
            factor = factor * by if node.op == "multiply" else factor / by
        else:
            break
        value = edit.value(node["x"])
    return _Scaled(value, factor, is_turned)


def _positions(edit: Editor, term: _Scaled, heads: int) -> _Positions | None:
    """A term that gathers from products with a table."""
    node = term.value.node
    if node is None or node.op != "gather" or node.attrs.axis not in (-1, 2):
        return None
    products, index = (edit.value(str(name)) for name in node.inputs)
    inner = _scaled(edit, products)
    if inner.is_turned or inner.value.node is None or inner.value.node.op != "matmul":
        return None
    x, other = (_scaled(edit, edit.value(str(name))) for name in inner.value.inputs)
    table = _table(edit, other, heads)
    shape = index.type.shape[1:]
    shared = _repeated(edit, index, shape)
    if x.is_turned or table is None or shared is None:
        return None
    factor = term.factor * inner.factor * x.factor * other.factor
    return _Positions(x.value, table, shared, shape, factor, term.is_turned)


def _table(edit: Editor, operand: _Scaled, heads: int) -> np.ndarray | None:
    """The constant [heads, positions, width] that is repeated for each sequence of the batch and
    then turned over.
    """
    _, rows, width = operand.value.type.shape
    if not (operand.is_turned and isinstance(rows, int) and isinstance(width, int)):
        return None
    source = _repeated(edit, operand.value, (heads, rows, width))
    if source is None or source.constant is None:
        return None
    return source.constant.dense().reshape(heads, rows, width)


def _repeated(edit: Editor, value: Value, shape: Shape) -> Value | None:
    """What `value` is whole repetitions of, one after the other in memory: as many elements as
    `shape` has.
    """
    while product(value.type.shape) != product(shape):
        node = value.node
        if node is None or node.op not in ("reshape", "expand"):
            return None
        source = edit.value(node["x"])
        if node.op == "expand" and not _repeats_in_front(source.type.shape, value.type.shape):
            return None
        value = source
    return value


def _repeats_in_front(before: Shape, after: Shape) -> bool:
    """Whether an expansion leaves every axis as it is from the first longer than 1 on."""
    inner = list(dropwhile(lambda dim: dim == 1, before))
    return list(after[len(after) - len(inner) :]) == inner


def _operands(node: Node, found: _Scores) -> list[Operand] | None:
    """Tables and indices as attention takes them; None where two terms are of one kind."""
    operands: list[Operand] = [None] * 4
    for term in found.positions:
        at, kind = (2, "query") if term.is_turned else (0, "key")
        if operands[at] is not None:
            return None
        scaled = term.table * np.float64(term.factor / found.factor)
        operands[at] = NewConstant(f"{node.name}.{kind}_table", scaled.astype(np.float32))
        index = op.reshape(term.index, shape=term.shape)
        operands[at + 1] = op.permute(index, axes=(1, 0)) if term.is_turned else index
    return operands
