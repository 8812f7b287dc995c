"""All passes together, on an encoder as a front end imports it."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given

from prunus import passes
from prunus.errors import GraphError
from prunus.ir import Graph, interpret
from prunus.passes import PASSES, Notes, PassRecord, run_passes
from tests.graphs import (
    BATCH,
    MAX_SEQ,
    SEQ,
    Case,
    GraphBuilder,
    chosen_mask,
    eager_attention,
    graphs,
    imported_attention,
    imported_mask,
    of_visible,
    written_gelu_tanh,
)

WIDTH, HEADS, INNER = 16, 2, 32


class Encoder:
    """BERT for question answering with one layer, node by node as `torch.export` gives it."""

    def __init__(self) -> None:
        self.b = GraphBuilder()
        self.random = np.random.default_rng(0)

    def weight(self, name: str, *shape: int) -> str:
        array = self.random.standard_normal(shape).astype(np.float32)
        if len(shape) == 2:
            array[self.random.random(shape) < 0.8] = 0
        return self.b.constant(name, array)

    def linear(self, x: str, name: str, outputs: int) -> str:
        inputs = self.b.types[x].shape[-1]
        assert isinstance(inputs, int)
        weight = self.weight(f"{name}.weight", outputs, inputs)
        bias = self.weight(f"{name}.bias", outputs)
        return self.b.add("linear", x, weight, bias, activation="none")

    def norm(self, x: str, name: str) -> str:
        gamma, beta = (self.weight(f"{name}.{each}", WIDTH) for each in ("weight", "bias"))
        return self.b.add("layer_norm", x, gamma, beta, eps=1e-12)

    def embed(self) -> str:
        b = self.b
        positions = b.constant("position_ids", np.arange(MAX_SEQ)[np.newaxis])
        parts = {
            "word": b.input("input_ids", "i64[batch, seq]"),
            "token_type": b.input("token_type_ids", "i64[batch, seq]"),
            "position": b.add("slice", positions, axis=1, start=0, stop=SEQ, step=1),
        }
        words, types, places = (
            b.add("embedding", self.weight(f"{name}_embeddings.weight", MAX_SEQ, WIDTH), ids)
            for name, ids in parts.items()
        )
        return self.norm(b.add("add", b.add("add", words, types), places), "LayerNorm")

    def graph(self, *, eager: bool) -> Graph:
        b, x = self.b, self.embed()
        padding = b.input("attention_mask", "i64[batch, seq]")
        mask = (chosen_mask if eager else imported_mask)(b, padding)
        parts = [self.linear(x, f"layer.0.self.{n}", WIDTH) for n in ("query", "key", "value")]
        attend = eager_attention if eager else imported_attention
        mixed = attend(b, parts[0], parts[1], parts[2], mask, HEADS, 0.25)
        x = self.norm(b.add("add", self.linear(mixed, "layer.0.dense", WIDTH), x), "layer.0.norm")
        inner = self.linear(x, "layer.0.inner", INNER)
        inner = written_gelu_tanh(b, inner) if eager else b.add("gelu", inner)
        x = self.norm(b.add("add", self.linear(inner, "layer.0.outer", WIDTH), x), "layer.0.last")
        logits = self.linear(x, "qa_outputs", 2)
        ends = [b.add("slice", logits, axis=2, start=i, stop=i + 1, step=1) for i in (0, 1)]
        return b.graph(*(b.reshape(end, BATCH, SEQ) for end in ends), limits={"seq": MAX_SEQ})


def inputs() -> dict[str, np.ndarray]:
    random = np.random.default_rng(1)
    mask = np.ones((2, 7), np.int64)
    mask[0, 3:] = mask[1] = 0
    return {
        "input_ids": random.integers(0, MAX_SEQ, (2, 7)),
        "token_type_ids": random.integers(0, 2, (2, 7)),
        "attention_mask": mask,
    }


@pytest.mark.parametrize("eager", [False, True])
def test_an_encoder_is_what_its_kernels_are(eager: bool) -> None:
    graph = Encoder().graph(eager=eager)
    result = run_passes(graph)
    layer = ["linear", "slice", "slice", "slice", "attention", "linear", "layer_norm", "linear",
             "linear", "layer_norm"]  # fmt: skip
    mask = ["cast", "reshape", *(["where"] if eager else [])]
    last = ["linear", "slice", "slice", "reshape", "reshape"]
    assert [node.op for node in result.nodes] == [
        "slice", "embedding", "layer_norm", *mask, *layer, *last
    ]  # fmt: skip
    before, after = (interpret(each, inputs(), precise=True) for each in (graph, result))
    np.testing.assert_allclose(after, before, rtol=1e-6, atol=1e-6)


def test_constants_keep_their_names() -> None:
    result = run_passes(Encoder().graph(eager=False))
    assert {name for name in result.constants if name.startswith("layer.0")} == {
        f"layer.0.{part}.{kind}"
        for part in ("self.query+key+value", "dense", "norm", "inner", "outer", "last")
        for kind in ("weight", "bias")
    }


@given(graphs())
def test_passes_keep_the_meaning_and_settle(case: Case) -> None:
    before = interpret(case.graph, case.inputs, precise=True)
    result = run_passes(case.graph)
    after = interpret(result, case.inputs, precise=True)
    for expected, found in zip(before, after, strict=True):
        found, expected = (of_visible(each, case.inputs) for each in (found, expected))
        np.testing.assert_allclose(found, expected, rtol=5e-6, atol=5e-6)
    again = run_passes(result)
    assert again is result and str(again) == str(result)


def test_a_log_tells_what_each_pass_did() -> None:
    log: list[PassRecord] = []
    graph = Encoder().graph(eager=False)
    result = run_passes(graph, log=log)
    assert [record.name for record in log[: len(PASSES)]] == [each.__name__ for each in PASSES]
    assert log[0].before is graph and log[-1].after is result
    for earlier, later in pairwise(log):
        assert earlier.after is later.before
    assert "simplify_masks\n  attention" in str(
        next(record for record in log if record.name == "simplify_masks")
    )
    assert all(record.notes or record.before is record.after for record in log)
    assert str(PassRecord("share_equal", graph, graph, ())) == "share_equal\n  nothing to do\n"


def test_a_pass_that_breaks_the_graph_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def careless(graph: Graph, notes: Notes) -> Graph:
        return graph.with_nodes(graph.nodes[1:])

    monkeypatch.setattr(passes, "PASSES", (careless,))
    with pytest.raises(GraphError, match="careless left a graph"):
        run_passes(Encoder().graph(eager=False))


def test_passes_that_never_settle_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def restless(graph: Graph, notes: Notes) -> Graph:
        return graph.with_nodes(graph.nodes)

    monkeypatch.setattr(passes, "PASSES", (restless,))
    with pytest.raises(GraphError, match="still change"):
        run_passes(Encoder().graph(eager=False))


def test_constants_beyond_a_dtype_are_folded_without_a_warning() -> None:
    b = GraphBuilder()
    large = b.constant("large", np.full(3, 3e38, np.float32))
    added = b.add("add", b.add("multiply", large, large), b.input("x", "f32[batch, 3]"))
    mask = b.add("cast", b.add("full", shape=(1,), value=1e30, dtype="f32"), dtype="i32")
    seen = b.add("equal", mask, b.input("ids", "i32[batch, 3]"))
    result = run_passes(b.graph(added, seen))  # a warning is an error in tests
    assert [node.op for node in result.nodes] == ["add", "equal"]
