"""Graphs to start from: between them every op, on plain arrays and in tiles."""

from __future__ import annotations

import random
from typing import Any

import numpy as np

from prunus.ir import DTYPES, Graph, TensorType
from prunus.passes import run_passes
from tests.graphs import BATCH, SEQ, GraphBuilder, random_case
from tests.ir.test_ops import EXAMPLES

WIDTH = 8


def seed_graph(source: random.Random) -> Graph:
    """One of the graphs, before or after the passes."""
    kind = source.choice(("model", "model", "model", "example", "example", "layer", "layer"))
    match kind:
        case "model":
            graph = random_case(source.randrange(1 << 30), max_blocks=2).graph
        case "example":
            op = source.choice(sorted(EXAMPLES))
            graph = _example_graph(op, source.choice(EXAMPLES[op]), source)
        case _:
            graph = _layer_graph(source)
    return run_passes(graph) if source.random() < 0.5 else graph


def _example_graph(op: str, example: tuple[list[TensorType | None], dict[str, Any]],
                   source: random.Random) -> Graph:  # fmt: skip
    """An op of its own: floating-point operands come out of a linear layer, so that they lie in
    tiles, or are inputs; integers stay small.
    """
    b = GraphBuilder()
    types, attrs = example
    operands: list[str | None] = []
    for place, type in enumerate(types):
        if type is None:
            operands.append(None)
        elif not type.symbols() and source.random() < 0.8:
            operands.append(b.constant(f"c{place}", random_array(type.sizes({}), type, source)))
        else:
            name = b.input(f"x{place}", str(type))
            in_tiles = type.dtype == "f32" and type.rank and source.random() < 0.7
            operands.append(tile_value(b, name, source) if in_tiles else name)
    outputs = [b.add(op, *operands, **attrs)]
    if not b.inputs:
        outputs.append(b.input("unused", "f32[batch, seq]"))
    elif b.types[outputs[0]].symbols():
        _bind_symbols(b)
    return b.graph(*outputs)


def _bind_symbols(b: GraphBuilder) -> None:
    """An input that gives every symbol its size."""
    b.input("sizes", "f32[batch, seq]")


def tile_value(b: GraphBuilder, x: str, source: random.Random) -> str:
    """A value of the same type as `x`, made by a kernel."""
    width = b.types[x].shape[-1]
    if not isinstance(width, int):
        return x
    weight = np.eye(width, dtype=np.float32) * np.float32(source.choice((1.0, 0.5)))
    name = b.constant(f"eye{len(b.nodes)}", weight)
    return b.add("linear", x, name, activation="none")


def _layer_graph(source: random.Random) -> Graph:
    """A chain of ops in tiles, with the rarer ones of a transformer."""
    b = GraphBuilder()
    x = b.input("x", f"f32[batch, seq, {WIDTH}]")
    x = tile_value(b, x, source)
    for _ in range(source.randint(1, 4)):
        x = source.choice((_rotary, _relative, _norm, _gated, _window, _halves))(b, x, source)
    first = b.add("select", x, axis=1, index=source.choice((0, -1)))
    return b.graph(*source.choice(((x,), (first,), (x, first))))


def _rotary(b: GraphBuilder, x: str, source: random.Random) -> str:
    heads = source.choice((1, 2, 4))
    angles = WIDTH // heads
    table = random_array((64, angles), TensorType("f32", ()), source)
    cos = b.constant(f"cos{len(b.nodes)}", table)
    parts = [b.add("slice", cos, axis=0, start=0, stop=SEQ, step=1) for _ in range(2)]
    wide = [b.reshape(part, 1, SEQ, angles) for part in parts]
    return b.add("rotary", x, *wide, heads=heads)


def _relative(b: GraphBuilder, x: str, source: random.Random) -> str:
    heads = source.choice((1, 2))
    width = WIDTH // heads
    table = b.constant(
        f"table{len(b.nodes)}", random_array((heads, 5, width), TensorType("f32", ()), source)
    )
    zeros = b.full(0, "i64", (SEQ, SEQ))
    steps = b.add("cumsum", b.full(1, "i64", (SEQ, SEQ)), axis=source.choice((0, 1)))
    index = b.add("minimum", b.add("maximum", steps, zeros), b.full(4, "i64"))
    positions = source.choice(
        ((table, index), (table, index, table, index), (None, None, table, index))
    )
    return b.add("attention", x, x, x, None, *positions, heads=heads, scale=0.5,
                 causal=source.random() < 0.5)  # fmt: skip


def _norm(b: GraphBuilder, x: str, source: random.Random) -> str:
    scale = b.constant(f"gamma{len(b.nodes)}", np.linspace(0.5, 1.5, WIDTH, dtype=np.float32))
    if source.random() < 0.5:
        return b.add("rms_norm", x, scale, eps=1e-5)
    return b.add("layer_norm", x, scale, scale, eps=1e-5)


def _gated(b: GraphBuilder, x: str, source: random.Random) -> str:
    return b.add("multiply", x, b.add(source.choice(("gelu", "silu", "sigmoid", "tanh")), x))


def _window(b: GraphBuilder, x: str, source: random.Random) -> str:
    flat = b.reshape(x, BATCH * SEQ, WIDTH)
    return b.reshape(b.add("relu", flat), BATCH, SEQ, WIDTH)


def _halves(b: GraphBuilder, x: str, source: random.Random) -> str:
    parts = [
        b.add("slice", x, axis=2, start=start, stop=start + WIDTH // 2, step=1)
        for start in (0, WIDTH // 2)
    ]
    return b.add("concat", *parts, axis=2)


def random_array(shape: tuple[int, ...], type: TensorType, source: random.Random) -> np.ndarray:
    """Numbers of magnitude one, small integers, booleans."""
    generator = np.random.default_rng(source.randrange(1 << 30))
    match DTYPES[type.dtype].kind:
        case "f":
            return generator.standard_normal(shape).astype(DTYPES[type.dtype])
        case "b":
            return generator.random(shape) < 0.6
    return generator.integers(0, 3, shape).astype(DTYPES[type.dtype])
