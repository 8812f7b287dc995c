"""The passes that need few lines each, on graphs of a few nodes."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from prunus.ir import Graph, interpret, verify
from prunus.passes import Notes, Pass
from prunus.passes.cancel_shapes import cancel_shapes
from prunus.passes.fold_constants import fold_constants
from prunus.passes.fold_scales import fold_scales
from prunus.passes.fold_transposes import fold_transposes
from prunus.passes.fuse_embeddings import fuse_embeddings
from prunus.passes.fuse_epilogues import fuse_epilogues
from prunus.passes.fuse_norms import fuse_norms
from prunus.passes.fuse_rotary import fuse_rotary
from prunus.passes.share_equal import share_equal
from prunus.passes.sink_permutes import sink_permutes
from tests.graphs import (
    BATCH,
    SEQ,
    GraphBuilder,
    split_heads,
    written_gelu,
    written_gelu_tanh,
    written_silu,
)

RANDOM = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


def after(each: Pass, graph: Graph) -> Graph:
    """The graph after a pass: well formed, of the same meaning, and not to be changed again."""
    notes: Notes = []
    result = verify(each(graph, notes))
    assert bool(notes) == (result is not graph)
    assert each(result, []) is result
    sizes = {"batch": 2, "seq": 3, "n": 4}
    inputs = {
        name: normal(*type.sizes(sizes)) if type.is_float else np.ones(type.sizes(sizes), np.int64)
        for name, type in graph.inputs.items()
    }
    for found, expected in zip(
        interpret(result, inputs, precise=True), interpret(graph, inputs, precise=True), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    return result


def ops(graph: Graph) -> list[str]:
    return [node.op for node in graph.nodes]


# fold_constants


def test_nodes_of_constants_are_computed_once() -> None:
    b = GraphBuilder()
    stacked = b.constant("in_proj_weight", normal(6, 4))
    part = b.add("slice", stacked, axis=0, start=2, stop=4, step=1)
    added = b.add("add", part, b.full(2.0))
    positions = b.add("arange", length=2, dtype="i64")
    graph = after(fold_constants, b.graph(added, b.add("multiply", positions, positions)))
    assert ops(graph) == []
    assert graph.outputs == ("in_proj_weight.slice.add", "multiply_4.value")
    np.testing.assert_array_equal(graph.constants["multiply_4.value"].dense(), [0, 1])


def test_numbers_are_computed_and_named_after_themselves() -> None:
    b = GraphBuilder()
    half = b.scaled("multiply", b.full(0.25), 2.0)
    graph = after(fold_constants, b.graph(b.add("multiply", b.input("x", "f32[n]"), half),
                                          b.full(True, "bool", (1, 1))))  # fmt: skip
    assert graph.nodes[0].inputs == ("x", "multiply_2.value")
    assert graph.constants["multiply_2.value"].type.shape == ()
    assert graph.outputs[1] == "bool:True"


def test_large_expansions_symbols_and_lone_makers_stay() -> None:
    b = GraphBuilder()
    row = b.constant("row", normal(1, 20))
    b.input("x", "f32[batch, 2]")
    kept = (
        b.expand(row, 10**6, 20),
        b.add("arange", length=5, dtype="i64"),
        b.expand(row, BATCH, 20),
        b.full(1.0, shape=(3,)),
        b.permute(row, 1, 0),
        b.add("slice", row, axis=1, start=SEQ, stop=SEQ + 2, step=1),
    )
    b.input("y", "f32[seq]")
    graph = b.graph(*kept)
    assert fold_constants(graph, []) is graph


def test_an_index_out_of_range_is_left_to_who_runs_the_model() -> None:
    b = GraphBuilder()
    graph = b.graph(b.add("index", b.constant("x", normal(3)), b.constant("i", np.array([5]))))
    assert fold_constants(graph, []) is graph


@pytest.mark.parametrize(
    "build",
    [
        lambda b: b.reshape("x", BATCH, SEQ, 4),
        lambda b: b.expand("x", BATCH, SEQ, 4),
        lambda b: b.add("cast", "x", dtype="f32"),
        lambda b: b.permute("x", 0, 1, 2),
        lambda b: b.add("slice", "x", axis=1, start=0, stop=SEQ, step=1),
        lambda b: b.add("slice", "x", axis=-1, start=0, stop=4, step=1),
        lambda b: b.add("concat", "x", axis=1),
        lambda b: b.scaled("add", "x", 0.0),
        lambda b: b.add("add", b.full(0.0), "x"),
        lambda b: b.scaled("subtract", "x", 0.0),
        lambda b: b.scaled("multiply", "x", 1.0),
        lambda b: b.scaled("divide", "x", 1.0),
        lambda b: b.scaled("power", "x", 1.0),
        lambda b: b.add("multiply", b.constant("one", np.ones((1, 1), np.float32)), "x"),
    ],
)
def test_what_does_nothing_is_removed(build: Callable[[GraphBuilder], str]) -> None:
    b = GraphBuilder()
    b.input("x", "f32[batch, seq, 4]")
    graph = after(fold_constants, b.graph(b.add("tanh", build(b)), build(b)))
    assert [(node.op, node.inputs) for node in graph.nodes] == [("tanh", ("x",))]
    assert graph.outputs[1] == "x"


@pytest.mark.parametrize(
    "build",
    [
        lambda b: b.add("subtract", b.full(0.0), "x"),
        lambda b: b.add("divide", b.full(1.0), "x"),
        lambda b: b.add("power", b.full(1.0), "x"),
        lambda b: b.permute("x", 1, 0),
        lambda b: b.add("add", "x", b.full(0.0, shape=(2, 4, 4))),
        lambda b: b.add("slice", "x", axis=1, start=0, stop=4, step=2),
        lambda b: b.add("cast", "x", dtype="bool"),
    ],
)
def test_what_does_something_stays(build: Callable[[GraphBuilder], str]) -> None:
    b = GraphBuilder()
    b.input("x", "f32[4, 4]")
    graph = b.graph(build(b))
    result = after(fold_constants, graph)
    assert [node.op for node in graph.nodes if node.type.shape] == ops(result)


def test_a_tensor_of_one_number_is_made_in_its_last_shape() -> None:
    b = GraphBuilder()
    b.input("x", "f32[batch, seq]")
    zero = b.add("cast", b.reshape(b.full(2.5, shape=(SEQ,)), 1, SEQ), dtype="i64")
    graph = after(fold_constants, b.graph(b.expand(zero, BATCH, SEQ)))
    assert [str(node.attrs["value"]) for node in graph.nodes] == ["2"]
    assert str(graph.nodes[0].type) == "i64[batch, seq]"


def test_truth_is_neutral_and_negating_twice_too() -> None:
    b = GraphBuilder()
    truth = b.add("greater", b.input("x", "f32[batch]"), b.full(0.0))
    kept = b.add("and", b.full(True, "bool"), b.add("or", truth, b.full(False, "bool")))
    graph = after(fold_constants, b.graph(b.add("not", b.add("not", kept))))
    assert ops(graph) == ["greater"]


# share_equal


def test_equal_nodes_are_shared_and_lookalikes_are_not() -> None:
    b = GraphBuilder()
    b.input("x", "f32[batch]")
    twins = [b.add("exp", b.add("tanh", "x")) for _ in range(3)]
    ones = [b.full(1, "i64"), b.full(True, "bool"), b.full(1.0), b.full(1.0)]
    graph = after(share_equal, b.graph(*twins, *ones))
    assert ops(graph) == ["tanh", "exp", "full", "full", "full"]
    assert len(set(graph.outputs)) == 4


# fold_transposes


def test_a_transposed_weight_is_the_weight_of_a_linear_layer() -> None:
    b = GraphBuilder()
    b.input("x", "f32[batch, seq, 4]")
    weight, bias = b.constant("layer.weight", normal(3, 4)), b.constant("layer.bias", normal(3))
    product = b.add("matmul", "x", b.permute(weight, 1, 0))
    graph = after(fold_transposes, b.graph(b.add("add", bias, product)))
    (node,) = graph.nodes
    assert (node.op, node.inputs) == ("linear", ("x", "layer.weight", "layer.bias"))


def test_a_constant_on_the_right_is_transposed_once_even_if_two_layers_share_it() -> None:
    b = GraphBuilder()
    b.input("x", "f32[batch, 4]")
    weight = b.constant("w", normal(4, 4))
    graph = after(fold_transposes, b.graph(b.add("matmul", b.add("matmul", "x", weight), weight)))
    assert [node.inputs[1] for node in graph.nodes] == ["w.T", "w.T"]
    np.testing.assert_array_equal(
        graph.constants["w.T"].dense(), np.transpose(b.constants["w"].dense())
    )


def test_other_products_and_sums_stay() -> None:
    b = GraphBuilder()
    b.input("x", "f32[batch, 5, 4]")
    cube = b.add("matmul", "x", b.constant("cube", normal(2, 4, 3)[:1]))
    whole = b.add("matmul", b.input("n", "i64[5, 4]"), b.constant("i", np.ones((4, 3), np.int64)))
    wide = b.add("linear", b.input("y", "f32[batch, 1]"), b.constant("w", normal(1, 1)),
                 activation="none")  # fmt: skip
    wide = b.add("add", wide, b.constant("bias", normal(4)))
    relu = b.add("linear", "x", b.constant("v", normal(3, 4)), activation="relu")
    relu = b.add("add", relu, b.constant("c", normal(3)))
    graph = b.graph(cube, whole, wide, relu)
    assert fold_transposes(graph, []) is graph


def test_permuted_constants_are_permuted_here() -> None:
    b = GraphBuilder()
    bias = b.permute(b.constant("bias", normal(3, 2, 4)), 2, 0, 1)
    graph = after(fold_transposes, b.graph(b.add("add", b.input("x", "f32[batch, 4, 3, 2]"), bias)))
    assert graph.nodes[0].inputs == ("x", "bias.permute")


def test_a_bias_with_leading_ones_is_a_bias() -> None:
    b = GraphBuilder()
    layer = b.add("linear", b.input("x", "f32[batch, seq, 4]"), b.constant("w", normal(3, 4)),
                  activation="none")  # fmt: skip
    graph = after(fold_transposes, b.graph(b.add("add", layer, b.constant("b", normal(1, 1, 3)))))
    assert [node.inputs for node in graph.nodes] == [("x", "w", "b.flat")]


# fuse_embeddings


def test_a_sum_of_embeddings_is_one_and_its_ids_broadcast() -> None:
    b = GraphBuilder()
    words = b.add("embedding", b.constant("words", normal(5, 4)), b.input("ids", "i64[batch, seq]"))
    positions = b.add("slice", b.constant("p", np.arange(9)[np.newaxis]), axis=1, start=0, stop=SEQ,
                      step=1)  # fmt: skip
    place = b.add("embedding", b.constant("places", normal(9, 4)), positions)
    types = b.add("embedding", b.constant("types", normal(2, 4)), "ids")
    graph = after(fuse_embeddings, b.graph(b.add("add", b.add("add", words, types), place)))
    assert ops(graph) == ["slice", "embedding"]
    assert graph.nodes[1].inputs == ("words", "ids", "types", "ids", "places", positions)


def test_an_embedding_that_is_read_elsewhere_stays() -> None:
    b = GraphBuilder()
    table = b.constant("words", normal(5, 4))
    one = b.add("embedding", table, b.input("ids", "i64[batch]"))
    other = b.add("embedding", b.constant("narrow", normal(5, 1)), "ids")
    graph = b.graph(b.add("add", one, b.add("embedding", table, "ids")), b.add("add", one, other))
    assert fuse_embeddings(graph, []) is graph


# cancel_shapes


def test_splitting_and_joining_heads_is_nothing() -> None:
    b = GraphBuilder()
    split = split_heads(b, b.input("x", "f32[batch, seq, 12]"), 3)
    joined = b.reshape(b.permute(split, 0, 2, 1, 3), BATCH, SEQ, 12)
    graph = after(cancel_shapes, b.graph(b.add("tanh", joined)))
    assert [node.inputs for node in graph.nodes] == [("x",)]


def test_chains_of_shape_ops_are_one() -> None:
    b = GraphBuilder()
    b.input("x", "f32[batch, seq, 4]")
    turned = b.permute(b.permute("x", 2, 0, 1), 0, 2, 1)
    shaped = b.reshape(b.reshape("x", BATCH, SEQ * 4), BATCH * SEQ, 2, 2)
    spread = b.expand(b.expand(b.reshape("x", 1, BATCH, SEQ, 4), 5, BATCH, SEQ, 4),
                      5, BATCH, SEQ, 4)  # fmt: skip
    graph = after(cancel_shapes, b.graph(turned, shaped, spread))
    assert sorted(ops(graph)) == ["expand", "permute", "reshape", "reshape"]


def test_moving_an_axis_of_length_one_is_a_reshape() -> None:
    b = GraphBuilder()
    b.input("x", "f32[batch, 1, seq, 4]")
    graph = after(cancel_shapes, b.graph(b.permute("x", 0, 2, 1, 3), b.permute("x", 0, 1, 3, 2)))
    assert ops(graph) == ["reshape", "permute"]


def test_a_layer_between_reshapes_needs_none() -> None:
    b = GraphBuilder()
    b.input("x", "f32[batch, seq, 4]")
    weight, bias = b.constant("w", normal(3, 4)), b.constant("b", normal(3))
    flat = b.reshape("x", BATCH * SEQ, 4)
    layer = b.add("linear", flat, weight, bias, activation="relu")
    graph = after(cancel_shapes, b.graph(b.reshape(layer, BATCH, SEQ, 3)))
    assert [node.inputs for node in graph.nodes] == [("x", "w", "b")]


def test_a_layer_whose_reshapes_do_more_keeps_them() -> None:
    b = GraphBuilder()
    b.input("x", "f32[batch, 6, 4]")
    weight = b.constant("w", normal(8, 8))
    layer = b.add("linear", b.reshape("x", BATCH * 3, 8), weight, activation="none")
    kept = b.reshape(layer, BATCH, 6, 4)
    graph = b.graph(kept)
    assert cancel_shapes(graph, []) is graph


# fuse_epilogues


@pytest.mark.parametrize(
    ("written", "name"),
    [(written_gelu, "gelu"), (written_gelu_tanh, "gelu_tanh"), (written_silu, "silu")],
)
def test_activations_written_out_are_recognised(
    written: Callable[[GraphBuilder, str], str], name: str
) -> None:
    b = GraphBuilder()
    graph = after(fuse_epilogues, b.graph(written(b, b.input("x", "f32[batch, 4]"))))
    assert ops(graph) == [name]


@pytest.mark.parametrize("spelling", ["product", "factor", "outside", "constants"])
def test_gelu_is_recognised_however_it_is_associated(spelling: str) -> None:
    b = GraphBuilder()
    b.input("x", "f32[batch, 4]")
    one = b.full(1.0)
    erf = b.add("add", one, b.add("erf", b.scaled("multiply", "x", math.sqrt(0.5))))
    match spelling:
        case "product":
            y = b.add("multiply", erf, b.scaled("multiply", "x", 0.5))
        case "factor":
            y = b.add("multiply", "x", b.scaled("multiply", erf, 0.5))
        case "outside":
            y = b.scaled("multiply", b.add("multiply", erf, "x"), 0.5)
        case _:
            half = b.constant("half", np.full((1,), 0.5, np.float32))
            y = b.add("multiply", b.add("multiply", half, "x"), erf)
    assert ops(after(fuse_epilogues, b.graph(y))) == ["gelu"]


def test_fast_gelu_and_cubes_by_products_are_recognised() -> None:
    b = GraphBuilder()
    b.input("x", "f32[batch, 4]")
    square = b.add("multiply", b.scaled("multiply", "x", 0.044715), "x")
    inner = b.add("multiply", b.scaled("multiply", "x", 0.7978845608), b.scaled("add", square, 1.0))
    factor = b.scaled("add", b.add("tanh", inner), 1.0)
    fast = b.add("multiply", b.scaled("multiply", "x", 0.5), factor)
    cube = b.add("multiply", b.add("multiply", "x", "x"), "x")
    inner = b.add("add", "x", b.scaled("multiply", cube, 0.044715))
    factor = b.scaled("add", b.add("tanh", b.scaled("multiply", inner, 0.79788456)), 1.0)
    by_products = b.add("multiply", b.scaled("multiply", "x", 0.5), factor)
    relu = b.scaled("maximum", "x", 0.0)
    graph = after(fuse_epilogues, b.graph(fast, by_products, relu))
    assert ops(graph) == ["gelu_tanh", "gelu_tanh", "relu"]


def layer(b: GraphBuilder, x: str, name: str = "w") -> str:
    outputs = b.types[x].shape[-1]
    assert isinstance(outputs, int)
    return b.add("linear", x, b.constant(name, normal(outputs, outputs)), activation="none")


def test_activation_and_residual_go_into_the_layer() -> None:
    b = GraphBuilder()
    x = b.input("x", "f32[batch, 4]")
    b.add("add", x, b.add("gelu", layer(b, x)), name="y")
    (node,) = after(fuse_epilogues, b.graph("y")).nodes
    assert (node.name, node.inputs, node.attrs.activation) == ("y", ("x", "w", None, "x"), "gelu")


def test_of_two_layers_that_are_added_one_takes_the_other() -> None:
    b = GraphBuilder()
    x = b.input("x", "f32[batch, 4]")
    graph = after(fuse_epilogues, b.graph(b.add("add", layer(b, x), layer(b, x, "v"))))
    assert ops(graph) == ["linear", "linear"]


def test_what_cannot_be_an_epilogue_stays() -> None:
    b = GraphBuilder()
    x = b.input("x", "f32[batch, 4]")
    twice = layer(b, x, "twice")
    after_residual = b.add("tanh", b.add("add", layer(b, x), x))
    broadcast = b.add("add", layer(b, b.input("row", "f32[1, 4]"), "v"), x)
    graph = b.graph(
        b.add("tanh", twice), b.add("add", twice, x), b.add("relu", b.add("relu", twice)),
        after_residual, broadcast,
    )  # fmt: skip
    result = after(fuse_epilogues, graph)
    assert ops(result).count("linear") == 3
    assert ops(result).count("tanh") == 2
    assert ops(result).count("add") == 2


def test_only_one_activation_and_one_residual_fit() -> None:
    b = GraphBuilder()
    x = b.input("x", "f32[batch, 4]")
    y = b.add("add", b.add("add", b.add("tanh", b.add("relu", layer(b, x))), x), x)
    graph = after(fuse_epilogues, b.graph(y))
    assert ops(graph) == ["linear", "tanh", "add", "add"]
    assert graph.nodes[0].attrs.activation == "relu"


def ops_of(graph: Graph) -> list[str]:
    return [node.op for node in graph.nodes]


@pytest.mark.parametrize("has_bias", [False, True])
def test_a_layer_scale_goes_into_the_layer(has_bias: bool) -> None:
    b = GraphBuilder()
    x, weight = b.input("x", "f32[batch, seq, 4]"), b.constant("w", normal(3, 4))
    bias = b.constant("bias", normal(3)) if has_bias else None
    layer = b.add("linear", x, weight, bias, activation="none")
    graph = b.graph(b.add("multiply", b.constant("scale", normal(3)), layer))
    result = after(fold_scales, graph)
    assert ops_of(result) == ["linear"]
    assert not np.array_equal(result.constants["w.scaled"].dense(), normal(3, 4))


@pytest.mark.parametrize("case", ["over tokens", "read twice", "activation"])
def test_a_scale_that_stays(case: str) -> None:
    b = GraphBuilder()
    x, weight = b.input("x", "f32[batch, 3, 4]"), b.constant("w", normal(3, 4))
    layer = b.add("linear", x, weight, activation="relu" if case == "activation" else "none")
    factor = b.constant("scale", normal(3, 1) if case == "over tokens" else normal(3))
    scaled = b.add("multiply", layer, factor)
    graph = b.graph(scaled, *([layer] if case == "read twice" else []))
    assert fold_scales(graph, []) is graph


@pytest.mark.parametrize("axis", [2, 1])
def test_a_root_mean_square_norm_is_one_op(axis: int) -> None:
    b = GraphBuilder()
    x = b.input("x", "f32[batch, 4, 4]")
    square = b.add("power", x, b.constant("two", np.array(2, np.float32)))
    mean = b.add("mean", square, axes=(axis,), keep=True)
    root = b.add("rsqrt", b.add("add", mean, b.constant("eps", np.array(1e-6, np.float32))))
    normed = b.add("multiply", b.constant("gamma", normal(4)), b.add("multiply", x, root))
    graph = b.graph(normed)
    if axis == 2:
        assert ops_of(after(fuse_norms, graph)) == ["rms_norm"]
    else:
        assert fuse_norms(graph, []) is graph


@pytest.mark.parametrize("swapped", [False, True])
def test_a_rotation_is_one_op(swapped: bool) -> None:
    b = GraphBuilder()
    x = b.input("x", "f32[batch, 3, seq, 6]")
    angles = b.input("angles", "f32[1, 1, seq, 6]")
    halves = [b.add("slice", x, axis=3, start=at, stop=at + 3, step=1) for at in (0, 3)]
    if swapped:  # not what a rotation is: the front is negated
        halves.reverse()
    turned = b.add("concat", b.add("negate", halves[1]), halves[0], axis=3)
    cos, sin = (b.add(name, angles) for name in ("cos", "sin"))
    graph = b.graph(b.add("add", b.add("multiply", x, cos), b.add("multiply", turned, sin)))
    if swapped:
        assert fuse_rotary(graph, []) is graph
    else:
        assert "rotary" in ops_of(after(fuse_rotary, graph))


def test_permutations_sink_until_they_cancel() -> None:
    b = GraphBuilder()
    x, y = (b.input(name, "f32[batch, seq, 6]") for name in "xy")
    turned = [b.add("permute", each, axes=(0, 2, 1)) for each in (x, y)]
    total = b.add("gelu", b.add("add", *turned))
    split = b.reshape(total, BATCH, 2, 3, SEQ)
    graph = b.graph(b.add("permute", split, axes=(0, 3, 1, 2)))
    result = cancel_shapes(after(sink_permutes, graph), [])
    assert ops_of(result) == ["add", "gelu", "reshape"]


@pytest.mark.parametrize("case", ["other orders", "mixed axes"])
def test_permutations_that_stay(case: str) -> None:
    b = GraphBuilder()
    x = b.input("x", "f32[3, 3, 3]")
    turned = b.add("permute", x, axes=(0, 2, 1))
    if case == "other orders":
        graph = b.graph(b.add("add", turned, b.add("permute", x, axes=(1, 0, 2))))
    else:
        graph = b.graph(b.reshape(turned, 9, 3))
    assert sink_permutes(graph, []) is graph
