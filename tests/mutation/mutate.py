"""Changes a graph in one to three places, as an attacker or a faulty front end might."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from prunus.errors import GraphError
from prunus.ir import DTYPES, OPS, Attrs, Constant, Graph, Node, TensorType, infer, symbol
from prunus.ir.attributes import (
    ACTIVATION,
    ACTIVATIONS,
    AXES,
    AXIS,
    COUNT,
    DIM,
    DTYPE,
    EPSILON,
    FINITE,
    FLAG,
    INDEX,
    NUMBER,
    SHAPE,
    Kind,
)
from prunus.ir.dims import FloorDiv
from prunus.sparsity import BlockSparse
from tests.mutation.seeds import random_array

Mutation = Callable[[Graph, random.Random], Graph]

NUMBERS = (0, 1, 2, 3, 4, 5, 8, 9, 16, 17, 64, -1, -2, 1000, 1 << 31, 1 << 40, (1 << 62) - 1)
NONSENSE: tuple[Any, ...] = (None, "x", 0.5, True, (), (1,), -7, float("nan"), float("inf"))


def mutated(graph: Graph, source: random.Random) -> Graph:
    """The graph with some changes. Most often the types behind them are made to fit, so that they
    get past the verifier; where they cannot, it has to find that.
    """
    for _ in range(source.choice((1, 1, 2, 3))):
        graph = source.choice(MUTATIONS)(graph, source)
    return repaired(graph, source) if source.random() < 0.9 else graph


def repaired(graph: Graph, source: random.Random) -> Graph:
    """The graph with types that follow from its operands; a node that has none is left out, and
    its readers get another value.
    """
    types = dict(graph.inputs) | {name: each.type for name, each in graph.constants.items()}
    instead: dict[str, str] = {}
    nodes = []
    for node in graph.nodes:
        inputs = tuple(name and instead.get(name, name) for name in node.inputs)
        try:
            operands = [None if name is None else types[name] for name in inputs]
            type = infer(node.op, operands, node.attrs)
        except (GraphError, KeyError):
            alike = [name for name, type in types.items() if type == node.type]
            instead[node.name] = source.choice(alike or list(types))
            continue
        types[node.name] = type
        nodes.append(replace(node, inputs=inputs, type=type))
    outputs = tuple(instead.get(name, name) for name in graph.outputs)
    return replace(graph, nodes=tuple(nodes), outputs=outputs)


# Mutations


def change_attribute(graph: Graph, source: random.Random) -> Graph:
    """Another value of the same kind, or one of no kind."""
    found = _pick(graph, source, lambda node: bool(node.attrs))
    if found is None:
        return graph
    position, node = found
    name = source.choice(list(node.attrs))
    if source.random() < 0.1:
        value = source.choice(NONSENSE)
    else:
        value = random_attribute(OPS[node.op].attrs[name], graph, source, node.attrs[name])
    return _replaced(graph, position, attrs=Attrs({**node.attrs, name: value}))


def change_operand(graph: Graph, source: random.Random) -> Graph:
    """Another value in place of an operand, or none."""
    found = _pick(graph, source, lambda node: bool(node.inputs))
    if found is None:
        return graph
    position, node = found
    inputs = list(node.inputs)
    at = source.randrange(len(inputs))
    inputs[at] = None if source.random() < 0.1 else source.choice(_values(graph, position))
    return _replaced(graph, position, inputs=tuple(inputs))


def change_arity(graph: Graph, source: random.Random) -> Graph:
    """One operand more, or one less."""
    found = _pick(graph, source)
    if found is None:
        return graph
    position, node = found
    if source.random() < 0.5:
        return _replaced(graph, position, inputs=node.inputs[:-1])
    more = source.choice([None, *_values(graph, position)])
    return _replaced(graph, position, inputs=(*node.inputs, more))


def change_op(graph: Graph, source: random.Random) -> Graph:
    """Another op on the same operands, most often one with the same attributes."""
    found = _pick(graph, source)
    if found is None:
        return graph
    position, node = found
    alike = [op for op in OPS if OPS[op].attrs.keys() == node.attrs.keys()]
    if source.random() < 0.7:
        return _replaced(graph, position, op=source.choice(alike or sorted(OPS)))
    op = source.choice(sorted(OPS))
    return _replaced(graph, position, op=op, attrs=_random_attributes(op, graph, source))


def insert_node(graph: Graph, source: random.Random) -> Graph:
    """A random op on values that are there, read by a later node or an output."""
    position = source.randrange(len(graph.nodes) + 1)
    values = _values(graph, position)
    op = source.choice(sorted(OPS))
    count = max(len([name for name in OPS[op].inputs if name[-1] != "?"]), 0)
    near = values[-4:] if source.random() < 0.6 else values
    inputs = tuple(source.choice(near) for _ in range(count))
    attrs = _random_attributes(op, graph, source)
    types = graph.types()
    try:
        type = infer(op, [types[name] for name in inputs], attrs)
    except GraphError:
        type = source.choice(list(types.values()))
    node = Node(f"new{len(graph.nodes)}", op, inputs, attrs, type)
    nodes = (*graph.nodes[:position], node, *graph.nodes[position:])
    graph = replace(graph, nodes=nodes)
    readers = [i for i in range(position + 1, len(nodes)) if nodes[i].inputs]
    if readers and source.random() < 0.6:
        reader = source.choice(readers)
        inputs_of_reader = list(nodes[reader].inputs)
        inputs_of_reader[source.randrange(len(inputs_of_reader))] = node.name
        return _replaced(graph, reader, inputs=tuple(inputs_of_reader))
    return replace(graph, outputs=(*graph.outputs, node.name))


def remove_node(graph: Graph, source: random.Random) -> Graph:
    """A node is gone, its readers read its operand."""
    found = _pick(graph, source)
    if found is None:
        return graph
    position, node = found
    other = next((name for name in node.inputs if name), None) or source.choice(
        _values(graph, position)
    )
    nodes = tuple(
        replace(each, inputs=tuple(other if name == node.name else name for name in each.inputs))
        for each in graph.nodes
        if each is not node
    )
    outputs = tuple(other if name == node.name else name for name in graph.outputs)
    return replace(graph, nodes=nodes, outputs=outputs)


def move_node(graph: Graph, source: random.Random) -> Graph:
    """Two nodes change places."""
    if len(graph.nodes) < 2:
        return graph
    nodes = list(graph.nodes)
    a, b = source.sample(range(len(nodes)), 2)
    nodes[a], nodes[b] = nodes[b], nodes[a]
    return replace(graph, nodes=tuple(nodes))


def change_type(graph: Graph, source: random.Random) -> Graph:
    """A node claims another type."""
    found = _pick(graph, source)
    if found is None:
        return graph
    position, node = found
    return _replaced(graph, position, type=_changed_type(node.type, graph, source))


def change_input(graph: Graph, source: random.Random) -> Graph:
    """An input has another dtype or shape."""
    name = source.choice(list(graph.inputs))
    inputs = {**graph.inputs, name: _changed_type(graph.inputs[name], graph, source)}
    return replace(graph, inputs=inputs)


def change_constant(graph: Graph, source: random.Random) -> Graph:
    """A constant has another dtype, shape or values."""
    if not graph.constants:
        return graph
    name = source.choice(list(graph.constants))
    old = graph.constants[name].dense()
    match source.choice(("values", "extreme", "zeros", "sparse", "shape", "dtype")):
        case "values":
            new = random_array(old.shape, graph.constants[name].type, source)
        case "extreme":
            new = old.copy()
            if new.size:
                extremes = {"f": (0.0, 1e30, -1e30, np.inf, np.nan), "b": (True,)}
                choices = extremes.get(new.dtype.kind, (-1, 0, 100, 1 << 20))
                new.reshape(-1)[source.randrange(new.size)] = np.array(
                    source.choice(choices)
                ).astype(new.dtype)
        case "zeros":
            new = np.zeros_like(old)
        case "sparse" if old.ndim == 2 and old.dtype == np.float32 and np.isfinite(old).all():
            block = source.choice(((1, 1), (4, 1), (1, 4), (3, 2)))
            value = BlockSparse.from_dense(old, block)
            return replace(graph, constants={**graph.constants, name: Constant(value)})
        case "dtype":
            new = old.astype(DTYPES[source.choice(sorted(DTYPES))])
        case _:
            shape = list(old.shape) or [1]
            shape[source.randrange(len(shape))] = source.choice((0, 1, 2, 3, 5, 8, 17))
            new = np.resize(old, shape) if old.size else np.zeros(shape, old.dtype)
    return replace(graph, constants={**graph.constants, name: Constant(new)})


def change_outputs(graph: Graph, source: random.Random) -> Graph:
    """Other values are the outputs."""
    values = _values(graph, len(graph.nodes))
    count = source.choice((0, 1, 1, 2, 3))
    return replace(graph, outputs=tuple(source.choice(values) for _ in range(count)))


MUTATIONS: tuple[Mutation, ...] = (
    change_attribute, change_attribute, change_attribute, change_operand, change_operand,
    change_arity, change_op, change_op, insert_node, insert_node, insert_node, remove_node,
    move_node, change_type, change_input, change_constant, change_outputs,
)  # fmt: skip


# Parts


def random_attribute(kind: Kind, graph: Graph, source: random.Random, old: Any = None) -> Any:
    """A value of a kind, near the old one or far from it."""
    if kind is AXIS:
        return source.choice((0, 0, 1, 1, 2, 3, 15, -1))
    if kind is AXES:
        if isinstance(old, tuple) and source.random() < 0.5:
            return tuple(source.sample(old, len(old)))
        return tuple(source.sample(range(4), source.randint(0, 4)))
    if kind in (COUNT, INDEX):
        return source.choice((1, 1, 2, 3, 4, 0, *NUMBERS))
    if kind is DIM:
        return random_dim(graph, source, old)
    if kind is SHAPE:
        shape = list(old) if isinstance(old, tuple) else list(_some_type(graph, source).shape)
        match source.choice(("dim", "swap", "drop", "add", "other")):
            case "dim" if shape:
                at = source.randrange(len(shape))
                shape[at] = random_dim(graph, source, shape[at])
            case "swap":
                source.shuffle(shape)
            case "drop" if shape:
                del shape[source.randrange(len(shape))]
            case "add":
                shape.insert(source.randrange(len(shape) + 1), 1)
            case _:
                return _some_type(graph, source).shape
        return tuple(shape)
    if kind is FLAG:
        return source.random() < 0.5
    if kind is DTYPE:
        return source.choice(sorted(DTYPES))
    if kind is ACTIVATION:
        return source.choice(ACTIVATIONS)
    if kind is EPSILON:
        return source.choice((0.0, 1e-12, 1e-5, 1.0, 1e30, 0, -1e-5))
    if kind is FINITE:
        return source.choice((0.0, 0.5, 1.0, -1.0, 2, 1e30, -1e-30))
    assert kind is NUMBER
    return source.choice((0, 1, -1, 0.5, -0.0, True, False, 1e30, float("-inf"), 300, 1 << 40))


def random_dim(graph: Graph, source: random.Random, old: Any = None) -> Any:
    """A size, an expression of the graph's symbols, or the old one a little changed."""
    symbols = sorted({s for type in graph.inputs.values() for s in type.symbols()}) or ["seq"]
    some = symbol(source.choice(symbols))
    match source.randrange(7):
        case 0 | 1:
            return source.choice(NUMBERS[:10])
        case 2:
            return some
        case 3:
            return some + source.choice((-1, 1, -3, 3))
        case 4:
            return some * source.choice((2, -1, 4, symbol(source.choice(symbols))))
        case 5:
            return some // source.choice((2, 3, 7))
    if old is None or isinstance(old, bool | str | float | tuple | FloorDiv):
        return source.choice(NUMBERS)
    return old + source.choice((-1, 1, some, -1 * some))


