"""Pipelines of transformers over a compiled model answer as over the model of transformers."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

import prunus
from prunus import hf
from prunus.errors import InputError
from tests.hf.tiny import assert_same, reading

TEXTS = ["The plum tree was pruned in winter.", "Zoë sold 3,141 plums", "x"]
LABELS: dict[str, Any] = {"id2label": {0: "contradiction", 1: "entailment"}}
LABELS |= {"label2id": {"contradiction": 0, "entailment": 1}}

Pair = tuple[hf.PrunusModel, Any]


@pytest.fixture(scope="module")
def pair() -> Callable[[str], Pair]:
    """A compiled model and its module, by the ending of its class."""
    made: dict[str, Pair] = {}

    def make(head: str) -> Pair:
        if head not in made:
            module = reading(head, **LABELS)
            name = head.replace("Model", "ForFeatureExtraction")
            cls = getattr(hf, f"PrunusModel{name}")
            made[head] = cls(prunus.compile(module, tune="cost"), module.config), module
        return made[head]

    return make


def close(found: Any, expected: Any) -> bool:
    """Whether two nested answers are the same, up to the last digits of their numbers."""
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(close(found[k], expected[k]) for k in found)
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(close, found, expected))
    if isinstance(expected, str | int | None):
        return bool(found == expected)
    return abs(float(found) - float(expected)) <= 1e-4 * max(1, abs(float(expected)))


@pytest.mark.parametrize("make", [transformers.pipeline, hf.pipeline], ids=["theirs", "ours"])
@pytest.mark.parametrize(
    ("task", "head", "options"),
    [
        ("text-classification", "ForSequenceClassification", {"top_k": None}),
        ("zero-shot-classification", "ForSequenceClassification", {"candidate_labels": ["a", "b"]}),
        ("token-classification", "ForTokenClassification", {"aggregation_strategy": "simple"}),
        ("fill-mask", "ForMaskedLM", {"top_k": 3}),
        ("feature-extraction", "Model", {}),
    ],
)
def test_pipelines(
    make: Any,
    task: str,
    head: str,
    options: dict[str, Any],
    pair: Callable[[str], Pair],
    tokenizer: Any,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, module = pair(head)
    texts = [f"{text} [MASK]" for text in TEXTS] if task == "fill-mask" else TEXTS
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    mine = make(task, model=model, tokenizer=tokenizer)
    assert "is not supported" not in caplog.text
    assert mine.device == torch.device("cpu") and mine.dtype == torch.float32
    assert type(model).__name__ in repr(mine)
    theirs = transformers.pipeline(task, model=module, tokenizer=tokenizer)
    expected = theirs(texts, **options)
    assert close(mine(texts, **options), expected)
    assert close(mine(texts[0], **options), theirs(texts[0], **options))
    if task != "feature-extraction":  # whose answers have the padding of their batch
        assert close(mine(texts, batch_size=2, **options), expected)
        assert close(list(mine((text for text in texts), **options)), expected)


@pytest.mark.parametrize("make", [transformers.pipeline, hf.pipeline], ids=["theirs", "ours"])
def test_a_tokenizer_may_give_what_the_class_ignores(make: Any, tokenizer: Any) -> None:
    module = reading("ForSequenceClassification", "DistilBert")
    model = hf.PrunusModelForSequenceClassification(prunus.compile(module), module.config)
    batch = tokenizer(TEXTS, padding=True, return_tensors="pt")
    assert "token_type_ids" in batch
    with torch.no_grad():
        assert_same(model(**batch), module(**batch))
    theirs = transformers.pipeline("text-classification", model=module, tokenizer=tokenizer)
    mine = make("text-classification", model=model, tokenizer=tokenizer)
    assert close(mine(TEXTS), theirs(TEXTS))


def test_a_folder_is_opened_for_the_task(
    pair: Callable[[str], Pair], tokenizer: Any, tmp_path: Path
) -> None:
    model, _ = pair("ForSequenceClassification")
    pipe = hf.pipeline("text-classification", model, tokenizer)
    pipe.save_pretrained(tmp_path)
    again = hf.pipeline("text-classification", tmp_path)
    assert again(TEXTS) == pipe(TEXTS)


def test_long_and_empty_texts(pair: Callable[[str], Pair], tokenizer: Any) -> None:
    pipe = hf.pipeline("text-classification", pair("ForSequenceClassification")[0], tokenizer)
    with pytest.raises(InputError, match="seq is 102, but the model takes at most 64; shorten"):
        pipe("plum " * 100)
    cut = pipe("plum " * 100, truncation=True, max_length=64)
    assert cut == pipe("plum " * 62)
    assert pipe("")[0].keys() == {"label", "score"}  # the special tokens are there


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("question-answering", "needs a PrunusModelForQuestionAnswering, found a PrunusModelForS"),
        ("fill-mask", "needs a PrunusModelForMaskedLM"),
        ("ner", "a task that it does: text-classification, sentiment-analysis, zero-shot"),
        ("summarization", "unknown task 'summarization': expected one of feature-extraction"),
    ],
)
def test_models_of_another_task(
    task: str, message: str, pair: Callable[[str], Pair], tokenizer: Any
) -> None:
    model, _ = pair("ForSequenceClassification")
    with pytest.raises(InputError, match=message):
        hf.pipeline(task, model=model, tokenizer=tokenizer)


def test_tokenizers_of_another_vocabulary(classifier: hf.PrunusModel, tokenizer: Any) -> None:
    with pytest.raises(InputError, match=r"has 30522 tokens, but the embedding .* has 60 rows"):
        hf.pipeline("text-classification", model=classifier, tokenizer=tokenizer)
    theirs = transformers.pipeline("text-classification", model=classifier, tokenizer=tokenizer)
    with pytest.raises(
        InputError, match=r"holds the id \d+, but its embedding table has the ids 0 to 59"
    ):
        theirs("plum")


def test_settings_are_handed_on(pair: Callable[[str], Pair], tokenizer: Any) -> None:
    model, _ = pair("ForSequenceClassification")
    pipe = hf.pipeline("text-classification", model, tokenizer, top_k=2, device="cpu")
    assert len(pipe("plum")[0]) == 2
    with pytest.raises(InputError, match='give a pipeline device="cpu"'):
        hf.pipeline("text-classification", model, tokenizer, device="meta")
