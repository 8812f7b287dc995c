"""Attention: recognised, its layers merged, its empty heads found."""

from typing import Any

import numpy as np
import pytest

from prunus.ir import Attrs, Graph, Node, interpret, verify
from prunus.passes import Notes, head_report
from prunus.passes.cancel_shapes import cancel_shapes
from prunus.passes.fuse_attention import fuse_attention
from prunus.passes.merge_qkv import merge_qkv, merged_name, merged_names
from tests.graphs import GraphBuilder, eager_attention, split_heads

RANDOM = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


def check(graph: Graph, result: Graph) -> Graph:
    verify(result)
    inputs = {}
    for name, type in graph.inputs.items():
        shape = type.sizes({"batch": 2, "seq": 3})
        inputs[name] = RANDOM.random(shape) < 0.5 if type.dtype == "bool" else normal(*shape)
    before, after = (interpret(each, inputs, precise=True) for each in (graph, result))
    for expected, found in zip(before, after, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    return result


def fused(graph: Graph) -> Graph:
    """The graph with attention fused and shapes cancelled."""
    return check(graph, cancel_shapes(fuse_attention(graph, []), []))


def only(graph: Graph, op: str) -> Node:
    (node,) = [node for node in graph.nodes if node.op == op]
    return node


@pytest.mark.parametrize(
    "mask", [None, "bool[batch, 1, 1, seq]", "bool[seq, seq]", "f32[batch, 3, seq, seq]"]
)
def test_attention_written_out_reads_and_writes_joined_heads(mask: str | None) -> None:
    b = GraphBuilder()
    b.input("x", "f32[batch, seq, 12]")
    if mask is not None:
        b.input("mask", mask)
    out = eager_attention(b, "x", "x", "x", None if mask is None else "mask", 3, 0.5)
    (node,) = fused(b.graph(b.add("tanh", out))).nodes[:-1]
    assert node.inputs == (("x", "x", "x") if mask is None else ("x", "x", "x", "mask"))
    assert node.attrs == Attrs(heads=3, scale=0.5, causal=False)


@pytest.mark.parametrize("op", ["multiply", "divide"])
@pytest.mark.parametrize("where", ["scores", "queries", "keys"])
def test_the_scale_is_found_wherever_it_is_applied(op: str, where: str) -> None:
    b = GraphBuilder()
    q = k = v = split_heads(b, b.input("x", "f32[batch, seq, 12]"), 3)
    turned = b.permute(k, 0, 1, 3, 2)
    q = b.scaled(op, q, 4.0) if where == "queries" else q
    turned = b.scaled(op, turned, 4.0) if where == "keys" else turned
    scores = b.add("matmul", q, turned)
    scores = b.scaled(op, scores, 4.0) if where == "scores" else scores
    graph = fused(b.graph(b.add("matmul", b.add("softmax", scores, axis=3), v)))
    assert only(graph, "attention").attrs.scale == (4 if op == "multiply" else 0.25)


def test_attention_without_heads_and_with_other_widths() -> None:
    b = GraphBuilder()
    b.input("q", "f32[batch, seq, 4]")
    b.input("k", "f32[batch, 5, 4]")
    b.input("v", "f32[batch, 5, 7]")
    scores = b.add("matmul", "q", b.permute("k", 0, 2, 1))
    scores = b.add("add", scores, b.input("mask", "f32[batch, seq, 5]"))
    graph = fused(b.graph(b.add("matmul", b.add("softmax", scores, axis=-1), "v")))
    assert [node.op for node in graph.nodes] == ["reshape", "attention"]
    assert only(graph, "attention").attrs.heads == 1


def test_scores_of_two_products_and_a_mask_change_places_once() -> None:
    """As in LiLT, whose text and layout both score: either may be taken for the other's bias."""
    b = GraphBuilder()
    text = split_heads(b, b.input("text", "f32[batch, seq, 12]"), 3)
    layout = split_heads(b, b.input("layout", "f32[batch, seq, 12]"), 3)
    products = [
        b.scaled("divide", b.add("matmul", each, b.permute(each, 0, 1, 3, 2)), 2.0)
        for each in (text, layout)
    ]
    scores = b.add("add", b.add("add", *products), b.input("mask", "f32[batch, 1, 1, seq]"))
    graph = fused(b.graph(b.add("matmul", b.add("softmax", scores, axis=3), text)))
    assert only(graph, "attention").attrs.scale == 0.5
    assert only(graph, "matmul").inputs[0] != only(graph, "attention").inputs[0]


def test_adding_nothing_or_minus_infinity_is_a_boolean_mask() -> None:
    b = GraphBuilder()
    b.input("x", "f32[batch, seq, 4]")
    hidden = b.input("seen", "bool[batch, 1, 1, seq]")
    for lowest, expected in ((float("-inf"), hidden), (-1e9, "added")):
        b.nodes.clear()
        added = b.add("where", hidden, b.full(0.0), b.full(lowest), name="added")
        out = b.add("attention", "x", "x", "x", added, heads=2, scale=1.0, causal=False)
        assert only(fused(b.graph(out)), "attention").inputs[3] == expected


def unfit(kind: str) -> Graph:
    """Something that looks like attention and is not."""
    b = GraphBuilder()
    q = k = v = split_heads(b, b.input("x", "f32[batch, seq, 12]"), 3)
    axis: Any = 2 if kind == "other axis" else -1
    if kind == "broadcast keys":
        k = split_heads(b, b.input("y", "f32[1, seq, 12]"), 3)
    scores = b.add("matmul", q, b.permute(k, 0, 1, 3, 2))
    if kind == "wide mask":
        scores = b.add("add", scores, b.input("mask", "f32[2, batch, 1, seq, seq]"))
        v = b.reshape(v, 1, *b.types[v].shape)
    if kind == "more masks":
        q1, k1, v = (b.add("slice", each, axis=0, start=0, stop=1, step=1) for each in (q, k, v))
        scores = b.add("matmul", q1, b.permute(k1, 0, 1, 3, 2))
        scores = b.add("add", scores, b.input("mask", "f32[batch, 1, 1, seq]"))
    softmax = b.add("softmax", scores, axis=axis)
    out = b.add("matmul", softmax, v)
    return b.graph(out, softmax) if kind == "read" else b.graph(out)


@pytest.mark.parametrize(
    "kind", ["other axis", "broadcast keys", "wide mask", "more masks", "read"]
)
def test_what_is_not_attention_stays(kind: str) -> None:
    graph = check(unfit(kind), fuse_attention(unfit(kind), []))
    assert [node.op for node in graph.nodes if node.op == "attention"] == []


# merge_qkv


def attention_block(
    biases: tuple[bool, bool, bool] = (True, True, True), widths: tuple[int, int] = (4, 6)
) -> GraphBuilder:
    b = GraphBuilder()
    b.input("x", "f32[batch, seq, 5]")
    b.input("other", "f32[batch, seq, 5]")
    b.input("residual", "f32[batch, seq, 4]")
    parts = zip(("query", "key", "value"), (widths[0], *widths), biases, strict=True)
    for name, width, has_bias in parts:
        weight = b.constant(f"layer.0.{name}.weight", normal(width, 5))
        bias = b.constant(f"layer.0.{name}.bias", normal(width)) if has_bias else None
        b.add("linear", "x", weight, bias, activation="none", name=name)
    b.add("attention", "query", "key", "value", heads=2, scale=0.5, causal=True, name="out")
    return b


def test_queries_keys_and_values_are_one_layer() -> None:
    graph = attention_block().graph("out")
    result = check(graph, merge_qkv(graph, notes := Notes()))
    assert [node.op for node in result.nodes] == ["linear", "slice", "slice", "slice", "attention"]
    assert only(result, "linear").inputs == (
        "x", "layer.0.query+key+value.weight", "layer.0.query+key+value.bias"
    )  # fmt: skip
    assert result.constants["layer.0.query+key+value.weight"].type.shape == (14, 5)
    assert notes == ["out: query, key, value read x and are one layer"]
    assert merge_qkv(result, []) is result


def test_a_missing_bias_is_zeros_and_three_are_none() -> None:
    graph = attention_block((True, False, True)).graph("out")
    result = check(graph, merge_qkv(graph, []))
    assert not result.constants["layer.0.query+value.bias"].dense()[4:8].any()
    graph = attention_block((False, False, False)).graph("out")
    assert len(only(check(graph, merge_qkv(graph, [])), "linear").inputs) == 2


@pytest.mark.parametrize("obstacle", ["other input", "read", "activation", "residual", "twice"])
def test_layers_that_do_more_are_not_merged(obstacle: str) -> None:
    b = attention_block(widths=(4, 4))
    query = {
        "other input": Node("query", "linear", ("other", *b.nodes[0].inputs[1:]), b.nodes[0].attrs,
                            b.nodes[0].type),
        "activation": Node("query", "linear", b.nodes[0].inputs, Attrs(activation="relu"),
                           b.nodes[0].type),
        "residual": Node("query", "linear", (*b.nodes[0].inputs, "residual"), b.nodes[0].attrs,
                         b.nodes[0].type),
    }.get(obstacle, b.nodes[0])  # fmt: skip
    b.nodes[0] = query
    if obstacle == "twice":
        b.nodes[3] = Node("out", "attention", ("query", "key", "key"),
                          b.nodes[3].attrs, b.nodes[3].type)  # fmt: skip
        b.nodes.pop(2)
    outputs = ("out", "query") if obstacle == "read" else ("out",)
    graph = b.graph(*outputs)
    assert merge_qkv(graph, []) is graph


def test_layers_that_share_their_weights_share_the_merged_one() -> None:
    b = attention_block(widths=(4, 4))
    back = b.constant("back", normal(5, 4))
    x = b.add("linear", "out", back, activation="none")
    parts = []
    for name in ("query", "key", "value"):
        weights = (f"layer.0.{name}.weight", f"layer.0.{name}.bias")
        parts.append(b.add("linear", x, *weights, activation="none"))
    graph = b.graph(b.add("attention", *parts, heads=2, scale=0.5, causal=False))
    result = check(graph, merge_qkv(graph, []))
    assert sorted(result.constants) == [
        "back", "layer.0.query+key+value.bias", "layer.0.query+key+value.weight"
    ]  # fmt: skip


def test_names_that_have_little_in_common() -> None:
    assert merged_name(["a.q.weight", "a.k.weight"]) == "a.q+k.weight"
    assert merged_name(["q_0", "layer.k", "v"]) == "q_0+layer.k+v"


@pytest.mark.parametrize(
    "names",
    [("l.0.q.weight", "l.0.k.weight", "l.0.v.weight"), ("q_0", "layer.k", "v"), ("l.0.weight",)],
)
def test_the_names_behind_a_merged_one(names: tuple[str, ...]) -> None:
    assert merged_names(merged_name(list(names))) == names


# heads


@pytest.mark.parametrize("merged", [False, True])
def test_empty_heads_are_found_before_and_after_merging(merged: bool) -> None:
    b = attention_block(widths=(6, 6))
    arrays = {name: constant.value for name, constant in b.constants.items()}
    for name, rows in (("query", slice(0, 3)), ("value", slice(3, 6))):
        array = arrays[f"layer.0.{name}.weight"]
        assert isinstance(array, np.ndarray)
        array[rows] = 0
    projection = normal(5, 6)
    projection[:, :3] = 0
    b.add("linear", "out", b.constant("projection", projection), activation="none", name="y")
    graph = b.graph("y")
    (report,) = head_report(merge_qkv(graph, []) if merged else graph)
    assert report.empty == {"query": (0,), "key": (), "value": (1,), "output": (0,)}
    assert report.removable == (0, 1)
    assert report.describe() == "2 of 2 heads do nothing (0, 1)"


def test_heads_without_weights_are_reported_as_working() -> None:
    b = GraphBuilder()
    x = b.input("x", "f32[batch, seq, 4]")
    out = b.add("attention", x, x, x, heads=2, scale=1.0, causal=False)
    (report,) = head_report(b.graph(out))
    assert (report.empty, report.describe()) == ({}, "all 2 heads work")
