"""The classes answer as those of transformers with the same weights, in the same form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import prunus
from prunus.errors import InputError
from prunus.hf import (
    PrunusModel,
    PrunusModelForFeatureExtraction,
    PrunusModelForMaskedLM,
    PrunusModelForQuestionAnswering,
    PrunusModelForSequenceClassification,
    PrunusModelForTokenClassification,
)
from tests.hf.tiny import assert_same, checkpoint
from tests.models.encoders import inputs, tiny

CLASSES: dict[str, type[PrunusModel]] = {
    "Model": PrunusModelForFeatureExtraction,
    "ForQuestionAnswering": PrunusModelForQuestionAnswering,
    "ForSequenceClassification": PrunusModelForSequenceClassification,
    "ForTokenClassification": PrunusModelForTokenClassification,
    "ForMaskedLM": PrunusModelForMaskedLM,
}
IDS = torch.tensor([[5, 6, 7, 8], [9, 10, 0, 0]])
MASK = (IDS > 0).long()


@pytest.mark.parametrize(
    ("family", "head"),
    [
        ("Bert", "Model"),
        ("DistilBert", "ForQuestionAnswering"),
        ("Roberta", "ForSequenceClassification"),
        ("Bert", "ForTokenClassification"),
        ("DistilBert", "ForMaskedLM"),
        ("Roberta", "Model"),
    ],
)  # each class, and each family; `tests/models` has all of both
def test_answers_of_transformers(family: str, head: str, tmp_path: Path) -> None:
    module = checkpoint(tmp_path, family, head)
    model = PrunusModel.from_pretrained(tmp_path, tune="cost")
    assert type(model) is CLASSES[head]
    for tensors in inputs(2, 7, family):
        given: dict[str, Any] = {**tensors}
        with torch.no_grad():
            expected = module(**given)
        answer = model(**given)
        assert type(answer) is type(expected)
        assert all(isinstance(part, torch.Tensor) for part in answer.values())
        assert_same(answer, expected, given.get("attention_mask"))


def test_every_class_opens_a_checkpoint_that_is_made_for_it(folder: Path) -> None:
    model = PrunusModelForSequenceClassification.from_pretrained(folder)
    assert model.config.architectures == ["BertForSequenceClassification"]
    assert model.config.id2label == {0: "plum", 1: "cherry"}


def test_a_checkpoint_is_opened_for_another_task_whose_weights_it_has(tmp_path: Path) -> None:
    module = checkpoint(tmp_path, "DistilBert", "ForSequenceClassification")
    with pytest.warns(UserWarning, match="left out"):
        model = PrunusModelForFeatureExtraction.from_pretrained(tmp_path)
    assert model.config.architectures == ["DistilBertModel"]
    assert_same(model(input_ids=IDS), module.distilbert(input_ids=IDS))


def test_arrays_are_answered_by_arrays(classifier: PrunusModel) -> None:
    answer = classifier(input_ids=IDS.numpy(), attention_mask=MASK.numpy())
    assert type(answer) is transformers.modeling_outputs.SequenceClassifierOutput
    assert isinstance(answer.logits, np.ndarray)
    tensors = classifier(input_ids=IDS, attention_mask=MASK)
    assert np.array_equal(answer["logits"], tensors[0].numpy())


def test_what_is_left_out_has_the_value_of_transformers(classifier: PrunusModel) -> None:
    whole = classifier(
        input_ids=IDS, attention_mask=torch.ones_like(IDS), token_type_ids=torch.zeros_like(IDS)
    )
    types = torch.ones_like(IDS)
    assert torch.equal(classifier(IDS).logits, whole.logits)
    assert torch.equal(classifier(IDS, attention_mask=None).logits, whole.logits)
    assert not torch.equal(classifier(IDS, token_type_ids=types).logits, whole.logits)


def test_a_tuple_where_it_is_asked_for(classifier: PrunusModel, folder: Path) -> None:
    named = classifier(IDS)
    answer = classifier(IDS, return_dict=False)
    assert isinstance(answer, tuple) and torch.equal(answer[0], named.logits)
    config = transformers.AutoConfig.from_pretrained(folder, return_dict=False)
    model = PrunusModelForSequenceClassification(classifier.compiled, config)
    assert isinstance(model(IDS), tuple)
    assert torch.equal(model(IDS, return_dict=True).logits, named.logits)


def test_a_configuration_that_asks_for_tuples(tmp_path: Path) -> None:
    """The module's tuple, or names where a call asks for them, also when saved and opened again."""
    checkpoint(tmp_path / "checkpoint", "Bert", "ForSequenceClassification", return_dict=False)
    module = transformers.AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "checkpoint"
    )
    expected = module(IDS, MASK)
    model = PrunusModel.from_pretrained(tmp_path / "checkpoint", tune="cost")
    model.save_pretrained(tmp_path / "saved")
    for each in (model, PrunusModel.from_pretrained(tmp_path / "saved", tune="cost")):
        answer = each(IDS, MASK)
        assert type(answer) is type(expected) is tuple and len(answer) == len(expected)
        torch.testing.assert_close(answer[0], expected[0], rtol=1e-4, atol=1e-4)
        assert_same(each(IDS, MASK, return_dict=True), module(IDS, MASK, return_dict=True))
    plain = prunus.from_pretrained(tmp_path / "checkpoint", tune="cost")
    assert torch.equal(plain(IDS, MASK)[0], model(IDS, MASK)[0]) and type(plain(IDS)) is tuple
    with pytest.raises(InputError, match=r"answers with a tuple.*set config\.return_dict to True"):
        PrunusModelForSequenceClassification(plain, module.config)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64, torch.bool, torch.float32])
