from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunus.ir import Graph, interpret, verify
from prunus.passes.elements import Elements
from prunus.passes.fold_constants import fold_constants
from prunus.passes.scalars import describe
from prunus.passes.simplify_masks import simplify_masks
from tests.graphs import (
    BATCH,
    LOWEST,
    MAX_SEQ,
    SEQ,
    GraphBuilder,
    chosen_mask,
    imported_mask,
    inverted_mask,
    short_mask,
)

LIMITS = {"seq": MAX_SEQ}


def attend(b: GraphBuilder, mask: str, *, causal: bool = False) -> str:
    """Attention of two heads over an input, under a mask."""
    x = "x" if "x" in b.inputs else b.input("x", "f32[batch, seq, 4]")
    return b.add("attention", x, x, x, mask, heads=2, scale=0.5, causal=causal)


def padding(b: GraphBuilder) -> str:
    return b.input("attention_mask", "i64[batch, seq]")


def arrays(graph: Graph, batch: int, seq: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Random inputs; of a padding mask a row is all hidden."""
    random = np.random.default_rng(seed)
    found: dict[str, np.ndarray] = {}
    for name, type in graph.inputs.items():
        shape = type.sizes({"batch": batch, "seq": seq})
        if type.is_float:
            found[name] = random.standard_normal(shape).astype(np.float32)
        else:
            found[name] = random.integers(0, 2, shape).astype(
                bool if type.dtype == "bool" else np.int64
            )
    if "attention_mask" in found:
        found["attention_mask"][0] = 0
    return found


def simplified(graph: Graph) -> Graph:
    """The graph after the pass: well formed, settled, and bit for bit of the same meaning."""
    result = verify(simplify_masks(graph, []))
    assert simplify_masks(result, []) is result
    for batch, seq in ((1, 1), (2, 5), (3, 4)):
        inputs = arrays(graph, batch, seq)
        for found, expected in zip(
            interpret(result, inputs), interpret(graph, inputs), strict=True
        ):
            np.testing.assert_array_equal(found, expected)
    return result


def lines(graph: Graph) -> list[str]:
    """Ops and types of the nodes."""
    return [f"{node.op} {node.type}" for node in graph.nodes]


def test_the_prologue_of_transformers_is_a_padding_mask() -> None:
    b = GraphBuilder()
    graph = simplified(b.graph(attend(b, imported_mask(b, padding(b)))))
    assert lines(graph) == [
        "cast bool[batch, seq]",
        "reshape bool[batch, 1, 1, seq]",
        "attention f32[batch, seq, 4]",
    ]


def test_layers_share_the_mask() -> None:
    b = GraphBuilder()
    mask = imported_mask(b, padding(b))
    first = attend(b, mask)
    second = b.add("attention", first, first, first, mask, heads=1, scale=0.5, causal=False)
    assert len(simplified(b.graph(second)).nodes) == 4


def test_a_causal_part_becomes_an_attribute() -> None:
    b = GraphBuilder()
    graph = simplified(b.graph(attend(b, imported_mask(b, padding(b), causal=True))))
    assert lines(graph)[:2] == ["cast bool[batch, seq]", "reshape bool[batch, 1, 1, seq]"]
    assert graph.nodes[-1].attrs.causal is True


def test_a_mask_that_is_only_causal_vanishes() -> None:
    b = GraphBuilder()
    positions = b.add("arange", length=SEQ, dtype="i64")
    mask = b.add("greater_equal", b.reshape(positions, 1, 1, SEQ, 1), positions)
    (node,) = simplified(b.graph(attend(b, mask))).nodes
    assert (len(node.inputs), node.attrs.causal) == (3, True)


def test_a_mask_that_hides_nothing_vanishes_and_causal_stays() -> None:
    b = GraphBuilder()
    rows = b.reshape(b.add("arange", length=SEQ, dtype="i64"), 1, 1, SEQ, 1)
    mask = b.expand(b.add("greater_equal", rows, b.full(0, "i64")), BATCH, 1, SEQ, SEQ)
    (node,) = simplified(b.graph(attend(b, mask, causal=True))).nodes
    assert (len(node.inputs), node.attrs.causal) == (3, True)


def test_a_short_mask_is_read_as_it_is() -> None:
    b = GraphBuilder()
    graph = simplified(b.graph(attend(b, short_mask(b, padding(b)))))
    assert lines(graph)[:2] == ["cast bool[batch, seq]", "reshape bool[batch, 1, 1, seq]"]


def test_an_additive_mask_loses_its_expansion() -> None:
    b = GraphBuilder()
    scores = b.input("scores", "f32[batch, 3, seq, seq]")
    total = b.add("add", scores, chosen_mask(b, padding(b)))
    graph = simplified(b.graph(b.add("softmax", total, axis=-1)))
    assert "where f32[batch, 1, 1, seq]" in lines(graph)
    assert len(graph.nodes) == 5


def test_an_inverted_mask_stays() -> None:
    b = GraphBuilder()
    scores = b.input("scores", "f32[batch, 3, seq, seq]")
    graph = fold_constants(b.graph(b.add("add", scores, inverted_mask(b, padding(b)))), [])
    assert simplify_masks(graph, []) is graph


def test_ids_of_one_number_need_not_be_expanded() -> None:
    """BERT without token types looks zeros up in a buffer of zeros."""
    b = GraphBuilder()
    words = b.constant("words", np.eye(9, 4, dtype=np.float32))
    types = b.constant("types", np.eye(2, 4, dtype=np.float32))
    positions = b.constant("position_ids", np.arange(MAX_SEQ)[np.newaxis])
    zeros = b.constant("token_type_ids", np.zeros((1, MAX_SEQ), np.int64))
    ids = b.add("slice", positions, axis=1, start=0, stop=SEQ, step=1)
    buffer = b.expand(zeros, BATCH, MAX_SEQ)
    looked_up = b.add("gather", buffer, b.expand(ids, BATCH, SEQ), axis=1)
    word_ids = b.input("input_ids", "i64[batch, seq]")
    graph = simplified(b.graph(
        b.add("embedding", words, word_ids, types, b.expand(looked_up, BATCH, SEQ)), limits=LIMITS
    ))  # fmt: skip
    assert [f"{node.op} {node.type}" for node in graph.nodes] == [
        "embedding f32[batch, seq, 4]"
    ]  # fmt: skip


@pytest.mark.parametrize(("length", "is_enough"), [(MAX_SEQ + 2, True), (MAX_SEQ + 1, False)])
def test_running_counts_stay_inside_what_is_long_enough(length: int, is_enough: bool) -> None:
    """RoBERTa looks its token types up by position ids, which count what is no padding."""
    b = GraphBuilder()
    ids = b.input("input_ids", "i64[batch, seq]")
    known = b.add("cast", b.scaled("not_equal", ids, 1), dtype="i32")
    counts = b.add("cumsum", b.add("cast", known, dtype="i64"), axis=1)
    counts = b.add("multiply", b.add("cast", counts, dtype="i32"), known)
    positions = b.scaled("add", b.add("cast", counts, dtype="i64"), 1)
    buffer = b.expand(b.constant("zeros", np.zeros((1, length), np.int64)), BATCH, length)
    types = b.constant("types", np.eye(2, 4, dtype=np.float32))
    words = b.constant("words", np.eye(9, 4, dtype=np.float32))
    looked_up = b.add("gather", buffer, positions, axis=1)
    graph = simplified(b.graph(b.add("embedding", words, ids, types, looked_up), limits=LIMITS))
    assert ("gather" not in {node.op for node in graph.nodes}) == is_enough


def test_an_index_that_may_lie_outside_is_kept() -> None:
    """A look-up is replaced only where it is proved to stay inside: the error must stay too."""
    b = GraphBuilder()
    b.input("x", "f32[batch, seq, 4]")
    mask = b.input("table", "bool[batch, length]")
    keys = b.reshape(b.add("arange", length=SEQ, dtype="i64"), 1, 1, 1, SEQ)
    rows = b.reshape(b.add("arange", length=BATCH, dtype="i64"), BATCH, 1, 1, 1)
    graph = b.graph(attend(b, b.add("index", mask, rows, keys)))
    assert simplify_masks(graph, []) is graph


def test_a_slice_within_the_limit_is_seen_through_and_another_is_not() -> None:
    for limits, count in ((LIMITS, 1), ({"seq": MAX_SEQ + 1}, 2), ({}, 2)):
        b = GraphBuilder()
        ones = b.constant("ones", np.ones((1, 1, 1, MAX_SEQ), bool))
        part = b.add("slice", ones, axis=3, start=0, stop=SEQ, step=1)
        graph = b.graph(attend(b, b.expand(part, BATCH, 1, SEQ, SEQ)), limits=limits)
        assert len(verify(simplify_masks(graph, [])).nodes) == count


def test_the_expression_of_an_element_reads_well() -> None:
    b = GraphBuilder()
    graph = b.graph(imported_mask(b, padding(b), causal=True))
    elements = Elements(graph.types(), graph.constants, graph.producers(), {})
    assert describe(elements.of(graph.outputs[0])) == (
        "and(greater_equal(k, l), bool(attention_mask[i, l]))"
    )


def test_an_expression_that_doubles_at_each_step_is_cut_off() -> None:
    b = GraphBuilder()
    mask = b.reshape(padding(b), BATCH, 1, 1, SEQ)
    for _ in range(60):
        mask = b.add("add", mask, mask)
    graph = b.graph(attend(b, b.add("cast", b.expand(mask, BATCH, 1, SEQ, SEQ), dtype="bool")))
    verify(simplify_masks(graph, []))


# Random masks: every leaf is a spelling of something with axes for batch, 1, queries and keys.

Leaf = Callable[[GraphBuilder], str]


def positions(b: GraphBuilder, axis: int) -> str:
    """The index along an axis of four, 2 for queries and 3 for keys."""
    shape = (SEQ if each == axis else 1 for each in range(4))
    return b.reshape(b.add("arange", length=SEQ, dtype="i64"), *shape)


def leaf_known(b: GraphBuilder) -> str:
    rows = b.reshape(b.add("arange", length=BATCH, dtype="i64"), BATCH, 1, 1, 1)
    return b.add("cast", b.add("index", "attention_mask", rows, positions(b, 3)), dtype="bool")


def leaf_gathered(b: GraphBuilder) -> str:
    """The padding mask at every key, by gather and from behind."""
    keys = b.expand(b.reshape(positions(b, 3), 1, SEQ), BATCH, SEQ)
    found = b.add("gather", b.permute(b.permute("attention_mask", 1, 0), 1, 0), keys, axis=1)
    return b.add("cast", b.reshape(found, BATCH, 1, 1, SEQ), dtype="bool")


def leaf_first(b: GraphBuilder) -> str:
    """Whether the first token of a sequence is seen, for each sequence."""
    first = b.add("select", "attention_mask", axis=1, index=0)
    return b.add("equal", b.reshape(first, BATCH, 1, 1, 1), b.full(0, "i64"))


def leaf_queries(b: GraphBuilder) -> str:
    turned = b.permute(b.reshape("attention_mask", BATCH, 1, 1, SEQ), 0, 1, 3, 2)
    return b.add("not_equal", turned, b.full(0, "i64"))


def leaf_pairs(b: GraphBuilder) -> str:
    return b.permute("pairs", 0, 1, 3, 2)


def leaf_causal(b: GraphBuilder) -> str:
    return b.add("less_equal", positions(b, 3), positions(b, 2))


def leaf_window(b: GraphBuilder) -> str:
    distance = b.add("abs", b.add("subtract", positions(b, 2), positions(b, 3)))
    return b.add("less", distance, b.full(2, "i64"))


def leaf_always(b: GraphBuilder) -> str:
    shifted = b.scaled("add", positions(b, 2), 3)
    return b.scaled("greater_equal", b.add("add", shifted, positions(b, 3)), 0)


def leaf_never(b: GraphBuilder) -> str:
    return b.add("greater", positions(b, 2), positions(b, 2))


def leaf_table(b: GraphBuilder) -> str:
    table = np.random.default_rng(3).random((1, 1, MAX_SEQ, MAX_SEQ)) < 0.5
    part = b.add("slice", b.constant(f"table_{len(b.nodes)}", table), axis=2, start=0, stop=SEQ,
                 step=1)  # fmt: skip
    return b.add("slice", part, axis=3, start=0, stop=SEQ, step=1)


def leaf_ones(b: GraphBuilder) -> str:
    return b.full(True, "bool", (BATCH, 1, SEQ, 1))


LEAVES: tuple[Leaf, ...] = (
    leaf_known, leaf_gathered, leaf_first, leaf_queries, leaf_pairs, leaf_causal, leaf_window,
    leaf_always, leaf_never, leaf_table, leaf_ones,
)  # fmt: skip


def combined(name: str, left: Leaf, right: Leaf) -> Leaf:
    def build(b: GraphBuilder) -> str:
        one, other = left(b), right(b)
        if name in ("and", "or", "equal"):
            return b.add(name, one, other)
        return b.add("where", one, other, b.add("not", one))

    return build


def changed(name: str, inner: Leaf) -> Leaf:
    def build(b: GraphBuilder) -> str:
        x = inner(b)
        match name:
            case "not":
                return b.add("not", x)
            case "expand":
                return b.expand(x, BATCH, 1, SEQ, SEQ)
            case "cast":
                return b.add("cast", b.add("cast", x, dtype="i64"), dtype="bool")
            case "float":
                return b.scaled("not_equal", b.add("cast", x, dtype="f32"), 0.0)
        shape = b.types[x].shape
        return b.reshape(b.reshape(x, shape[0], 1, 1, *shape[2:], 1), *shape)

    return build


MASKS = st.recursive(
    st.sampled_from(LEAVES),
    lambda inner: st.one_of(
        st.builds(combined, st.sampled_from(["and", "or", "equal", "where"]), inner, inner),
        st.builds(changed, st.sampled_from(["not", "expand", "cast", "float", "reshape"]), inner),
    ),
    max_leaves=6,
)


def read_whole(b: GraphBuilder, reader: str, mask: str) -> str:
    """What needs the axes of a mask at their full length."""
    numbers = b.add("cast", mask, dtype="i64")
    match reader:
        case "sum":
            return b.add("sum", numbers, axes=(2, 3), keep=False)
        case "concat":
            return b.add("concat", numbers, numbers, axis=2)
        case "cumsum":
            return b.add("cumsum", numbers, axis=3)
        case "gather":
            zeros = b.full(0, "i64", (BATCH, 1, SEQ, SEQ))
            return b.add("gather", numbers, zeros, axis=3)
    return b.add("slice", numbers, axis=3, start=SEQ - 1, stop=SEQ, step=1)


READERS = ("attention", "where", "add", "sum", "concat", "cumsum", "gather", "slice", "output")


@given(MASKS, st.sampled_from(READERS), st.integers(1, 3), st.integers(1, 5))
def test_any_mask_keeps_its_meaning_bit_for_bit(
    mask: Leaf, reader: str, batch: int, seq: int
) -> None:
    b = GraphBuilder()
    padding(b)
    b.input("pairs", "bool[batch, 1, seq, seq]")
    b.input("scores", "f32[batch, 2, seq, seq]")
    built = mask(b)
    match reader:
        case "attention":
            output = attend(b, built)
        case "where":
            output = b.add("tanh", b.add("where", built, "scores", b.full(float("-inf"))))
        case "output":
            output = built
        case "sum" | "concat" | "cumsum" | "gather" | "slice":
            output = read_whole(b, reader, b.expand(built, BATCH, 1, SEQ, SEQ))
        case _:
            added = b.add("where", built, b.full(0.0), b.full(LOWEST))
            output = b.add("softmax", b.add("add", "scores", added), axis=-1)
    graph = b.graph(output, limits=LIMITS)
    result = verify(simplify_masks(graph, []))
    assert simplify_masks(result, []) is result
    assert len(result.nodes) <= len(graph.nodes)
    for seed in range(2):
        inputs = arrays(graph, batch, seq, seed)
        np.testing.assert_array_equal(interpret(result, inputs)[0], interpret(graph, inputs)[0])


@pytest.mark.parametrize("leaf", LEAVES)
def test_each_spelling_alone(leaf: Leaf) -> None:
    b = GraphBuilder()
    padding(b)
    b.input("pairs", "bool[batch, 1, seq, seq]")
    simplified(b.graph(attend(b, b.expand(leaf(b), BATCH, 1, SEQ, SEQ)), limits=LIMITS))
