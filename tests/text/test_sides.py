"""The sides where a tokenizer pads and cuts are those that its files say."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import prunus.text
from prunus.errors import CheckpointError, UnsupportedError
from prunus.text import TextModel
from prunus.text.files import LEFT_PADDING, Sides, load_with_sides
from prunus.text.vectors import POOLINGS
from tests.text.sentence_models import change, pooled

Folders = Callable[[str], tuple[Path, Path]]

TEXTS = [
    "Rain.",
    "The gardener of Tokyo prunes, bewildered and amused, while nobody watches.",
    "Plums on a winter evening!",
]


def by_settings(folder: Path, name: str) -> None:
    change(folder, "tokenizer_config.json", **{f"{name}_side": "left"})


def by_tokenizer(folder: Path, name: str) -> None:
    """What `tokenizer.json` says counts where the settings say nothing."""
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings.pop(f"{name}_side", None)
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    change(folder, "tokenizer.json", **{
        "padding": {"strategy": "BatchLongest", "direction": "Left", "pad_to_multiple_of": None,
                    "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"},
        "truncation": {"direction": "Left", "max_length": 64, "strategy": "LongestFirst",
                       "stride": 0},
    })  # fmt: skip


def load(folder: Path) -> TextModel:
    return prunus.text.load(folder, threads=1, tune="cost")


@pytest.mark.parametrize("set_left", [by_settings, by_tokenizer])
def test_padding_at_the_left_is_that_of_transformers(
    set_left: Any, folders: Folders, tmp_path: Path
) -> None:
    import torch
    import transformers

    checkpoint, saved = folders("tokens")
    folder = shutil.copytree(saved, tmp_path / "left")
    set_left(folder, "padding")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    assert tokenizer.padding_side == "left"
    module = transformers.AutoModelForTokenClassification.from_pretrained(checkpoint)
    given = tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        logits = module(**given).logits.numpy()
    mask = given["attention_mask"].numpy().astype(bool)
    model = load(folder)
    encodings = model._encode(TEXTS, truncate=False)
    found = model._run(encodings, "logits", lambda place, own: own)
    for mine, theirs, own in zip(found, logits, mask, strict=True):
        np.testing.assert_allclose(mine, theirs[own], rtol=1e-4, atol=1e-4)
    right = load(saved)._run(encodings, "logits", lambda place, own: own)
    assert not np.allclose(right[0], found[0], atol=1e-2)  # BERT's positions depend on the side


@pytest.mark.parametrize("mode", POOLINGS)
def test_vectors_with_padding_at_the_left(mode: Any, folders: Folders, tmp_path: Path) -> None:
    library = pytest.importorskip("sentence_transformers")
    from sentence_transformers.base.modules import Transformer

    first = Transformer(str(folders("vectors")[0]))
    made = library.SentenceTransformer(modules=[first, pooled(mode)], device="cpu")
    made.save_pretrained(str(tmp_path / "made"))
    by_settings(tmp_path / "made", "padding")
    prunus.from_pretrained(tmp_path / "made", threads=1).save_pretrained(tmp_path / "saved")
    expected = library.SentenceTransformer(str(tmp_path / "made"), device="cpu").encode(TEXTS)
    found = load(tmp_path / "saved").embed(TEXTS)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_truncation_at_the_left(folders: Folders, tmp_path: Path) -> None:
    import transformers

    for number, set_left in enumerate([by_settings, by_tokenizer]):
        folder = shutil.copytree(folders("text")[1], tmp_path / str(number))
        set_left(folder, "truncation")
        model, long = load(folder), "plum cherry " * 40 + "rain"
        (found,) = model._encode([long], truncate=True)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        assert found.ids == tokenizer(long, truncation=True, max_length=64)["input_ids"]
        assert found.tokens[-2] == "rain"


def test_settings_come_before_the_tokenizer(folders: Folders, tmp_path: Path) -> None:
    folder = shutil.copytree(folders("text")[1], tmp_path / "both")
    by_tokenizer(folder, "padding")
    change(folder, "tokenizer_config.json", padding_side="right", truncation_side="right")
    assert load_with_sides({path.name: path for path in folder.iterdir()})[1] == Sides()
    for wrong in ("top", None, ["left"]):
        change(folder, "tokenizer_config.json", padding_side=wrong)
        with pytest.raises(CheckpointError, match=r"has the padding_side .* expected 'left' or"):
            load(folder)


def test_classes_that_pad_at_the_left(folders: Folders, tmp_path: Path) -> None:
    import transformers

    folder = shutil.copytree(folders("text")[1], tmp_path / "class")
    document = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps({**document, "padding": None}))
    (folder / "tokenizer_config.json").unlink()
    files = {path.name: path for path in folder.iterdir()}
    files["tokenizer_config.json"] = folder / "tokenizer_config.json"
    assert {getattr(transformers, name).padding_side for name in LEFT_PADDING} == {"left"}
    for name, side in [*((name, "left") for name in LEFT_PADDING), ("BertTokenizer", "right")]:
        change(folder, "tokenizer_config.json", tokenizer_class=name)
        assert load_with_sides(files)[1].padding == side


@pytest.mark.parametrize("name", ["padding", "truncation"])
def test_questions_need_the_right_side(name: str, folders: Folders, tmp_path: Path) -> None:
    import transformers

    from prunus.hf import PrunusModelForQuestionAnswering
    from prunus.hf.questions import QuestionAnsweringPipeline

    folder = shutil.copytree(folders("question")[1], tmp_path / "left")
    by_settings(folder, name)
    with pytest.raises(UnsupportedError, match=f"has the {name}_side 'left', with which windows"):
        load(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = PrunusModelForQuestionAnswering.from_pretrained(folder, threads=1, tune="cost")
    with pytest.raises(UnsupportedError, match=f"the tokenizer has the {name}_side 'left'"):
        QuestionAnsweringPipeline(model, tokenizer)
