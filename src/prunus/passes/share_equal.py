"""Computes equal things once: common subexpressions."""

from __future__ import annotations

from prunus.identity import identity
from prunus.ir import Graph, Node
from prunus.passes.rewrite import Editor, Notes, Replacement, apply_rewrites


def share_equal(graph: Graph, notes: Notes) -> Graph:
    """Let nodes of equal op, operands and attributes be one node."""
    first: dict[tuple[object, ...], str] = {}

    def share(edit: Editor, node: Node) -> Replacement:
        # Attributes are compared as text: 1, 1.0 and True are equal to Python, but not here.
        key = (node.op, node.inputs, identity(node.attrs), node.type)
        known = first.get(key)
        if known is None or known not in edit.nodes:
            first[key] = node.name
            return None
        return edit.value(known), f"computes what {known} has computed already"

    return apply_rewrites(graph, (share,), notes)
