"""`prunus check`: the table, the verdict, and the exit status."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import prunus as package
from tests.check.tiny import REAL_VOCABULARY, bert, perturbed, save

QUICK = ("-s", "1,17", "-b", "1,3", "-t", "1")


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory, minilm_folder: Path) -> Path:
    """A checkpoint with a tokenizer, to which everything is bad."""
    names = {0: "bad", 1: "good"}
    module = bert("ForSequenceClassification", vocab_size=REAL_VOCABULARY, id2label=names)
    module.classifier.bias.data[0] += 100
    return save(module, tmp_path_factory.mktemp("checkpoints") / "classifier")


@pytest.fixture(scope="module")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data for it."""
    path = tmp_path_factory.mktemp("data") / "reviews.csv"
    path.write_text("review,stars\nnot at all,bad\nI like it,good\nnever again,bad\n")
    return path


OF_REVIEWS = ("--text-column", "review", "--label-column", "stars")


def test_a_checkpoint_is_the_same(prunus: Any, pruned_folder: Path) -> None:
    ran = prunus("check", pruned_folder, *QUICK)
    assert ran.status == 0, ran.stderr
    lines = ran.stdout.splitlines()
    assert lines[0].split()[:2] == ["size", "calls"]
    assert [line.split()[:3] for line in lines[1:3]] == [
        ["1", "token", "3"],
        ["17", "tokens", "6"],
    ]
    assert all(line.endswith("same") for line in lines[1:3])
    assert lines[-1] == f"SAME: {pruned_folder} answers as transformers does"
    assert "comparing calls: 0 of 9" in ran.stderr


def test_json_has_every_call(prunus: Any, pruned_folder: Path) -> None:
    data = prunus("check", pruned_folder, *QUICK, "--json").json()
    assert data["same"] is True and data["data"] is None and data["simulated"] is None
    assert data["model"] == data["reference"] == str(pruned_folder)
    assert len(data["parity"]["calls"]) == 9
    call = data["parity"]["calls"][0]
    assert (call["batch"], call["length"], call["mask"]) == (1, 1, "none")
    assert call["same"] and 0 <= call["difference"] <= call["bar"]


def test_a_wrong_weight_in_a_saved_folder(prunus: Any, pruned_folder: Path, tmp_path: Path) -> None:
    right, wrong = tmp_path / "right", tmp_path / "wrong"
    assert prunus("compile", pruned_folder, "-o", right, "-t", "1").status == 0
    assert prunus("check", right, "--reference", pruned_folder, *QUICK).status == 0
    perturbed(package.load(right, threads=1)).save_pretrained(wrong)
    ran = prunus("check", wrong, "--reference", pruned_folder, *QUICK)
    assert ran.status == 1
    assert "calls beyond the bar: " in ran.stdout
    last = ran.stdout.splitlines()[-1]
    assert last.startswith("DIFFERENT: ") and last.endswith(" of 9 calls are beyond the bar")
    ran = prunus("check", wrong, "--reference", pruned_folder, *QUICK, "--json")
    assert ran.status == 1
    assert json.loads(ran.stdout)["same"] is False


def test_a_saved_folder_needs_a_reference(
    prunus: Any, pruned_folder: Path, dense_folder: Path, tmp_path: Path
) -> None:
    assert prunus("compile", pruned_folder, "-o", tmp_path, "-t", "1").status == 0
    ran = prunus("check", tmp_path, *QUICK)
    assert ran.status == 2 and "--reference CHECKPOINT" in ran.stderr
    ran = prunus("check", tmp_path, "--reference", tmp_path, *QUICK)
    assert ran.status == 2 and "give the checkpoint" in ran.stderr
    ran = prunus("check", pruned_folder, "--reference", dense_folder, *QUICK)
    assert ran.status == 2 and "leave it out" in ran.stderr
    # The dense model has other weights, and what it answers is not the same.
    assert prunus("check", tmp_path, "--reference", dense_folder, *QUICK).status == 1


@pytest.mark.usefixtures("tiny_stand_ins")
@pytest.mark.parametrize("model", ["stand-in", "random:0.9"])
def test_stand_ins(prunus: Any, model: str) -> None:
    ran = prunus("check", model, *QUICK)
    assert ran.status == 0, ran.stderr
    assert "SIMULATED zeros: " in ran.stdout


