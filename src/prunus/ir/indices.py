"""Which inputs of a graph are indices of tables, and what they may hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from prunus.errors import InputError
from prunus.ir.graph import Graph, Node
from prunus.ir.rules import pairs

VIEWS = frozenset({"reshape", "expand", "permute", "cast"})
"""Ops whose result has every element of the operand."""


def index_limits(graph: Graph) -> dict[str, int]:
    """The number of values that each input which is an index may hold: 0 up to it, exclusively.

    It is the size of the smallest table, or other axis, that is read by the input as it is given.
    """
    names = {name: name for name in graph.inputs}
    types = graph.types()
    limits: dict[str, int] = {}
    for node in graph.nodes:
        if node.op in VIEWS and node.type.dtype in ("i32", "i64") and node["x"] in names:
            names[node.name] = names[node["x"]]
        for table, axis, index in _look_ups(node):
            size = types[table].shape[axis]
            if index in names and isinstance(size, int):
                limits[names[index]] = min(size, limits.get(names[index], size))
    return limits


def check_indices(limits: Mapping[str, int], inputs: Mapping[str, np.ndarray]) -> None:
    """Refuse an input that holds an index outside its table.

    Raises:
        InputError: there is one.
    """
    for name, limit in limits.items():
        array = inputs[name]
        if array.size and (array.min() < 0 or array.max() >= limit):
            wrong = int(array.min()) if array.min() < 0 else int(array.max())
            advice = (
                "is this the tokenizer of the model?"
                if name == "input_ids"
                else f"pass values from 0 to {limit - 1}: negative ones do not count from the end"
            )
            raise InputError(
                f"{name} holds the id {wrong}, but its embedding table has the ids 0 to "
                f"{limit - 1}; {advice}"
            )


def _look_ups(node: Node) -> Iterator[tuple[str, int, str]]:
    """The tables that a node reads: each with the axis that is indexed, and the index."""
    match node.op:
        case "embedding":
            found = [(table, 0, ids) for table, ids in zip(*pairs(node.inputs), strict=True)]
        case "gather":
            found = [(node["x"], node.attrs.axis, node["index"])]
        case "index":
            found = [(node["x"], axis, ids) for axis, ids in enumerate(node.inputs[1:])]
        case _:
            return
    for table, axis, index in found:
        if table is not None and index is not None:
            yield table, axis, index
