"""Encoders of transformers are imported as graphs that compute what the models compute.

The text of one graph is kept in `golden/`; PRUNUS_REWRITE_GOLDEN=1 writes it anew.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch.export import Dim

from prunus.errors import InputError
from prunus.frontend.export import Imported, import_module
from prunus.ir import interpret, print_graph
from tests.models.encoders import CASES, POSITIONS, VOCABULARY, inputs, tiny

GOLDEN = Path(__file__).parent / "golden"


@cache
def imported(family: str, head: str, activation: str) -> tuple[Any, Imported]:
    model = tiny(family, head, activation)
    return model, import_module(model)


def assert_same(graph: Imported, model: Any, given: dict[str, torch.Tensor]) -> None:
    arrays, kind = graph.signature.bind((), given)
    found = graph.signature.pack(interpret(graph.graph, arrays), kind)
    with torch.no_grad():
        expected = model(**given)
    assert type(found) is type(expected) and list(found) == list(expected)
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=0, atol=1e-5)


@pytest.mark.parametrize(("family", "head", "activation"), CASES)
def test_imported_models_compute_what_transformers_computes(
    family: str, head: str, activation: str
) -> None:
    model, graph = imported(family, head, activation)
    longest = graph.graph.limits["seq"]
    assert longest == POSITIONS - (2 if family == "Roberta" else 0)
    for batch, seq in ((1, 1), (3, 1), (1, 2), (3, 9), (2, longest)):
        for given in inputs(batch, seq, family):
            assert_same(graph, model, given)


@pytest.mark.parametrize("family", ["Bert", "Roberta"])
def test_eager_attention(family: str) -> None:
    model = tiny(family, "ForQuestionAnswering", attention="eager")
    graph = import_module(model)
    assert {"matmul", "softmax"} <= {node.op for node in graph.graph.nodes}
    for batch, seq in ((1, 1), (3, 9)):
        for given in inputs(batch, seq, family):
            assert_same(graph, model, given)


@pytest.mark.parametrize(("family", "head", "activation"), CASES[::6])
def test_one_batch_equals_its_rows(family: str, head: str, activation: str) -> None:
    _, graph = imported(family, head, activation)
    for given in inputs(3, 9, family):
        whole = interpret(graph.graph, graph.signature.bind((), given)[0])
        for row in range(3):
            one = {name: value[row : row + 1] for name, value in given.items()}
            alone = interpret(graph.graph, graph.signature.bind((), one)[0])
            for a, b in zip(whole, alone, strict=True):
                np.testing.assert_allclose(a[row : row + 1], b, atol=1e-5)


def test_the_ops_are_whole() -> None:
    _, graph = imported("Bert", "Model", "gelu")
    ops = [node.op for node in graph.graph.nodes]
    counts = {
        op: ops.count(op) for op in ("linear", "attention", "layer_norm", "embedding", "gelu")
    }
    assert counts == {"linear": 7, "attention": 1, "layer_norm": 3, "embedding": 3, "gelu": 1}


def test_no_name_of_aten_survives() -> None:
    for case in CASES[::5]:
        text = print_graph(imported(*case)[1].graph)
        assert not any(word in text for word in ("aten", "sym_", "view", "scaled_dot", "dropout"))


def test_weights_have_the_names_of_the_state_dict() -> None:
    for case in CASES:
        model, graph = imported(*case)
        state = model.state_dict(keep_vars=True)
        weights = {
            name: constant
            for name, constant in graph.graph.constants.items()
            if constant.type.dtype == "f32" and constant.type.rank
        }
        assert weights.keys() <= state.keys()
        for name, constant in weights.items():
            assert constant.dense().ctypes.data == state[name].data_ptr()


def test_tied_embeddings_are_one_constant() -> None:
    _, graph = imported("Roberta", "ForMaskedLM", "gelu")
    tables = [
        name
        for name, constant in graph.graph.constants.items()
        if constant.type.shape == (VOCABULARY, 32)
    ]
    assert tables == ["roberta.embeddings.word_embeddings.weight"]


def test_inputs_left_out_and_unknown() -> None:
    _, graph = imported("Bert", "Model", "gelu")
    assert [each.name for each in graph.signature.inputs] == [
        "input_ids", "attention_mask", "token_type_ids",
    ]  # fmt: skip
    ids = np.ones((1, 4), np.int64)
    with pytest.raises(InputError, match="unknown input 'labels'"):
        graph.signature.bind((), {"input_ids": ids, "labels": ids})
    with pytest.raises(InputError, match="'input_ids' is missing"):
        graph.signature.bind((), {"attention_mask": ids})


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (2, 2)])
def test_sizes_of_an_example_are_examples_only(size: tuple[int, int]) -> None:
    model = tiny("Bert", "ForTokenClassification")
    ids = np.full(size, 5)
    graph = import_module(model, {"input_ids": ids, "attention_mask": np.ones_like(ids)})
    assert {str(type) for type in graph.graph.inputs.values()} == {"i64[batch, seq]"}
    assert graph.graph.limits == {"seq": POSITIONS}
    for given in list(inputs(3, 9, "Bert"))[:-1]:
        assert_same(graph, model, given)


@pytest.mark.parametrize("family", ["Bert", "Roberta"])
def test_sizes_with_names_of_ones_own(family: str) -> None:
    model = tiny(family, "Model")
    ids = torch.full((2, 5), 7)
    shapes = ({0: Dim("rows"), 1: Dim("length")},)
    graph = import_module(model, (ids,), dynamic_shapes=shapes).graph
    assert str(graph.inputs["input_ids"]) == "i64[rows, length]"
    assert graph.limits == {"length": POSITIONS - (2 if family == "Roberta" else 0)}


def test_options_of_forward_are_fixed() -> None:
    model = tiny("Bert", "Model")
    ids = torch.ones(1, 1, dtype=torch.int64)
    graph = import_module(model, {"input_ids": ids, "output_hidden_states": True})
    with torch.no_grad():
        expected = model(ids, output_hidden_states=True)
    arrays, kind = graph.signature.bind((ids,), {})
    found = graph.signature.pack(interpret(graph.graph, arrays), kind)
    assert type(found) is type(expected) and list(found) == list(expected)
    assert type(found.hidden_states) is tuple
    for own, other in zip(found.hidden_states, expected.hidden_states, strict=True):
        torch.testing.assert_close(own, other, rtol=0, atol=1e-5)
    assert "forward" not in vars(model)
    with pytest.raises(InputError, match=r"BertModel\.forward has no parameter attention_masks"):
        import_module(model, {"input_ids": ids, "attention_masks": ids})


def test_answers_without_model_output() -> None:
    model = tiny("Bert", "ForQuestionAnswering")
    model.config.return_dict = False
    assert type(import_module(model).signature.pack([np.zeros(1)] * 2, "numpy")) is tuple


def test_models_in_16_bits() -> None:
    model = tiny("Bert", "ForQuestionAnswering").to(torch.bfloat16)
    graph = import_module(model)
    assert "f64" not in print_graph(graph.graph)
    for given in list(inputs(2, 5, "Bert"))[:3]:
        arrays, _ = graph.signature.bind((), given)
        with torch.no_grad():
            expected = model.float()(**given)
        for own, other in zip(interpret(graph.graph, arrays), expected.values(), strict=True):
            np.testing.assert_allclose(own, other, atol=1e-5)


def test_decoders_need_an_example() -> None:
    config = transformers.GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=20, n_positions=8)
    with pytest.raises(InputError, match="example_inputs are needed for GPT2LMHeadModel"):
        import_module(transformers.GPT2LMHeadModel(config))


def test_golden_text() -> None:
    config = transformers.BertConfig(
        vocab_size=11, max_position_embeddings=8, hidden_size=4, num_hidden_layers=1,
        num_attention_heads=2, intermediate_size=6,
    )  # fmt: skip
    text = print_graph(import_module(transformers.BertForQuestionAnswering(config)).graph)
    file = GOLDEN / "bert_for_question_answering.txt"
    if os.environ.get("PRUNUS_REWRITE_GOLDEN"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    assert text == file.read_text(), "PRUNUS_REWRITE_GOLDEN=1 writes the text anew"