def test_simulated_zeros_are_the_same_in_both(
    prunus: Any, dense_folder: Path, tmp_path: Path
) -> None:
    simulate = ("--simulate", "0.9")
    ran = prunus("check", dense_folder, *simulate, *QUICK)
    assert ran.status == 0, ran.stderr
    assert "SIMULATED zeros: 0.9 of all" in ran.stdout
    assert prunus("compile", dense_folder, *simulate, "-o", tmp_path, "-t", "1").status == 0
    against = ("check", tmp_path, "--reference", dense_folder, *QUICK)
    assert prunus(*against, *simulate).status == 0
    for other in ((), ("--simulate", "0.8")):
        ran = prunus(*against, *other)
        assert ran.status == 2 and "give the --simulate" in ran.stderr


def test_data(prunus: Any, classifier: Path, reviews: Path) -> None:
    arguments = ("check", classifier, *QUICK, "--data", reviews, *OF_REVIEWS)
    ran = prunus(*arguments)
    assert ran.status == 0, ran.stderr
    assert f"text classification, 3 rows of {reviews}" in ran.stdout
    assert "answers that differ: 0 of 3" in ran.stdout
    data = prunus(*arguments, "--limit", "2", "--json").json()["data"]
    assert data["rows"] == 2 and data["differing"] == 0
    assert [metric["name"] for metric in data["metrics"]] == ["accuracy", "F1 (macro)"]
    assert all(metric["prunus"] == metric["transformers"] for metric in data["metrics"])


def test_a_metric_that_drops(prunus: Any, classifier: Path, reviews: Path, tmp_path: Path) -> None:
    model = package.from_pretrained(classifier, threads=1)
    perturbed(model, -200, weight="classifier.bias").save_pretrained(tmp_path / "wrong")
    arguments = (
        *("check", tmp_path / "wrong", "--reference", classifier, *QUICK),
        *("--data", reviews, *OF_REVIEWS),
    )
    ran = prunus(*arguments)
    assert ran.status == 1
    assert "answers that differ: 3 of 3" in ran.stdout
    rows = {line.split()[0]: line.split()[1:] for line in ran.stdout.splitlines() if line}
    assert rows["accuracy"] == ["0.3333", "0.6667", "0.3333", "DIFFERENT"]
    assert "accuracy dropped by 0.3333 (tolerated: 0)" in ran.stdout.splitlines()[-1]
    tolerant = prunus(*arguments, "--tolerance", "0.34")
    assert tolerant.status == 1, "the answers themselves are still beyond the bar"
    assert "dropped" not in tolerant.stdout


def test_squad(prunus: Any, tmp_path: Path, minilm_folder: Path) -> None:
    folder = save(bert("ForQuestionAnswering", vocab_size=REAL_VOCABULARY), tmp_path / "answers")
    question = {"id": "1", "question": "Who wrote it?", "answers": [{"text": "Ada"}]}
    paragraph = {"context": "Ada wrote the first program.", "qas": [question]}
    squad = tmp_path / "squad.json"
    squad.write_text(json.dumps({"data": [{"paragraphs": [paragraph]}]}))
    data = prunus("check", folder, *QUICK, "--data", squad, "--json").json()["data"]
    assert data["task"] == "question answering" and data["differing"] == 0
    assert [metric["name"] for metric in data["metrics"]] == ["exact match", "F1"]


def test_data_that_does_not_fit(
    prunus: Any, classifier: Path, pruned_folder: Path, reviews: Path, tmp_path: Path
) -> None:
    def says(*arguments: object) -> str:
        ran = prunus("check", *arguments, *QUICK)
        assert ran.status == 2 and ran.stdout == ""
        return str(ran.stderr)

    assert "columns review, stars, but for labels" in says(classifier, "--data", reviews)
    named = ("--text-column", "review", "--label-column", "review")
    unknown = says(classifier, "--data", reviews, *named)
    assert "line 2 has the label 'not at all'; the model knows 0 bad, 1 good" in unknown
    assert "none.csv cannot be read" in says(classifier, "--data", tmp_path / "none.csv")
    assert "holds no tokenizer" in says(pruned_folder, "--data", reviews)
    assert "stand-in has no tokenizer" in says("stand-in", "--data", reviews)


@pytest.mark.parametrize(
    "option",
    [
        *(("--text-column", "x"), ("--label-column", "x"), ("--limit", "3")),
        *(("--tolerance", "0"), ("--pooling", "cls")),
    ],
)
def test_options_of_data_need_data(prunus: Any, option: tuple[str, str]) -> None:
    ran = prunus("check", "stand-in", *option)
    assert ran.status == 2 and "only with --data" in " ".join(ran.stderr.split())


def test_sizes_that_cannot_be(prunus: Any, pruned_folder: Path) -> None:
    for sizes, says in ((("-s", "41"), "limit of 40"), (("-b", "0"), "whole number from 1")):
        ran = prunus("check", pruned_folder, *sizes, "-t", "1")
        assert ran.status == 2 and says in ran.stderr
