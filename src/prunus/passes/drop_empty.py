"""Removes what pruning left empty: rows and columns of layers, heads, and whole branches.

An empty row of a weight still sends a number on, act(bias), and an empty head the bias of its
values. Such constants are folded into the bias of the layer that reads them, in float64, and
rounded once, so answers stay what they were. The hidden size and the outputs keep their widths.

One thing changes. Where padding hides every key that a query may see, attention gives 0, but the
bias of a removed head's values is added all the same. That happens in a sequence of nothing but
padding, and before a sequence's first token if attention is causal: at padding, where answers mean
nothing.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np

from prunus.ir import DTYPES, Graph, Node
from prunus.ir.graph import operand_position
from prunus.passes.constant_features import (
    Row,
    constant_features,
    constant_row,
    empty_lines,
    layer_features,
)
from prunus.passes.feature_parts import parameters, part_of, reduced_name, with_old_names
from prunus.passes.pattern import Call, NewConstant, Operand, op
from prunus.passes.rewrite import Editor, Notes, Replacement, apply_rewrites


def drop_empty(graph: Graph, notes: Notes) -> Graph:
    """Take out what is empty, and fold what it contributed into the biases behind it."""
    rules = _Rules()
    rewrites = (rules.constant_value, rules.constant_branch, constant_residual, constant_addend,
                rules.fewer_inputs)  # fmt: skip
    result = apply_rewrites(graph, rewrites, notes)
    if result is graph:
        return graph
    removed = graph.removed + _linear_weights(graph) - _linear_weights(result)
    return replace(with_old_names(result, graph), removed=removed)


def _linear_weights(graph: Graph) -> int:
    """How many weights the linear layers have, one that several layers share counted once."""
    names = {node["weight"] for node in graph.nodes if node.op == "linear"}
    shapes = (graph.constants[name].type.sizes({}) for name in names & graph.constants.keys())
    return sum(outputs * inputs for outputs, inputs in shapes)


class _Rules:
    """The rewrites that look up, again and again, what is empty or constant in a graph."""

    def __init__(self) -> None:
        self.empty = cache(empty_lines)
        self.rows = cache(lambda graph: constant_features(graph, self.empty))
        self.users = cache(Graph.users)

    def constant_value(self, edit: Editor, node: Node) -> Replacement:
        """A value of which no feature varies is one row for all tokens."""
        row = self.rows(edit.graph).get(node.name)
        if row is None or not np.isfinite(row).all() or node.op == "expand":
            return None
        for reader in self.users(edit.graph).get(node.name, ()):
            # Queries and keys that are all alike still have to be there, and a layer without
            # nonzeros makes them cheaply.
            if reader.op == "attention" and node.name in (reader["query"], reader["key"]):
                return None
        return _for_all_tokens(node, row), "no input reaches it: one row for all tokens"

    def constant_branch(self, edit: Editor, node: Node) -> Replacement:
        """A layer of which no feature varies adds one row to its residual."""
        residual = node.get("residual") if node.op == "linear" else None
        if residual is None:
            return None
        x = self.rows(edit.graph).get(node["x"])
        row = layer_features(node, x, edit.constants, self.empty)
        if row is None or not np.isfinite(row).all():
            return None
        total = op.add(residual, _for_all_tokens(node, row))
        return total, f"it adds one row for all tokens to {residual}"

    def fewer_inputs(self, edit: Editor, node: Node) -> Replacement:
        """A layer need not read what is constant, nor what meets an empty column."""
        named = parameters(edit, node) if node.op == "linear" else None
        if named is None:
            return None
        weight, bias = named
        x, (_, unread) = edit.value(node["x"]), self.empty(edit.constants[weight])
        row = self.rows(edit.graph).get(x.name, np.full(unread.size, np.nan))
        dead = unread | np.isfinite(row)
        # If all are dead, the layer itself is constant, which is another rule's affair.
        part = part_of(edit, x, ~dead) if dead.any() and not dead.all() else None
        if part is None or part.kept.all():
            return None
        array, folded = edit.constants[weight].dense(), ~part.kept & ~unread
        added = array[:, folded].astype(np.float64) @ row[folded]
        layer = Call.like(
            node,
            x=part.value,
            weight=NewConstant(reduced_name(weight), array[:, part.kept]),
            bias=_raised(edit, node, bias, added) if added.any() else bias,
        )
        counts = {
            f"for empty columns of {weight}": np.count_nonzero(~part.kept & unread),
            "constant and in the bias now": np.count_nonzero(folded),
        }
        why = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
        return layer, f"{part.gone} are gone: {why}"


def constant_residual(edit: Editor, node: Node) -> Replacement:
    """A residual that is one row for all tokens goes into the bias."""
    residual = node.get("residual") if node.op == "linear" else None
    row = _row_for_all_tokens(edit, residual)
    if row is None:
        return None
    layer = replace(node, inputs=node.inputs[: operand_position("linear", "residual")])
    total = _plus(edit, node, Call.like(layer), layer, row)
    return total, f"{residual} is added as one row for all tokens"


def constant_addend(edit: Editor, node: Node) -> Replacement:
    """One row for all tokens goes into the bias of what makes the other addend."""
    for name, other in (node.inputs, node.inputs[::-1]) if node.op == "add" else ():
        row = _row_for_all_tokens(edit, name)
        if row is not None:
            x = edit.value(str(other))
            total = _plus(edit, node, x, x.node if edit.is_read_once(x.name) else None, row)
            return total, f"{name} is added as one row for all tokens"
    return None


def _plus(edit: Editor, node: Node, x: Operand, maker: Node | None, row: Row) -> Operand:
    """`x` and a row, which its maker adds if it ends with a bias."""
    if not row.any():
        return x
    if maker is not None and maker.op in ("linear", "layer_norm"):
        added = "bias" if maker.op == "linear" else "beta"
        bias, activation = maker.get(added), maker.attrs.get("activation", "none")
        if activation == "none" and (bias is None or bias in edit.constants):
            return Call.like(maker, **{added: _raised(edit, node, bias, row)})
    return op.add(x, _constant(node, row))


def _raised(edit: Editor, node: Node, bias: str | None, row: Row) -> NewConstant:
    """A bias plus a row, rounded once."""
    if bias is None:
        return _constant(node, row)
    total = edit.constants[bias].dense() + row
    return NewConstant(reduced_name(bias), total.astype(DTYPES[node.type.dtype]))


def _constant(node: Node, row: Row) -> NewConstant:
    return NewConstant(f"{node.name}.constant", row.astype(DTYPES[node.type.dtype]))


def _for_all_tokens(node: Node, row: Row) -> Call:
    """A row in the shape of a node's value."""
    return op.expand(_constant(node, row), shape=node.type.shape)


def _row_for_all_tokens(edit: Editor, name: str | None) -> Row | None:
    """The row, if that is what a value is."""
    node = edit.nodes.get(str(name))
    source = edit.constants.get(node["x"]) if node and node.op == "expand" else None
    row = constant_row(source) if source else None
    return row if node and row is not None and row.size == node.type.shape[-1] else None