def _random_attributes(op: str, graph: Graph, source: random.Random) -> Attrs:
    kinds = OPS[op].attrs.items()
    return Attrs({name: random_attribute(kind, graph, source) for name, kind in kinds})


def _changed_type(type: TensorType, graph: Graph, source: random.Random) -> TensorType:
    if source.random() < 0.4:
        return TensorType(source.choice(sorted(DTYPES)), type.shape)
    try:
        return TensorType(type.dtype, random_attribute(SHAPE, graph, source, type.shape))
    except GraphError:
        return type


def _some_type(graph: Graph, source: random.Random) -> TensorType:
    return source.choice(list(graph.types().values()))


def _values(graph: Graph, position: int) -> list[str]:
    """The names that are defined before a node."""
    return [*graph.inputs, *graph.constants, *(node.name for node in graph.nodes[:position])]


def _pick(
    graph: Graph, source: random.Random, wanted: Callable[[Node], bool] = lambda node: True
) -> tuple[int, Node] | None:
    found = [(i, node) for i, node in enumerate(graph.nodes) if wanted(node) and node.op in OPS]
    return source.choice(found) if found else None


def _replaced(graph: Graph, position: int, **changes: Any) -> Graph:
    nodes = list(graph.nodes)
    nodes[position] = replace(nodes[position], **changes)
    return replace(graph, nodes=tuple(nodes))
