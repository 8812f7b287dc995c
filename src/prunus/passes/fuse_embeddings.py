"""Makes a sum of embeddings one look-up."""

from __future__ import annotations

from prunus.ir import Graph
from prunus.passes.pattern import Value, op
from prunus.passes.rewrite import Notes, Replacement, apply_rewrites, rewrite


def fuse_embeddings(graph: Graph, notes: Notes) -> Graph:
    """Add word, position and token type embeddings while they are looked up."""
    return apply_rewrites(graph, (sum_of_embeddings,), notes)


@rewrite(op.add(op.embedding(...).named("left"), op.embedding(...).named("right")))
def sum_of_embeddings(left: Value, right: Value) -> Replacement:
    """Two embeddings that only their sum needs are one, over all tables; the ids broadcast."""
    if left.type.dtype != right.type.dtype or left.type.shape[-1] != right.type.shape[-1]:
        return None
    tables = (len(left.inputs) + len(right.inputs)) // 2
    call = op.embedding(*left.inputs, *right.inputs)
    return call, f"one look-up in {tables} tables, added as it goes"
