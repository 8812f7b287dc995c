"""Tiny random models with a real vocabulary, as checkpoints and as folders saved by prunus."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import prunus

TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")
SMALL = {
    "vocab_size": 30522,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,  # so that answers differ
}
LABELS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "MISC"]
TASKS: dict[str, tuple[str, dict[str, Any]]] = {
    "question": ("BertForQuestionAnswering", {}),
    "text": ("BertForSequenceClassification", {"id2label": dict(enumerate("αβγ"))}),
    "several": (
        "BertForSequenceClassification",
        {"num_labels": 3, "problem_type": "multi_label_classification"},
    ),
    "value": ("BertForSequenceClassification", {"num_labels": 1, "problem_type": "regression"}),
    "single": ("BertForSequenceClassification", {"num_labels": 1}),
    "tokens": ("BertForTokenClassification", {"id2label": dict(enumerate(LABELS))}),
    "masks": ("BertForMaskedLM", {}),
    "vectors": ("BertModel", {}),
}

Folders = Callable[[str], tuple[Path, Path]]


@pytest.fixture(scope="session")
def folders(minilm_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """Makes the checkpoint for a key of `TASKS` once, and the folder that prunus saves of it."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    root = tmp_path_factory.mktemp("texts")

    def make(key: str) -> tuple[Path, Path]:
        checkpoint, saved = root / key, root / f"{key}.prunus"
        if not saved.exists():
            name, more = TASKS[key]
            torch.manual_seed(14)  # the tokens of the tests then get labels of every kind
            module = getattr(transformers, name)(transformers.BertConfig(**SMALL, **more))
            module.save_pretrained(checkpoint)
            for file in TOKENIZER:
                shutil.copy(minilm_folder / file, checkpoint / file)
            prunus.from_pretrained(checkpoint, threads=1).save_pretrained(saved)
        return checkpoint, saved

    return make
