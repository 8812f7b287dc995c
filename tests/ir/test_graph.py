"""What a graph tells of itself."""

from dataclasses import replace

import numpy as np
import pytest

from prunus.errors import GraphError
from prunus.ir import OPS, Attrs, Node, TensorType
from prunus.ir.graph import operand_position
from tests.graphs import GraphBuilder


def test_the_smallest_table_limits_the_ids_of_an_input() -> None:
    b = GraphBuilder()
    ids, other = b.input("ids", "i64[batch, seq]"), b.input("other", "i64[batch, seq]")
    large, small = (b.constant(f"t{n}", np.zeros((n, 4), np.float32)) for n in (9, 5))
    graph = b.graph(b.add("embedding", large, ids, small, ids), b.add("embedding", large, other))
    assert graph.table_rows("ids") == 5
    assert graph.table_rows("other") == 9
    assert graph.table_rows("absent") is None


LINEAR = Node(
    "y", "linear", ("x", "w", None, "r"), Attrs(activation="none"), TensorType("f32", (2,))
)


def test_operands_are_read_by_their_names() -> None:
    assert (LINEAR["x"], LINEAR["weight"]) == ("x", "w")
    assert (LINEAR.get("bias"), LINEAR.get("residual")) == (None, "r")
    short = replace(LINEAR, inputs=("x", "w"))
    assert short.get("residual") is None


def test_an_operand_that_is_left_out_or_unknown_is_refused() -> None:
    with pytest.raises(GraphError, match="linear y has no bias"):
        LINEAR["bias"]
    with pytest.raises(GraphError, match="linear has no operand 'gamma'; it has x, weight, bias"):
        LINEAR.get("gamma")
    with pytest.raises(GraphError, match="concat has no operand 'x'; it has none"):
        replace(LINEAR, op="concat")["x"]


def test_every_operand_of_the_table_has_its_position() -> None:
    for name, op in OPS.items():
        for position, operand in enumerate(op.inputs):
            if not operand.startswith("*"):
                assert operand_position(name, operand.removesuffix("?")) == position
