"""Some features of a value, computed without the others: layers with fewer rows, attention with
fewer heads, and what stands behind them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from prunus.ir import Graph, Node
from prunus.passes.constant_features import BINARY, UNARY, constant_row
from prunus.passes.heads import layer_behind
from prunus.passes.pattern import Call, NewConstant, Operand, Value, op
from prunus.passes.rewrite import Editor

REDUCED = ":reduced"
"""Ends the name of a constant that takes the place of another, as long as that is there too."""

TABLES = ("key_table", "query_table")
"""The operands of attention that have a row for each head."""


class Part(NamedTuple):
    """A value without some of its features.

    Attributes:
        value: What computes it.
        kept: The features that it has, as a mask over those of the whole value.
        gone: What it leaves out, e.g. "4 of 12 heads of attention_0".
    """

    value: Operand
    kept: np.ndarray
    gone: str


def part_of(edit: Editor, x: Value, wanted: np.ndarray) -> Part | None:
    """The wanted features of a value, or a few more where whole heads decide.

    None where leaving out the others would save nothing, as something else reads the value too, or
    where something on the way mixes features.
    """
    node = x.node
    if node is None or not edit.is_read_once(x.name):
        return None
    if node.op == "attention":
        return _attention(edit, node, wanted)
    if node.op in UNARY:
        part = part_of(edit, edit.value(node["x"]), wanted)
        return part and part._replace(value=Call(node.op, (part.value,), node.attrs))
    if node.op in BINARY:
        return _binary(edit, node, wanted)
    layers = _layers(edit, {x.name: wanted})
    gone = f"{np.count_nonzero(~wanted)} of {wanted.size} features of {x.name}"
    return None if layers is None else Part(layers[0], wanted, gone)


def parameters(edit: Editor, layer: Node) -> tuple[str, str | None] | None:
    """The names of a linear layer's weight and bias, if these are constants."""
    weight, bias = layer["weight"], layer.get("bias")
    if weight not in edit.constants or (bias is not None and bias not in edit.constants):
        return None
    return weight, bias


def reduced_name(name: str) -> str:
    """The name of what takes a constant's place."""
    return f"{name.partition(REDUCED)[0]}{REDUCED}"


def with_old_names(after: Graph, before: Graph) -> Graph:
    """The graph in which what has taken a place is called as what stood there, if that has gone."""
    names, taken = _by_place(after, before), set(after.types())
    for name in after.constants:
        replaced, mark, _ = name.partition(REDUCED)
        if mark and replaced not in taken:
            names[name] = replaced
            taken.add(replaced)
    nodes = [
        replace(
            node,
            name=names.get(node.name, node.name),
            inputs=tuple(name and names.get(name, name) for name in node.inputs),
        )
        for node in after.nodes
    ]
    constants = {names.get(name, name): constant for name, constant in after.constants.items()}
    outputs = tuple(names.get(name, name) for name in after.outputs)
    return after.with_nodes(nodes, constants=constants, outputs=outputs)


def _by_place(after: Graph, before: Graph) -> dict[str, str]:
    """For each new node that a known one reads where it read one of the same op: that one's name,
    if it is free.
    """
    new, old = after.producers(), before.producers()
    places = [(name, name) for name in new if name in old]
    names: dict[str, str] = {}
    while places:
        name, was = places.pop()
        node, stood = new[name], old[was]
        for name, was in zip(map(str, node.inputs), map(str, stood.inputs), strict=False):
            is_new = name in new and name not in old and name not in names
            is_free = was in old and was not in new and was not in names.values()
            if is_new and is_free and (node.op, new[name].op) == (stood.op, old[was].op):
                names[name] = was
                places.append((name, was))
    return names


def _binary(edit: Editor, node: Node, wanted: np.ndarray) -> Part | None:
    """An op on a value and a constant, which has a number for each feature or one for all."""
    left, right = edit.value(node["x"]), edit.value(node["y"])
    x, other = (left, right) if right.constant is not None else (right, left)
    if other.constant is None or constant_row(other.constant) is None:
        return None
    part = part_of(edit, x, wanted) if x.type.shape[-1:] == node.type.shape[-1:] else None
    if part is None:
        return None
    array = other.constant.dense()
    kept = NewConstant(reduced_name(other.name), array[..., part.kept]) if array.size > 1 else other
    operands = (part.value, kept) if x is left else (kept, part.value)
    return part._replace(value=Call(node.op, operands, node.attrs))


