"""What pruning left empty is gone, and the answers are what they were."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunus.errors import InputError
from prunus.ir import Attrs, Graph
from prunus.passes import Notes, run_passes
from prunus.passes.drop_empty import drop_empty
from prunus.passes.merge_qkv import merge_qkv
from prunus.passes.sparsify import sparsify
from prunus.sparsity import BlockSparse
from tests.graphs import ACTIVATIONS, Arrays, Case, GraphBuilder, graphs
from tests.passes.pruned import (
    RANDOM,
    WIDTH,
    attention,
    check,
    dropped,
    feed_forward,
    heads_of,
    layer,
    norm,
    normal,
    ops,
    shapes,
)

# Rows and columns


@st.composite
def feed_forwards(draw: st.DrawFn) -> tuple[Graph, int]:
    """Two layers with something per feature between them, and how many features do something."""
    b = GraphBuilder()
    x, inner = b.input("x", f"f32[batch, seq, {WIDTH}]"), draw(st.integers(1, 7))
    rows, columns = (np.array(draw(st.lists(st.booleans(), min_size=inner, max_size=inner)))
                     for _ in range(2))  # fmt: skip
    up, down = normal(inner, WIDTH), normal(WIDTH, inner)
    up[rows], down[:, columns] = 0, -0.0
    biases, fused = draw(st.tuples(st.booleans(), st.booleans())), draw(st.booleans())
    activation, second = (draw(st.sampled_from(("none", *ACTIVATIONS))) for _ in range(2))
    y = layer(b, "up", x, up, bias=biases[0], activation=activation if fused else "none")
    y = y if fused or activation == "none" else b.add(activation, y)
    for op in draw(st.lists(st.sampled_from(("add", "subtract", "multiply", "maximum")))):
        size = draw(st.sampled_from(((inner,), (1, inner), ())))
        other = b.constant(f"constant.{len(b.nodes)}", normal(*size))
        y = b.add(op, *draw(st.permutations((y, other))))
    residual = draw(st.sampled_from((None, x)))
    y = layer(b, "down", y, down, bias=biases[1], activation=second, residual=residual)
    return b.graph(y), int(np.count_nonzero(~(rows | columns)))


@given(feed_forwards())
def test_empty_rows_and_columns_are_gone(case: tuple[Graph, int]) -> None:
    graph, live = case
    result = dropped(graph)
    assert shapes(result) == ([(live, WIDTH), (WIDTH, live)] if live else [])
    assert set(result.constants) <= set(graph.constants) | {"down.constant"}


def test_a_change_says_its_reason() -> None:
    drop_empty(feed_forward().graph("down"), notes := Notes())
    assert notes == [
        "down: 2 of 4 features of up are gone: 1 for empty columns of down.weight, "
        "1 constant and in the bias now"
    ]


def test_dense_weights_give_the_same_graph() -> None:
    b = GraphBuilder()
    up = layer(b, "up", b.input("x", f"f32[batch, {WIDTH}]"), normal(4, WIDTH))
    graph = b.graph(layer(b, "down", b.add("gelu", up), normal(WIDTH, 4)))
    assert drop_empty(graph, notes := Notes()) is graph
    assert notes == []


@pytest.mark.parametrize("output", ["up", "gelu", "tanh"])
def test_what_something_else_reads_stays(output: str) -> None:
    b = feed_forward()
    if output == "tanh":
        b.add("tanh", "gelu", name="tanh")
    graph = b.graph("down", output)
    assert drop_empty(graph, []) is graph


def test_what_mixes_features_stays() -> None:
    b = GraphBuilder()
    weight = normal(WIDTH, WIDTH)
    weight[0] = 0
    y = norm(b, layer(b, "up", b.input("x", f"f32[batch, {WIDTH}]"), weight))
    last = normal(2, WIDTH)
    last[:, 3] = 0
    graph = b.graph(layer(b, "down", y, last))
    assert drop_empty(graph, []) is graph


def test_a_layer_with_a_residual_keeps_its_rows() -> None:
    b = GraphBuilder()
    x = b.input("x", f"f32[batch, {WIDTH}]")
    last = normal(2, WIDTH)
    last[:, 3] = 0
    graph = b.graph(layer(b, "down", layer(b, "up", x, normal(WIDTH, WIDTH), residual=x), last))
    assert drop_empty(graph, []) is graph


def test_weights_stored_in_blocks_are_as_good() -> None:
    b = feed_forward()
    for name in ("up.weight", "down.weight"):
        array = b.constants[name].dense()
        array[:, 2:] = 0
        array[2, 2] = 1
    graph = sparsify(b.graph("down"), [])
    assert isinstance(graph.constants["up.weight"].value, BlockSparse)
    assert isinstance(graph.constants["down.weight"].value, BlockSparse)
    assert shapes(dropped(graph)) == [(1, WIDTH), (WIDTH, 1)]


def test_a_weight_in_float64_stays_so() -> None:
    b = GraphBuilder()
    x = b.input("x", "f64[batch, 3]")
    up, down = normal(2, 3).astype(np.float64), normal(3, 2).astype(np.float64)
    up[0] = 0
    bias = b.constant("up.bias", np.ones(2))
    y = b.add("linear", x, b.constant("up.weight", up), bias, activation="silu")
    y = b.add("linear", y, b.constant("down.weight", down), activation="none")
    assert shapes(dropped(b.graph(y))) == [(1, 3), (3, 1)]


def test_weights_that_others_read_stay_as_they_are_for_them() -> None:
    b = feed_forward()
    other_up = b.add("linear", "down", "up.weight", "up.bias", activation="none")
    y = b.input("y", "f32[batch, 4]")
    other_down = b.add("linear", y, "down.weight", "down.bias", activation="none")
    result = dropped(b.graph("down", other_up, other_down))
    assert shapes(result) == [(2, WIDTH), (WIDTH, 2), (4, WIDTH), (WIDTH, 4)]
    assert {"up.weight", "up.weight:reduced", "down.bias"} <= set(result.constants)


def test_repeated_layers_share_what_is_kept_under_the_old_name() -> None:
    b = feed_forward()
    up = b.add("linear", "down", "up.weight", "up.bias", activation="gelu")
    graph = b.graph(b.add("linear", up, "down.weight", "down.bias", activation="none"))
    result = dropped(graph)
    assert shapes(result) == [(2, WIDTH), (WIDTH, 2)] * 2
    assert set(result.constants) == set(graph.constants)


def test_an_infinite_constant_is_not_folded() -> None:
    b = GraphBuilder()
    up = normal(3, WIDTH)
    up[0] = 0
    y = b.add("log", layer(b, "up", b.input("x", f"f32[batch, {WIDTH}]"), up, bias=False))
    graph = b.graph(layer(b, "down", y, normal(WIDTH, 3)))
    assert drop_empty(graph, []) is graph


def test_a_weight_that_is_not_finite_is_left_to_whom_it_concerns() -> None:
    b = feed_forward()
    b.constants["up.weight"].dense()[0, 0] = np.nan
    graph = b.graph("down")
    assert drop_empty(graph, []) is graph


def test_infinity_times_a_constant_of_zero_warns_of_nothing() -> None:
    b = GraphBuilder()
    down = normal(WIDTH, 3)
    down[0] = np.inf  # a warning is an error in tests
    x = layer(
        b, "up", b.input("x", f"f32[batch, {WIDTH}]"), np.zeros((3, WIDTH), np.float32), bias=False
    )
    with pytest.raises(InputError, match=r"down\.weight"):
        run_passes(b.graph(layer(b, "down", x, down)))


# Heads


@st.composite
def attentions(draw: st.DrawFn) -> tuple[Graph, Arrays, int]:
    """Attention with empty heads, inputs for it, and how many heads do something."""
    heads, widths = draw(st.integers(1, 5)), draw(st.sampled_from(((2, 2), (1, 3), (3, 1))))
    some = st.lists(st.integers(0, heads - 1), unique=True)
    empty = {name: draw(some) for name in ("q", "k", "v", "out")}
    masks = (None, "bool[batch, 1, 1, seq]", "f32[seq]", f"f32[batch, {heads}, 1, seq]",
             f"f32[{heads}, seq, seq]", f"bool[1, {heads}, 1, 1]")  # fmt: skip
    mask = draw(st.sampled_from(masks))
    # Masks of heads or queries may hide every key from some of them: only zeros are folded then.
    bias = mask in masks[:3]
    graph = attention(heads, widths, empty, mask, bias=bias).graph("out")
    arrays: Arrays = {"x": normal(2, 3, WIDTH)}
    for name in {"mask"} & set(graph.inputs):
        shape = graph.inputs[name].sizes({"batch": 2, "seq": 3})
        is_float = graph.inputs[name].is_float
        arrays[name] = normal(*shape) if is_float else RANDOM.random(shape) < 0.5
        if mask == "bool[batch, 1, 1, seq]":
            arrays[name][..., 0] = True
    graph = merge_qkv(graph, []) if draw(st.booleans()) else graph
    return graph, arrays, heads - len({*empty["v"], *empty["out"]})


@given(attentions())
def test_heads_without_values_or_readers_are_gone(case: tuple[Graph, Arrays, int]) -> None:
    graph, arrays, live = case
    result = dropped(graph, arrays)
    assert heads_of(result) == ([live] if live else [])
    if live:
        assert len(shapes(result)) == len(shapes(graph))
        assert set(graph.constants) <= set(result.constants)
    else:
        assert ops(result) == ["expand"]


@pytest.mark.parametrize("merged", [False, True])
def test_empty_queries_or_keys_alone_are_no_empty_head(merged: bool) -> None:
    graph = attention(3, (2, 2), {"q": [0], "k": [1]}).graph("out")
    graph = merge_qkv(graph, []) if merged else graph
    assert drop_empty(graph, []) is graph


def test_a_head_of_which_half_is_empty_in_either_way_is_gone() -> None:
    b = attention(3, (2, 2), {})
    b.constants["v.weight"].dense()[2] = 0
    b.constants["out.weight"].dense()[:, 3] = 0
    result = dropped(b.graph("out"))
    assert heads_of(result) == [2]
    assert shapes(result) == [(4, WIDTH)] * 3 + [(WIDTH, 4)]


def test_a_layer_that_reads_nothing_keeps_its_input() -> None:
    b = GraphBuilder()
    x = b.input("x", f"f32[batch, seq, {WIDTH}]")
    up = layer(b, "up", x, normal(3, WIDTH))
    q = layer(b, "q", up, np.zeros((WIDTH, 3), np.float32))
    graph = b.graph(b.add("attention", q, x, x, heads=1, scale=1.0, causal=False))
    assert drop_empty(graph, []) is graph


def test_half_a_head_stays() -> None:
    b = attention(3, (2, 2), {})
    b.constants["v.weight"].dense()[2] = 0
    assert drop_empty(graph := b.graph("out"), []) is graph


@pytest.mark.parametrize("reader", ["q", "v", "mixed"])
def test_heads_that_something_else_reads_stay(reader: str) -> None:
    graph = attention(2, (2, 2), {"v": [1]}).graph("out", reader)
    assert drop_empty(graph, []) is graph


def test_a_merged_layer_that_something_else_reads_stays() -> None:
    graph = merge_qkv(attention(2, (2, 2), {"v": [1]}).graph("out"), [])
    graph = replace(graph, outputs=("out", graph.nodes[0].name))
    assert drop_empty(graph, []) is graph


def test_where_single_queries_may_see_nothing_the_values_bias_is_not_theirs() -> None:
    b = attention(3, (2, 2), {"v": [0, 1], "out": [2]}, "bool[batch, 1, seq, seq]")
    b.constants["v.bias"].dense()[:2] = 0
    arrays = {"x": normal(2, 3, WIDTH), "mask": np.tril(np.ones((2, 1, 3, 3), bool), -1)}
    assert heads_of(dropped(b.graph("out"), arrays)) == [1]


def test_a_causal_attention_is_one() -> None:
    b = attention(3, (2, 2), {"v": [1]}, "bool[batch, 1, 1, seq]")
    b.nodes[3] = replace(b.nodes[3], attrs=Attrs(b.nodes[3].attrs, causal=True))
    arrays = {"x": normal(2, 3, WIDTH), "mask": np.array([[True] * 3, [True, False, True]])}
    arrays["mask"] = arrays["mask"].reshape(2, 1, 1, 3)
    result = dropped(b.graph("out"), arrays)
    assert [n.attrs for n in result.nodes if n.op == "attention"] == [
        Attrs(heads=2, scale=0.5, causal=True)
    ]


@given(graphs())
def test_with_all_passes_random_models_keep_their_meaning(case: Case) -> None:
    arrays = dict(case.inputs)
    if "attention_mask" in arrays:  # a sequence without a key would get the values' biases
        arrays["attention_mask"] = arrays["attention_mask"].copy()
        arrays["attention_mask"][:, 0] = 1
    check(case.graph, run_passes(case.graph), arrays)
