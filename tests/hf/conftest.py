"""Models that are compiled once for all tests that only read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from prunus.hf import PrunusModelForSequenceClassification
from tests.hf.tiny import checkpoint


@pytest.fixture(scope="session")
def tokenizer(minilm_folder: Path) -> Any:
    """The tokenizer of all-MiniLM-L6-v2."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(minilm_folder)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a BERT that classifies sentences, with two labels and 60 tokens."""
    place = tmp_path_factory.mktemp("checkpoint")
    labels = {0: "plum", 1: "cherry"}
    checkpoint(place, "Bert", "ForSequenceClassification", id2label=labels)
    return place


@pytest.fixture(scope="session")
def classifier(folder: Path) -> PrunusModelForSequenceClassification:
    return PrunusModelForSequenceClassification.from_pretrained(folder)