def _attention(edit: Editor, node: Node, wanted: np.ndarray) -> Part | None:
    """Attention without the heads of which no feature is wanted."""
    heads: int = node.attrs.heads
    live = np.asarray(wanted.reshape(heads, -1).any(axis=1))
    if live.all():
        return None
    features = {}
    for name in (node["query"], node["key"], node["value"]):
        width = edit.types[name].shape[-1]
        assert isinstance(width, int), "verified"
        features[name] = np.repeat(live, width // heads)
    projections = _layers(edit, features)
    if projections is None:
        return None
    mask, tables = node.get("mask"), {name: node.get(name) for name in TABLES}
    if any(table is not None and table not in edit.constants for table in tables.values()):
        return None
    count = int(np.count_nonzero(live))
    call = Call.like(
        node,
        {"heads": count},
        **dict(zip(("query", "key", "value"), projections, strict=True)),
        mask=None if mask is None else _mask_of_heads(edit.value(mask), live),
        **{name: _table_of_heads(edit, table, live) for name, table in tables.items()},
    )
    kept = np.repeat(live, wanted.size // heads)
    return Part(call, kept, f"{heads - count} of {heads} heads of {node.name}")


def _mask_of_heads(mask: Value, live: np.ndarray) -> Operand:
    """What the live heads need of a mask, which may be one for all."""
    axis = mask.type.rank - 3
    if axis < 0 or mask.type.shape[axis] == 1:
        return mask
    axes = list(range(mask.type.rank))
    axes[0], axes[axis] = axis, 0
    heads = NewConstant(f"{mask.name}.heads", np.flatnonzero(live))
    return op.permute(op.index(op.permute(mask, axes=tuple(axes)), heads), axes=tuple(axes))


def _table_of_heads(edit: Editor, table: str | None, live: np.ndarray) -> Operand:
    """A table of relative positions without the heads that go."""
    if table is None:
        return None
    return NewConstant(reduced_name(table), edit.constants[table].dense()[live])


def _layers(edit: Editor, wanted: Mapping[str, np.ndarray]) -> list[Operand] | None:
    """The wanted features of values that linear layers compute, each its own or one for several."""
    rows: dict[str, dict[str, np.ndarray]] = {}
    for name, features in wanted.items():
        found = layer_behind(name, edit.nodes)
        named = parameters(edit, found[0]) if found and edit.is_read_once(name) else None
        if found is None or named is None:
            return None
        every = np.arange(edit.types[named[0]].sizes({})[0])
        rows.setdefault(found[0].name, {})[name] = every[found[1]][features]
    parts: dict[str, Operand] = {}
    for name, rows_of in rows.items():
        readers = {user.name for user in edit.graph.users().get(name, ())}
        is_shared = name in edit.graph.outputs or readers != set(rows_of)
        layer = _with_rows(edit, edit.nodes[name], np.concatenate(list(rows_of.values())))
        if layer is None or (name not in rows_of and is_shared):
            return None
        if len(rows_of) == 1:
            parts.update(dict.fromkeys(rows_of, layer))
            continue
        ends = np.cumsum([0, *map(len, rows_of.values())]).tolist()
        axis = edit.types[name].rank - 1
        for part, (start, stop) in zip(rows_of, pairwise(ends), strict=True):
            parts[part] = op.slice(layer, axis=axis, start=start, stop=stop, step=1)
    return [parts[name] for name in wanted]


def _with_rows(edit: Editor, layer: Node, rows: np.ndarray) -> Call | None:
    """A linear layer with some rows of its weight; None if it has a residual."""
    found = parameters(edit, layer)
    if found is None or layer.get("residual") is not None:
        return None
    weight, bias = found
    array = edit.constants[weight].dense()
    if not np.isfinite(np.delete(array, rows, axis=0)).all():
        return None  # an error, which `sparsify` reports
    new_weight = NewConstant(reduced_name(weight), array[rows])
    new_bias = bias and NewConstant(reduced_name(bias), edit.constants[bias].dense()[rows])
    return Call.like(layer, weight=new_weight, bias=new_bias)
