"""Graphs with empty rows, columns and heads, and how each is held to what it computed before."""

from __future__ import annotations

from typing import Any

import numpy as np

from prunus.ir import DTYPES, Graph, interpret, verify
from prunus.passes import Notes
from prunus.passes.drop_empty import drop_empty
from tests.graphs import Arrays, GraphBuilder

RANDOM = np.random.default_rng(0)
WIDTH = 5


def normal(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


def check(graph: Graph, result: Graph, arrays: Arrays | None = None) -> Graph:
    """The result, if it is well formed, of the same types, and of the same meaning."""
    verify(result)
    if arrays is None:
        arrays = {
            name: normal(*type.sizes({"batch": 2, "seq": 3})).astype(DTYPES[type.dtype])
            for name, type in graph.inputs.items()
        }
    before, after = (interpret(each, arrays, precise=True) for each in (graph, result))
    for expected, found in zip(before, after, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    return result


def dropped(graph: Graph, arrays: Arrays | None = None) -> Graph:
    """The graph after the pass, which says what it did and then finds nothing more to do."""
    result = check(graph, drop_empty(graph, notes := Notes()), arrays)
    assert bool(notes) == (result is not graph)
    assert drop_empty(result, []) is result
    return result


def ops(graph: Graph) -> list[str]:
    return [node.op for node in graph.nodes]


def shapes(graph: Graph) -> list[tuple[int, ...]]:
    """The shapes of the weights of linear layers."""
    weights = [str(node.inputs[1]) for node in graph.nodes if node.op == "linear"]
    return [graph.constants[name].type.sizes({}) for name in weights]


def layer(
    b: GraphBuilder,
    name: str,
    x: str,
    weight: np.ndarray,
    *,
    bias: bool = True,
    activation: str = "none",
    residual: str | None = None,
) -> str:
    """A linear layer whose parameters are named after it."""
    w = b.constant(f"{name}.weight", weight)
    vector = b.constant(f"{name}.bias", normal(len(weight))) if bias else None
    return b.add("linear", x, w, vector, residual, activation=activation, name=name)


def norm(b: GraphBuilder, x: str) -> str:
    gamma, beta = (b.constant(f"norm.{len(b.nodes)}.{n}", normal(WIDTH)) for n in ("g", "b"))
    return b.add("layer_norm", x, gamma, beta, eps=1e-5)


def feed_forward(**options: Any) -> GraphBuilder:
    """Two layers and four features between them: the first is not read, the second constant."""
    b = GraphBuilder()
    up, down = normal(4, WIDTH), normal(WIDTH, 4)
    up[1], down[:, 0] = 0, 0
    b.add("gelu", layer(b, "up", b.input("x", f"f32[batch, {WIDTH}]"), up), name="gelu")
    layer(b, "down", "gelu", down, **options)
    return b


Empty = dict[str, list[int]]


def attend(
    b: GraphBuilder, x: str, heads: int, widths: tuple[int, int], empty: Empty, mask: str | None,
    *, bias: bool = True,
) -> str:  # fmt: skip
    """An attention named `mixed` between its layers; `empty` are the empty heads of each."""
    for name, width in zip("qkv", (widths[0], *widths), strict=True):
        weight = normal(heads, width, WIDTH)
        weight[empty.get(name, [])] = 0
        layer(b, name, x, weight.reshape(-1, WIDTH), bias=bias)
    b.add("attention", *"qkv", mask, heads=heads, scale=0.5, causal=False, name="mixed")
    weight = normal(WIDTH, heads, widths[1])
    weight[:, empty.get("out", [])] = 0
    return layer(b, "out", "mixed", weight.reshape(WIDTH, -1), bias=bias)


def attention(
    heads: int, widths: tuple[int, int], empty: Empty, mask: str | None = None, *, bias: bool = True
) -> GraphBuilder:
    """That attention alone, under a mask of some type."""
    b = GraphBuilder()
    x = b.input("x", f"f32[batch, seq, {WIDTH}]")
    mask = None if mask is None else b.input("mask", mask)
    attend(b, x, heads, widths, empty, mask, bias=bias)
    return b


def heads_of(graph: Graph) -> list[int]:
    return [node.attrs.heads for node in graph.nodes if node.op == "attention"]


def encoder_layer(empty: Empty, *, bias: bool = True) -> GraphBuilder:
    """A layer of an encoder; the two halves of its inner features are numbered as heads are."""
    b = GraphBuilder()
    x = norm(b, b.input("x", f"f32[batch, seq, {WIDTH}]"))
    mask = b.input("mask", "f32[batch, 1, 1, seq]")
    y = norm(b, b.add("add", attend(b, x, 2, (2, 2), empty, mask, bias=bias), x))
    up, down = normal(2, 4, WIDTH), normal(WIDTH, 2, 4)
    up[empty.get("up", [])], down[:, empty.get("down", [])] = 0, 0
    z = b.add("gelu", layer(b, "up", y, up.reshape(-1, WIDTH), bias=bias))
    z = layer(b, "down", z, down.reshape(WIDTH, -1), bias=bias)
    norm(b, b.add("add", y, z))
    return b
