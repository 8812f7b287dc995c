"""Attention under masks of every shape that broadcasts to its scores, bool and float."""

import numpy as np
import pytest

from prunus.ir import interpret
from tests.graphs import BATCH, SEQ, Arrays, GraphBuilder
from tests.native.decisions import Decisions, compiled, run

HEADS = 3
SHAPES = (
    "[seq]",
    "[1]",
    "[7, seq]",
    "[7, 1]",
    "[1, 1, seq]",
    "[3, 1, seq]",
    "[3, 7, seq]",
    "[1, 1, 1, seq]",
    "[batch, 1, 1, seq]",
    "[batch, 1, 1, 1]",
    "[batch, 3, 1, seq]",
    "[batch, 1, 7, seq]",
    "[1, 3, 7, seq]",
    "[batch, 3, 7, seq]",
)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("dtype", ["bool", "f32"])
@pytest.mark.parametrize("shape", SHAPES)
def test_masks_of_every_shape(shape: str, dtype: str, causal: bool) -> None:
    """Seven queries, and as many keys as there are tokens."""
    b, random = GraphBuilder(), np.random.default_rng(0)
    q = b.input("q", "f32[batch, 7, 6]")
    k, v = b.input("k", "f32[batch, seq, 6]"), b.input("v", "f32[batch, seq, 9]")
    mask = b.input("mask", f"{dtype}{shape}")
    y = b.add("attention", q, k, v, mask, heads=HEADS, scale=0.7, causal=causal)
    graph = b.graph(y)
    executable = compiled(graph, Decisions())
    assert not executable.program.numpy_steps
    for batch, seq in ((1, 7), (2, 18)):
        sizes = {"batch": batch, "seq": seq}
        inputs: Arrays = {
            name: random.standard_normal(type.sizes(sizes)).astype(np.float32)
            for name, type in graph.inputs.items()
        }
        if dtype == "bool":
            inputs["mask"] = inputs["mask"] > -0.5
        (found,), (wanted,) = run(executable, inputs), interpret(graph, inputs)
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def test_sequences_in_two_leading_dimensions() -> None:
    b, random = GraphBuilder(), np.random.default_rng(0)
    x = b.input("x", "f32[batch, 2, seq, 6]")
    mask = b.input("mask", "bool[batch, 2, 1, 1, seq]")
    y = b.add("attention", x, x, x, mask, heads=2, scale=0.7, causal=False)
    graph = b.graph(b.reshape(y, BATCH * SEQ * 2, 6))
    inputs = {
        "x": random.standard_normal((3, 2, 5, 6)).astype(np.float32),
        "mask": random.random((3, 2, 1, 1, 5)) < 0.6,
    }
    (found,), (wanted,) = run(compiled(graph, Decisions()), inputs), interpret(graph, inputs)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
