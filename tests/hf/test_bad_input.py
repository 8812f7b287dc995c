"""What cannot be done is refused, with a message that says what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from prunus.errors import CheckpointError, InputError, UnsupportedError
from prunus.hf import (
    PrunusModel,
    PrunusModelForFeatureExtraction,
    PrunusModelForImageClassification,
    PrunusModelForMaskedLM,
    PrunusModelForQuestionAnswering,
    PrunusModelForSequenceClassification,
)
from tests.hf.tiny import checkpoint

IDS = torch.tensor([[5, 6, 7, 8]])
META = torch.zeros(1, 4, dtype=torch.int64, device="meta")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"labels": torch.tensor([1])}, "labels were given, but prunus only runs models"),
        ({"output_attentions": True}, "output_attentions=True: they do not exist after fusion"),
        ({"output_hidden_states": True}, "output_hidden_states=True: they do not exist after"),
        ({"attention_mask": np.ones((1, 4))}, "some inputs are NumPy arrays and some are torch"),
        ({"attention_mask": META}, "attention_mask is meta, expected a dense tensor on the CPU"),
        ({"attention_mask": torch.ones(1, 4, requires_grad=True)}, "requires a gradient, which"),
        ({"attention_mask": torch.full((1, 4), 0.5)}, "attention_mask is float32, expected int64"),
        ({"attention_mask": torch.ones(1, 5)}, "attention_mask"),
        ({"token_types": IDS}, "unknown input 'token_types'; the model takes input_ids"),
        ({"use_cache": False}, "unknown input 'use_cache'"),
        ({"input_ids": IDS[:0]}, "'batch' of the inputs is 0: nothing to compute"),
        ({"input_ids": IDS[:, :0]}, "'seq' of the inputs is 0: nothing to compute"),
        ({"input_ids": torch.full((1, 41), 5)}, "seq is 41, but the model takes at most 40"),
        ({"input_ids": IDS + 52}, "holds the id 60, but its embedding table has the ids 0 to 59"),
        ({"input_ids": IDS[0]}, r"input_ids has 1 dimension, \[4\], expected i64\[batch, seq\]"),
        ({"input_ids": IDS[0], "attention_mask": torch.ones(4)}, "input_ids has 1 dimension"),
        ({"input_ids": IDS[None]}, "input_ids has 3 dimensions"),
        ({"input_ids": None}, "the input 'input_ids' is missing"),
    ],
)  # fmt: skip
def test_calls(given: dict[str, Any], message: str, classifier: PrunusModel) -> None:
    with pytest.raises(InputError, match=message):
        classifier(**{"input_ids": IDS, **given})


def test_no_gradient_is_needed_where_none_is_recorded(classifier: PrunusModel) -> None:
    with torch.no_grad():
        assert classifier(IDS, torch.ones(1, 4, requires_grad=True)).logits.shape == (1, 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda model: model.to("cuda"), r"to\('cuda'\): prunus runs on the processor in float32"),
        (lambda model: model.to(torch.device("cuda:0")), "prunus runs on the processor"),
        (lambda model: model.to(torch.float16), "prunus runs on the processor in float32"),
        (lambda model: model.to("cpu", dtype=torch.bfloat16), "prunus runs on the processor"),
        (lambda model: model.half(), "float32 only"),
        (lambda model: model.train(), "cannot be trained"),
    ],
)
def test_moves(call: Callable[[PrunusModel], Any], message: str, classifier: PrunusModel) -> None:
    with pytest.raises(InputError, match=message):
        call(classifier)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("thread", "unknown keyword 'thread', did you mean 'threads'"),
        ("local_file_only", "did you mean 'local_files_only'"),
        ("export", "unknown keyword 'export'"),
        ("architecture", "unknown keyword 'architecture'"),
    ],
)
def test_unknown_keywords(option: str, message: str, folder: Path) -> None:
    for cls in (PrunusModel, PrunusModelForSequenceClassification):
        with pytest.raises(TypeError, match=message):
            cls.from_pretrained(folder, **dict[str, Any]({option: None}))


def test_options_that_cannot_be_used(folder: Path) -> None:
    with pytest.raises(UnsupportedError, match="prunus computes in float32"):
        PrunusModel.from_pretrained(folder, dtype=torch.float16)
    with pytest.raises(InputError, match="threshold"):
        PrunusModel.from_pretrained(folder, threshold=7)
    with pytest.raises(InputError, match="has no revision 'v1'"):
        PrunusModel.from_pretrained(folder, revision="v1")
    with pytest.raises(CheckpointError, match="check the subfolder"):
        PrunusModel.from_pretrained(folder, subfolder="inner")


def test_weights_without_the_head(folder: Path) -> None:
    with pytest.raises(CheckpointError, match=r"lacks weights that BertForQuestionAnswering needs: "
                       r"qa_outputs\.bias"):  # fmt: skip
        PrunusModelForQuestionAnswering.from_pretrained(folder)


def test_a_family_without_such_a_class(folder: Path) -> None:
    with pytest.raises(UnsupportedError, match="transformers has no class for image-classif"):
        PrunusModelForImageClassification.from_pretrained(folder)


def test_an_architecture_that_has_no_class_here(tmp_path: Path) -> None:
    checkpoint(tmp_path, "Bert", "ForNextSentencePrediction")
    with pytest.raises(UnsupportedError, match="BertForNextSentencePrediction by its conf") as info:
        PrunusModel.from_pretrained(tmp_path)
    assert "PrunusModelForMaskedLM" in str(info.value)


def test_a_saved_model_of_another_task(classifier: PrunusModel, tmp_path: Path) -> None:
    classifier.save_pretrained(tmp_path)
    for cls in (PrunusModelForMaskedLM, PrunusModelForFeatureExtraction):
        with pytest.raises(InputError, match=rf"answers with logits \(SequenceClassifierOutput\), "
                           rf"which is no answer of {cls.__name__}"):  # fmt: skip
            cls.from_pretrained(tmp_path)


def test_folders_with_a_configuration_that_cannot_be_read(
    classifier: PrunusModel, tmp_path: Path
) -> None:
    classifier.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "plum"}')
    with pytest.raises(CheckpointError, match="transformers cannot read"):
        PrunusModel.from_pretrained(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"has no config\.json"):
        PrunusModel.from_pretrained(tmp_path)


def test_names_that_lead_nowhere(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="There is no folder"):
        PrunusModel.from_pretrained(tmp_path / "nothing")
    with pytest.raises(CheckpointError, match="not \\(wholly\\) in the cache"):
        PrunusModel.from_pretrained("nobody/nothing", local_files_only=True)


class Alarm(Exception):
    """What a user's signal handler raises."""


@pytest.mark.parametrize("raised", [Alarm, MemoryError, KeyboardInterrupt])
@pytest.mark.parametrize(
    "place", ["huggingface_hub.hf_hub_download", "transformers.AutoConfig.from_pretrained"]
)
def test_what_is_no_error_of_a_file_goes_through(
    raised: type[BaseException], place: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise raised

    monkeypatch.setattr(place, interrupted)
    with pytest.raises(raised):
        PrunusModelForSequenceClassification.from_pretrained(
            "owner/name" if "hub" in place else folder, threads=1
        )
