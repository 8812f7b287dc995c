"""Inputs that are indices are known, and what they may hold is checked."""

from __future__ import annotations

import numpy as np
import pytest

from prunus.errors import InputError
from prunus.ir.indices import check_indices, index_limits
from tests.graphs import GraphBuilder


def test_the_smallest_table_counts_and_views_are_seen_through() -> None:
    b = GraphBuilder()
    ids, places = b.input("ids", "i64[batch, seq]"), b.input("places", "i32[1, seq]")
    b.input("mask", "i64[batch, seq]")
    large = b.constant("large", np.zeros((9, 4), np.float32))
    small = b.constant("small", np.zeros((5, 4), np.float32))
    row = b.constant("row", np.zeros((1, 7), np.float32))
    looked_up = b.add("embedding", large, ids, small, ids)
    gathered = b.add("gather", row, b.add("cast", places, dtype="i64"), axis=1)
    summed = b.add("add", ids, "mask")  # the mask is no index, and neither is a sum by itself
    picked = b.add("index", large, b.permute(ids, 1, 0))
    graph = b.graph(looked_up, gathered, summed, picked)
    assert index_limits(graph) == {"ids": 5, "places": 7}


@pytest.mark.parametrize(("wrong", "shown"), [(5, 5), (-1, -1)])
@pytest.mark.parametrize(
    ("name", "advice"),
    [("input_ids", "is this the tokenizer"), ("position_ids", "pass values from 0 to 4")],
)
def test_the_input_what_was_found_and_the_limit_are_named(
    wrong: int, shown: int, name: str, advice: str
) -> None:
    check_indices({name: 5}, {name: np.array([[0, 4]]), "other": np.array([wrong])})
    check_indices({name: 5}, {name: np.zeros((0, 4), np.int64)})
    with pytest.raises(
        InputError, match=f"{name} holds the id {shown}, but .* the ids 0 to 4; {advice}"
    ):
        check_indices({name: 5}, {name: np.array([[0, wrong]])})
