"""Which heads of each attention are empty: what a report says, and what could be removed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from prunus.ir import Graph, Node
from prunus.sparsity import empty_heads

ROLES = ("query", "key", "value")
"""Operands of attention."""


@dataclass(frozen=True, slots=True)
class HeadReport:
    """The empty heads of one attention.

    Attributes:
        attention: The node's name.
        heads: Number of heads.
        empty: For `query`, `key`, `value` and `output`, as far as each is a linear layer with a
            constant weight, the heads for which that weight has no nonzero.
    """

    attention: str
    heads: int
    empty: Mapping[str, tuple[int, ...]]

    @property
    def removable(self) -> tuple[int, ...]:
        """Heads that could go: the value's rows or the output's columns are empty.

        An empty query or key alone is not enough: it leaves an attention to all keys alike.
        """
        return tuple(sorted({*self.empty.get("value", ()), *self.empty.get("output", ())}))

    def describe(self) -> str:
        """One sentence, e.g. "2 of 12 heads do nothing (3, 7)"."""
        if not self.removable:
            return f"all {self.heads} heads work"
        names = ", ".join(map(str, self.removable))
        return f"{len(self.removable)} of {self.heads} heads do nothing ({names})"


def head_report(graph: Graph) -> tuple[HeadReport, ...]:
    """The empty heads of every attention of a graph, merged layers or not, in the graph's order."""
    producers, users = graph.producers(), graph.users()
    reports = []
    for node in graph.nodes:
        if node.op == "attention":
            weights = {role: _rows_behind(graph, node[role], producers) for role in ROLES}
            empty = {
                role: _indices(empty_heads(weight, node.attrs.heads, axis=0))
                for role, weight in weights.items()
                if weight is not None
            }
            readers = users.get(node.name, [])
            if len(readers) == 1 and (columns := _weight(graph, readers[0])) is not None:
                empty["output"] = _indices(empty_heads(columns, node.attrs.heads, axis=1))
            reports.append(HeadReport(node.name, node.attrs.heads, empty))
    return tuple(reports)


def layer_behind(value: str, producers: Mapping[str, Node]) -> tuple[Node, slice] | None:
    """The linear layer that computes a value, and which rows of its weight do.

    These are all rows, or those that a slice takes where queries, keys and values are one layer.
    """
    node = producers.get(value)
    if node is None or node.op == "linear":
        return None if node is None else (node, slice(None))
    rows = taken_features(node)
    layer = None if rows is None else producers.get(node["x"])
    return None if rows is None or layer is None or layer.op != "linear" else (layer, rows)


def taken_features(node: Node) -> slice | None:
    """What a slice takes of the last axis; None of another node, or if only a call tells."""
    if node.op != "slice" or node.attrs.axis not in (-1, node.type.rank - 1):
        return None
    ends: tuple[object, object] = node.attrs.start, node.attrs.stop
    return slice(*ends, node.attrs.step) if all(isinstance(end, int) for end in ends) else None


def _rows_behind(graph: Graph, value: str, producers: Mapping[str, Node]) -> np.ndarray | None:
    """The rows of the weight that compute a value."""
    found = layer_behind(value, producers)
    weight = None if found is None else _weight(graph, found[0])
    return None if found is None or weight is None else weight[found[1]]


def _weight(graph: Graph, node: Node) -> np.ndarray | None:
    constant = graph.constants.get(node["weight"]) if node.op == "linear" else None
    return None if constant is None else constant.dense()


def _indices(mask: np.ndarray) -> tuple[int, ...]:
    return tuple(np.flatnonzero(mask).tolist())
