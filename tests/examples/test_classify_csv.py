"""The script runs as a user runs it, with prunus and as it was before."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from tests.examples.test_deploy_pruned_bert import EXAMPLES, run
from tests.hf.tiny import reading

SCRIPT = str(EXAMPLES / "classify_csv.py")

pytestmark = [
    pytest.mark.wide,
    pytest.mark.usefixtures("minilm_folder"),
]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_it_labels_a_few_reviews_as_it_did_before(tmp_path: Path) -> None:
    after, before = tmp_path / "after.csv", tmp_path / "before.csv"
    printed = run(SCRIPT, "--output", str(after))
    assert "STAND-IN" in printed and "12 texts, " in printed
    assert "by PrunusModelForSequenceClassification" in printed
    run(SCRIPT, "--output", str(before), "--transformers")
    assert len(rows(after)) == 12
    for one, other in zip(rows(before), rows(after), strict=True):
        assert list(one) == ["text", "label", "score"]
        assert (one["text"], one["label"]) == (other["text"], other["label"])
        assert abs(float(one["score"]) - float(other["score"])) < 1.5e-4  # of four digits


def test_it_takes_a_file_and_a_model(tmp_path: Path, minilm_folder: Path) -> None:
    from transformers import AutoTokenizer

    labels = {0: "sour", 1: "sweet"}
    reading("ForSequenceClassification", id2label=labels).save_pretrained(tmp_path / "model")
    AutoTokenizer.from_pretrained(minilm_folder).save_pretrained(tmp_path / "model")
    source = tmp_path / "in.csv"
    source.write_text('id,review\n1,"Fresh, sweet"\n2,Zoë liked them\n', encoding="utf-8")
    printed = run(
        SCRIPT, str(source), "--model", str(tmp_path / "model"), "--column", "review"
    )  # fmt: skip
    lines = printed.splitlines()
    begin = lines.index("id,review,label,score")
    assert lines[begin + 1].startswith('1,"Fresh, sweet",s')
    assert lines[begin + 2].startswith("2,Zoë liked them,s")


def test_it_says_what_is_wrong(tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_text("id,review\n1,Fresh\n", encoding="utf-8")
    printed = run(SCRIPT, str(source), status=1)
    assert "has no column 'text': choose one with --column: id, review" in printed
    assert "Traceback" not in printed
