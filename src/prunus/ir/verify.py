"""Checks that a graph is well formed: every pass must leave it so, and every loaded graph must be
so.
"""

from __future__ import annotations

from prunus.errors import GraphError
from prunus.ir.graph import Graph, Node
from prunus.ir.ops import OPS
from prunus.ir.text import node_text
from prunus.ir.types import TensorType


def infer(op: str, operands: list[TensorType | None], attrs: object) -> TensorType:
    """The type of `op` on operands of the given types.

    Raises:
        GraphError: the op is unknown, or does not take such operands.
    """
    if op not in OPS:
        raise GraphError(f"unknown op {op!r}; the op table has {', '.join(sorted(OPS))}")
    OPS[op].check_arity(operands)
    try:
        return OPS[op].type(attrs, *operands)
    except (AttributeError, TypeError, IndexError) as error:
        raise GraphError(f"{op} has bad attributes or operands: {error}") from error


def verify(graph: Graph) -> Graph:
    """The graph itself, if names are unique, operands defined before use, and types what the table
    says.

    Raises:
        GraphError: with the line that is wrong.
    """
    types: dict[str, TensorType] = dict(graph.inputs)
    for name, constant in graph.constants.items():
        _define(types, name, constant.type)
    for node in graph.nodes:
        _verify_node(node, types)
        _define(types, node.name, node.type)
    for name in graph.outputs:
        if name not in types:
            raise GraphError(f"the output {name!r} is never computed")
    return graph


def _define(types: dict[str, TensorType], name: str, type: TensorType) -> None:
    if name in types:
        raise GraphError(f"the name {name!r} is given twice")
    types[name] = type


def _verify_node(node: Node, types: dict[str, TensorType]) -> None:
    for name in node.inputs:
        if name is not None and name not in types:
            raise GraphError(f"{name!r} is used before it is computed: {node_text(node)}")
    operands = [None if name is None else types[name] for name in node.inputs]
    try:
        inferred = infer(node.op, operands, node.attrs)
    except GraphError as error:
        raise GraphError(f"{error}: {node_text(node)}") from error
    known = set(OPS[node.op].attrs)
    if set(node.attrs) != known:
        raise GraphError(f"{node.op} has the attributes {sorted(known)}: {node_text(node)}")
    if inferred != node.type:
        raise GraphError(f"the type should be {inferred}: {node_text(node)}")
