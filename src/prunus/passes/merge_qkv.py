"""Computes queries, keys and values by one linear layer."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from prunus.ir import Graph, Node
from prunus.passes.heads import ROLES
from prunus.passes.pattern import Call, NewConstant, Value, op
from prunus.passes.rewrite import Editor, Notes, Replacement, apply_rewrites

MERGED = len(ROLES)
"""Queries, keys and values."""


def merge_qkv(graph: Graph, notes: Notes) -> Graph:
    """Let one matrix product do what three do: it reads its input once and is large."""
    return apply_rewrites(graph, (merge,), notes)


def merge(edit: Editor, node: Node) -> Replacement:
    """Attention whose three operands are plain linear layers of one value."""
    if node.op != "attention":
        return None
    roles = {role: edit.value(node[role]) for role in ROLES}
    layers = [layer for value in roles.values() if (layer := _plain_linear(value)) is not None]
    if len({layer.name for layer in layers}) < MERGED:
        return None
    x = layers[0]["x"]
    if any(layer["x"] != x or not edit.is_read_once(layer.name) for layer in layers):
        return None
    weights = [edit.value(layer["weight"]) for layer in layers]
    biases = [None if (name := layer.get("bias")) is None else edit.value(name) for layer in layers]
    if any(weight.constant is None for weight in weights) or not all(
        bias is None or bias.constant is not None for bias in biases
    ):
        return None
    merged = op.linear(x, _concatenate(weights), _concatenate_biases(biases, weights),
                       activation="none")  # fmt: skip
    slices = _slices(merged, weights, axis=layers[0].type.rank - 1)
    call = Call.like(node, **dict(zip(roles, slices, strict=True)))
    return call, f"{', '.join(layer.name for layer in layers)} read {x} and are one layer"


def merged_name(names: list[str]) -> str:
    """`layer.0.query+key+value.weight` for three names that differ in one part."""
    parts = [name.split(".") for name in names]
    if len({len(each) for each in parts}) > 1:
        return "+".join(names)
    columns = zip(*parts, strict=True)
    return ".".join(c[0] if len(set(c)) == 1 else "+".join(c) for c in columns)


def merged_names(name: str) -> tuple[str, ...]:
    """The three names behind a `merged_name`, or the one name that never was merged."""
    parts = [part.split("+") for part in name.split(".")]
    sizes = {len(part) for part in parts}
    if MERGED in sizes and sizes <= {1, MERGED}:
        return tuple(".".join(part[i % len(part)] for part in parts) for i in range(MERGED))
    whole = tuple(name.split("+"))
    return whole if len(whole) == MERGED else (name,)


def _plain_linear(value: Value) -> Node | None:
    """The layer that computes a value and does nothing besides."""
    node = value.node
    if node is None or node.op != "linear" or node.attrs.activation != "none":
        return None
    return None if node.get("residual") is not None else node


def _concatenate(weights: list[Value]) -> NewConstant:
    arrays = [weight.constant.dense() for weight in weights if weight.constant is not None]
    return NewConstant(merged_name([weight.name for weight in weights]), np.concatenate(arrays))


def _concatenate_biases(biases: list[Value | None], weights: list[Value]) -> NewConstant | None:
    """The biases one after the other, zeros for one that is missing; None if all are."""
    if not any(biases):
        return None
    arrays = [
        np.zeros(weight.type.sizes({})[0], np.float32)
        if bias is None or bias.constant is None
        else bias.constant.dense()
        for bias, weight in zip(biases, weights, strict=True)
    ]
    return NewConstant(merged_name([bias.name for bias in biases if bias]), np.concatenate(arrays))


def _slices(merged: Call, weights: list[Value], axis: int) -> list[Call]:
    """The parts of the merged layer's outputs, along the last axis."""
    starts = np.cumsum([0, *(weight.type.sizes({})[0] for weight in weights)]).tolist()
    return [
        op.slice(merged, axis=axis, start=start, stop=stop, step=1)
        for start, stop in pairwise(starts)
    ]
