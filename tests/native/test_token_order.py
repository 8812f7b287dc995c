"""Batches that are cut in parts, or computed without padding, where another axis or order of tokens
stands in the way.
"""

import numpy as np
import pytest

from prunus.ir import Graph, interpret
from prunus.runtime.packing import PackingRule
from prunus.runtime.parts import most_tokens
from tests.graphs import BATCH, SEQ, Arrays, GraphBuilder
from tests.native.decisions import Decisions, compiled, run

WIDTH = 8


def attention(b: GraphBuilder, x: str, mask: str | None = None) -> str:
    """Of a linear layer's features."""
    w = b.constant("w", np.eye(WIDTH, dtype=np.float32) / 2)
    h = b.add("linear", x, w, activation="none")
    return b.add("attention", h, h, h, mask, heads=2, scale=0.5, causal=False)


def pairs(b: GraphBuilder, x: str) -> str:
    """Every sequence with every other: [batch, batch, width]."""
    first = b.add("select", attention(b, x), axis=1, index=0)
    return b.add("add", b.reshape(first, BATCH, 1, WIDTH), first)


def counted(b: GraphBuilder, x: str) -> str:
    """The size of the batch, added to each token."""
    ones = b.full(1.0, "f32", (BATCH, BATCH, 1))
    count = b.add("sum", ones, axes=(1,), keep=True)
    return b.add("add", attention(b, x), count)


def places(b: GraphBuilder, x: str) -> str:
    """Each sequence's place in the batch, added to its tokens."""
    place = b.reshape(b.add("arange", length=BATCH, dtype="f32"), BATCH, 1, 1)
    return b.add("add", attention(b, x), place)


def alone(b: GraphBuilder, x: str) -> str:
    """Nothing that looks at another sequence."""
    return attention(b, x)


@pytest.mark.parametrize("batch", [32, 33])
@pytest.mark.parametrize("make", [pairs, counted, places, alone])
def test_parts_do_not_change_what_looks_at_the_batch(make, batch: int) -> None:  # type: ignore[no-untyped-def]
    b = GraphBuilder()
    graph = b.graph(make(b, b.input("x", f"f32[batch, seq, {WIDTH}]")))
    executable = compiled(graph, Decisions())
    assert batch * 16 > most_tokens(0, 1)
    rule = executable.program.packing
    assert isinstance(rule, PackingRule)
    assert rule.splits == (make is alone)
    check(graph, {"x": random(batch, 16, WIDTH)})


def test_a_batch_as_long_as_wide() -> None:
    b = GraphBuilder()
    graph = b.graph(attention(b, b.input("x", f"f32[batch, batch, {WIDTH}]")))
    check(graph, {"x": random(32, 32, WIDTH)})


def time_major(b: GraphBuilder, x: str, mask: str) -> tuple[str, ...]:
    """Beside attention, an input with the tokens in front."""
    z = b.input("z", f"f32[seq, batch, {WIDTH}]")
    other = b.add("linear", z, b.constant("v", np.eye(WIDTH, dtype=np.float32)), activation="none")
    return attention(b, x, mask), b.add("sum", other, axes=(0,), keep=False)


def permuted(b: GraphBuilder, x: str, mask: str) -> tuple[str, ...]:
    """Beside attention, the tokens in another order."""
    turned = b.permute(x, 1, 0, 2)
    v = b.constant("v", np.eye(WIDTH, dtype=np.float32))
    return attention(b, x, mask), b.add("linear", turned, v, activation="none")


def flattened(b: GraphBuilder, x: str, mask: str) -> tuple[str, ...]:
    """As `permuted`, and then in one axis."""
    turned = b.reshape(b.permute(x, 1, 0, 2), BATCH * SEQ, WIDTH)
    v = b.constant("v", np.eye(WIDTH, dtype=np.float32))
    return attention(b, x, mask), b.add("linear", turned, v, activation="none")


@pytest.mark.parametrize("make", [time_major, permuted, flattened])
def test_padding_stays_where_tokens_lie_in_another_order(make) -> None:  # type: ignore[no-untyped-def]
    b = GraphBuilder()
    x = b.input("x", f"f32[batch, seq, {WIDTH}]")
    padding = b.add("cast", b.input("attention_mask", "i64[batch, seq]"), dtype="bool")
    graph = b.graph(*make(b, x, b.reshape(padding, BATCH, 1, 1, SEQ)))
    mask = (np.arange(7) < np.array([[7], [2], [4]])).astype(np.int64)
    inputs = {"x": random(3, 7, WIDTH), "attention_mask": mask}
    if "z" in graph.inputs:
        inputs["z"] = random(7, 3, WIDTH)
    check(graph, inputs)


def random(*shape: int) -> np.ndarray:
    """Numbers of magnitude one."""
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def check(graph: Graph, inputs: Arrays) -> None:
    """All outputs are the interpreter's, at padding too."""
    for found, wanted in zip(
        run(compiled(graph, Decisions()), inputs), interpret(graph, inputs), strict=True
    ):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
