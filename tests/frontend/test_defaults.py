"""Inputs that are left out are what the module itself takes, and it is told what it ignores."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from prunus.errors import InputError
from prunus.frontend.export import import_module
from prunus.frontend.inputs import Default
from tests.frontend.modules import run
from tests.models.encoders import SIZES, SMALL
from tests.models.encoders import tiny as plain
from tests.models.families import tiny

IDS = torch.tensor([[5, 6, 7, 8, 9], [9, 7, 8, 0, 0], [0, 1, 1, 0, 1]])


def dpr(name: str) -> Any:
    torch.manual_seed(0)
    module = getattr(transformers, f"DPR{name}")(transformers.DPRConfig(**SMALL, **SIZES))
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, 0, 0.15)
    return module.eval()


@pytest.mark.parametrize(
    ("module", "padding"),
    [
        pytest.param(lambda: dpr("ContextEncoder"), 0, id="DPRContextEncoder"),
        pytest.param(lambda: dpr("QuestionEncoder"), 0, id="DPRQuestionEncoder"),
        pytest.param(lambda: dpr("Reader"), None, id="DPRReader"),
        pytest.param(lambda: plain("Bert", "Model"), None, id="Bert"),
        pytest.param(lambda: plain("Roberta", "ForSequenceClassification"), None, id="Roberta"),
        pytest.param(lambda: plain("DistilBert", "ForMaskedLM"), None, id="DistilBert"),
        pytest.param(lambda: tiny("ModernBert", "Model"), None, id="ModernBert"),
        pytest.param(lambda: tiny("T5", "EncoderModel"), None, id="T5"),
    ],
)
def test_left_out_inputs_are_what_the_module_takes(module: Any, padding: int | None) -> None:
    module = module()
    imported = import_module(module)
    expected = Default("input_ids", 1) if padding is None else Default("input_ids", padding=padding)
    defaults = {each.name: each.default for each in imported.signature.inputs}
    assert defaults["input_ids"] is None and defaults["attention_mask"] == expected
    assert defaults.get("token_type_ids", Default("input_ids", 0)) == Default("input_ids", 0)
    with torch.no_grad():
        wanted = module(input_ids=IDS).to_tuple()
    for own, other in zip(run(imported, input_ids=IDS).to_tuple(), wanted, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-5, atol=1e-5)


class OddMask(transformers.BertPreTrainedModel):  # type: ignore[misc]
    """Hides even ids where no mask is given, which nothing here expects."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.bert = transformers.BertModel(config)
        self.post_init()

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        mask = input_ids % 2 if attention_mask is None else attention_mask
        hidden: Tensor = self.bert(input_ids, attention_mask=mask).last_hidden_state
        return hidden


@pytest.mark.parametrize("is_strict", [False, True])
def test_an_input_whose_default_is_unknown_must_be_given(is_strict: bool) -> None:
    class Strict(OddMask):
        def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
            if attention_mask is None:
                raise ValueError("a mask, please")
            return super().forward(input_ids, attention_mask)

    module = (Strict if is_strict else OddMask)(transformers.BertConfig(**SMALL, **SIZES))
    imported = import_module(module)
    with pytest.raises(InputError, match="the input 'attention_mask' is missing"):
        run(imported, input_ids=IDS)


@pytest.mark.parametrize("name", ["DistilBert", "DebertaV2"])
def test_arguments_that_the_class_ignores_are_ignored(name: str) -> None:
    """DeBERTa reads no token types where the configuration has none."""
    module = plain(name, "Model") if name == "DistilBert" else tiny(name, "Model")
    imported = import_module(module)
    types = torch.ones_like(IDS)
    with torch.no_grad():
        assert torch.equal(module(IDS, token_type_ids=types)[0], module(IDS)[0])
    assert torch.equal(run(imported, IDS, token_type_ids=types)[0], run(imported, IDS)[0])
    with pytest.raises(InputError, match="unknown input 'token_types'"):
        run(imported, IDS, token_types=types)


def test_arguments_that_the_class_reads_are_not_ignored() -> None:
    imported = import_module(plain("Bert", "Model"), {"input_ids": IDS})
    for name in ("attention_mask", "token_type_ids"):
        with pytest.raises(InputError, match=rf"unknown input '{name}'.* compile the module again"):
            run(imported, IDS, **{name: torch.ones_like(IDS)})


def test_an_example_may_hold_what_a_tokenizer_makes_beside() -> None:
    """As `compile(model, tokenizer(...))` does for DistilBERT, which reads no token types."""
    module = plain("DistilBert", "Model")
    example = {"input_ids": IDS, "attention_mask": torch.ones_like(IDS),
               "token_type_ids": torch.zeros_like(IDS)}  # fmt: skip
    imported = import_module(module, example)
    assert "token_type_ids" in imported.signature.ignored
    with pytest.raises(InputError, match="has no parameter token_types"):
        import_module(module, {"input_ids": IDS, "token_types": IDS})
