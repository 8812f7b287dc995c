"""Branches of which pruning left nothing are gone."""

from __future__ import annotations

import numpy as np
import pytest

from prunus.passes.fuse_epilogues import fuse_epilogues
from prunus.passes.merge_qkv import merge_qkv
from tests.graphs import GraphBuilder
from tests.passes.pruned import WIDTH, Empty, dropped, encoder_layer, layer, normal, ops, shapes

ATTENTION = ["linear", "linear", "linear", "attention", "linear", "add"]
FEED_FORWARD = ["linear", "gelu", "linear", "add"]
BRANCHES: dict[str, tuple[Empty, list[str]]] = {
    "values": ({"v": [0, 1]}, ["layer_norm", "layer_norm", *FEED_FORWARD, "layer_norm"]),
    "output": ({"out": [0, 1]}, ["layer_norm", "layer_norm", *FEED_FORWARD, "layer_norm"]),
    "up": ({"up": [0, 1]}, ["layer_norm", *ATTENTION, "layer_norm", "layer_norm"]),
    "down": ({"down": [0, 1]}, ["layer_norm", *ATTENTION, "layer_norm", "layer_norm"]),
    "all": ({"v": [0], "out": [1], "up": [0], "down": [1]}, ["layer_norm"] * 3),
}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("kind", BRANCHES)
def test_an_empty_branch_is_gone(kind: str, fused: bool, bias: bool) -> None:
    empty, left = BRANCHES[kind]
    b = encoder_layer(empty, bias=bias)
    graph = b.graph(b.nodes[-1].name)
    result = dropped(fuse_epilogues(merge_qkv(graph, []), []) if fused else graph)
    if not fused:
        assert ops(result) == left
    for op in ("attention", "layer_norm"):
        assert ops(result).count(op) == left.count(op)
    assert len(shapes(result)) == left.count("linear") - (2 if fused and "attention" in left else 0)


def test_where_a_branch_was_a_row_is_added_if_something_else_reads_the_rest() -> None:
    b = encoder_layer(BRANCHES["values"][0])
    graph = b.graph(b.nodes[0].name, b.nodes[-1].name)
    result = dropped(graph)
    assert ops(result)[:3] == ["layer_norm", "add", "layer_norm"]
    assert result.nodes[1].inputs[1] in result.constants


def test_a_constant_residual_is_a_bias_unless_an_activation_comes_between() -> None:
    b = GraphBuilder()
    x = b.input("x", f"f32[batch, {WIDTH}]")
    row = layer(b, "row", x, np.zeros((WIDTH, WIDTH), np.float32))
    y = layer(b, "y", x, normal(WIDTH, WIDTH), residual=row)
    z = layer(b, "z", x, normal(WIDTH, WIDTH), residual=row, activation="tanh")
    assert ops(dropped(b.graph(y, z))) == ["linear", "linear", "add"]


def test_an_output_that_is_constant_keeps_its_shape() -> None:
    b = GraphBuilder()
    x = b.input("x", "f32[batch, seq, 3]")
    graph = b.graph(layer(b, "y", x, np.zeros((2, 3), np.float32), activation="sigmoid"))
    result = dropped(graph)
    assert (ops(result), result.nodes[0].type) == (["expand"], graph.nodes[0].type)
