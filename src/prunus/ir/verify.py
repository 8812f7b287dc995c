"""Checks that a graph is well formed: every pass must leave it so, and every loaded graph must be
so.
"""

from __future__ import annotations

import re

from prunus.errors import GraphError
from prunus.ir.dims import Expr, symbols
from prunus.ir.graph import Graph, Node
from prunus.ir.ops import infer
from prunus.ir.text import NAME, node_text
from prunus.ir.types import TensorType


def verify(graph: Graph) -> Graph:
    """The graph itself, if names are unique, operands defined before use, types what the table
    says, and all symbols sizes of inputs.

    Raises:
        GraphError: with the line that is wrong.
    """
    types: dict[str, TensorType] = {}
    known = _input_symbols(graph)
    for name, type in graph.inputs.items():
        _define(types, name, type, known)
    for name, constant in graph.constants.items():
        _define(types, name, constant.type, frozenset())
    for node in graph.nodes:
        _verify_node(node, types)
        _define(types, node.name, node.type, known)
    if not graph.outputs:
        raise GraphError("the graph has no outputs")
    for name in graph.outputs:
        if name not in types:
            raise GraphError(f"the output {name!r} is never computed")
    for name, size in graph.limits.items():
        if size < 1:
            raise GraphError(f"limit {name} = {size}: a size has a limit of at least 1")
    return graph


def _input_symbols(graph: Graph) -> frozenset[str]:
    """The symbols whose sizes are read off the inputs. A dimension that is more than a symbol must
    be made of those that stand alone in an input before it.
    """
    known: set[str] = set()
    for name, type in graph.inputs.items():
        for dim in type.shape:
            if isinstance(dim, Expr):
                if dim.is_symbol:
                    known |= symbols(dim)
                elif not symbols(dim) <= known:
                    raise GraphError(f"no input before {name}: {type} gives the size of {dim}")
    return frozenset(known)


def _define(
    types: dict[str, TensorType], name: str, type: TensorType, symbols: frozenset[str]
) -> None:
    if name in types:
        raise GraphError(f"the name {name!r} is given twice")
    if name == "_" or not re.fullmatch(NAME, name):
        raise GraphError(f"{name[:60]!r} cannot be the name of a value")
    if unknown := type.symbols() - symbols:
        raise GraphError(f"{name} has the type {type}, but no input has a size {min(unknown)}")
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
    if inferred != node.type:
        raise GraphError(f"the type should be {inferred}: {node_text(node)}")
