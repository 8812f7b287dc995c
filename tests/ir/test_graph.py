"""What a graph tells of itself."""

import numpy as np

from tests.graphs import GraphBuilder


def test_the_smallest_table_limits_the_ids_of_an_input() -> None:
    b = GraphBuilder()
    ids, other = b.input("ids", "i64[batch, seq]"), b.input("other", "i64[batch, seq]")
    large, small = (b.constant(f"t{n}", np.zeros((n, 4), np.float32)) for n in (9, 5))
    graph = b.graph(b.add("embedding", large, ids, small, ids), b.add("embedding", large, other))
    assert graph.table_rows("ids") == 5
    assert graph.table_rows("other") == 9
    assert graph.table_rows("absent") is None