def test_masks_and_ids_of_other_dtypes(dtype: torch.dtype, classifier: PrunusModel) -> None:
    expected = classifier(IDS, MASK).logits
    assert torch.equal(classifier(IDS.int(), MASK.to(dtype)).logits, expected)


def test_what_programs_ask_of_a_model(classifier: PrunusModel) -> None:
    assert classifier.device == torch.device("cpu") and classifier.dtype == torch.float32
    assert classifier.to("cpu") is classifier.to(torch.device("cpu"), torch.float32) is classifier
    assert classifier.to(torch.float32).to(dtype=torch.float32, device="cpu") is classifier
    assert classifier.eval() is classifier.train(False) is classifier
    assert not classifier.training and not classifier.can_generate()
    assert classifier.main_input_name == "input_ids" and classifier.framework == "pt"
    assert repr(classifier).startswith("PrunusModelForSequenceClassification(CompiledModel")


def test_a_module_that_is_at_hand() -> None:
    module = tiny("Bert", "ForTokenClassification")
    model = PrunusModelForTokenClassification(prunus.compile(module), module.config)
    assert_same(model(IDS, MASK), module(IDS, MASK), MASK)


def test_hidden_states_where_the_model_was_compiled_with_them() -> None:
    module = tiny("Bert", "Model")
    module.config.output_hidden_states = True
    model = PrunusModelForFeatureExtraction(prunus.compile(module), module.config)
    answer = model(IDS, output_hidden_states=True)
    assert len(answer.hidden_states) == 2


@pytest.mark.parametrize("sparse", [True, False])
def test_options_reach_the_compiler(sparse: bool, folder: Path) -> None:
    options: dict[str, Any] = {"sparse": sparse, "threads": 1, "tune": "cost", "block": "4x1"}
    model = PrunusModelForSequenceClassification.from_pretrained(
        folder, dtype=torch.float32, threshold=0.5, target="native", **options
    )
    chosen = model.compiled.options
    assert (chosen.sparse, chosen.threads, chosen.tune) == (sparse, 1, "cost")
    assert (chosen.block, chosen.threshold) == ((4, 1), 0.5)


def test_a_compiled_model_of_no_task_is_refused() -> None:
    compiled = prunus.compile(torch.nn.Linear(4, 4), [torch.ones(2, 4)])
    with pytest.raises(InputError, match="no answer of PrunusModelForMaskedLM"):
        PrunusModelForMaskedLM(compiled, transformers.BertConfig())
    with pytest.raises(InputError, match="no answer of PrunusModel:"):
        PrunusModel(compiled, transformers.BertConfig())
