"""A model with empty heads, rows and columns against transformers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import transformers

import prunus
from tests.models.encoders import SIZES, SMALL, inputs


def hybrid_pruned() -> Any:
    """A BERT with a third of its heads and 60 % of its inner features empty, in either way."""
    sizes = {"hidden_size": 48, "num_attention_heads": 6, "num_hidden_layers": 2}
    config = transformers.BertConfig(**{**SMALL, **SIZES, **sizes, "intermediate_size": 40})
    torch.manual_seed(0)
    model = transformers.BertForQuestionAnswering._from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, 0, 0.15)
        for each in model.bert.encoder.layer:
            each.attention.self.value.weight[8:16] = 0
            each.attention.output.dense.weight[:, 40:] = 0
            each.intermediate.dense.weight[::2] = 0
            each.output.dense.weight[:, 1:8:2] = 0
    return model.eval()


@pytest.fixture(scope="module")
def hybrid() -> tuple[Any, prunus.CompiledModel]:
    module = hybrid_pruned()
    return module, prunus.compile(module)


def test_a_hybrid_pruned_model_answers_as_before(hybrid: tuple[Any, prunus.CompiledModel]) -> None:
    module, model = hybrid
    for batch, seq in ((1, 1), (3, 9), (2, 17)):
        for call in inputs(batch, seq, "Bert"):
            with torch.no_grad():
                expected = module(**call)
            seen = call.get("attention_mask", torch.ones_like(call["input_ids"])).bool()
            for name, found in model(**call).items():
                torch.testing.assert_close(found[seen], expected[name][seen], rtol=0, atol=1e-4)


def test_a_hybrid_pruned_model_is_what_is_left_of_it(
    hybrid: tuple[Any, prunus.CompiledModel],
) -> None:
    module, model = hybrid
    explanation, layer = model.explain(), "bert.encoder.layer.{}.{}"
    parts = {
        "attention.self.query+key+value.weight": (96, 48),
        "attention.output.dense.weight": (48, 32),
        "intermediate.dense.weight": (16, 48),
        "output.dense.weight": (48, 16),
    }
    left = {layer.format(i, name): shape for i in range(2) for name, shape in parts.items()}
    shapes = {each.name: each.shape for each in explanation.layers}
    assert shapes == left | {"qa_outputs.weight": (2, 48)}
    assert [(each.attention, each.heads, each.removable) for each in explanation.heads] == [
        (layer.format(i, "attention.self.attention"), 4, ()) for i in range(2)
    ]
    whole = sum(p.numel() for p in module.bert.encoder.parameters() if p.ndim == 2)
    assert model.flops(input_ids=np.ones((1, 16), np.int64)) < 0.75 * 2 * 16 * whole
