"""Columns by usual names and by given ones, and what labels mean."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from prunus.check.columns import (
    ANSWERS,
    LABELS,
    PAIRS,
    SCORES,
    SINGLE,
    Columns,
    answer_values,
    label_values,
    score_values,
    tagged_values,
    text_values,
)
from prunus.check.data import Data, Row
from prunus.errors import InputError

NAMES = {0: "NEGATIVE", 1: "positive", 2: "Positive"}


def data(*rows: dict[str, Any]) -> Data:
    placed = (Row(f"line {number}", row) for number, row in enumerate(rows, start=1))
    return Data(Path("rows.jsonl"), tuple(placed))


@pytest.mark.parametrize(
    ("row", "texts"),
    [
        ({"label": 0, "text": ""}, ("text",)),
        ({"sentence": "", "idx": 3}, ("sentence",)),
        ({"sentence1": "", "sentence2": ""}, ("sentence1", "sentence2")),
        ({"hypothesis": "", "premise": "", "text": ""}, ("premise", "hypothesis")),
        ({"question": "", "context": ""}, ("question", "context")),
    ],
)
def test_texts_are_found_by_usual_names(row: dict[str, Any], texts: tuple[str, ...]) -> None:
    assert Columns().texts(data(row), (*PAIRS, *SINGLE)) == texts


def test_columns_that_are_named() -> None:
    rows = data({"text": "", "label": 0, "body": "", "stars": 3})
    assert Columns(("body",), "stars").texts(rows, SINGLE) == ("body",)
    assert Columns(("body",), "stars").labels(rows, LABELS) == "stars"
    assert Columns(("text", "body")).texts(rows, (*PAIRS, *SINGLE)) == ("text", "body")
    assert Columns().labels(rows, LABELS) == "label"
    with pytest.raises(InputError, match=r"1 columns of texts are named \(body\), .* takes 2"):
        Columns(("body",)).texts(rows, PAIRS)
    with pytest.raises(InputError, match=r"text, label, body, stars, but for texts expected mood"):
        Columns(("mood",)).texts(rows, SINGLE)
    with pytest.raises(InputError, match=r"expected mood; name them \(--label-column\)"):
        Columns(label="mood").labels(rows, LABELS)


def test_missing_columns_are_named_with_those_there_are() -> None:
    rows = data({"body": "", "stars": 3})
    with pytest.raises(InputError, match=r"has the columns body, stars, but for labels .*label"):
        Columns().labels(rows, SCORES)
    with pytest.raises(InputError, match=r"body, stars, .* premise and hypothesis, or .*--text"):
        Columns().texts(rows, PAIRS)


def test_labels_are_numbers_or_names() -> None:
    given = [0, "1", "NEGATIVE", "negative", "positive", "Positive", 2.0, True]
    rows = data(*({"label": label} for label in given))
    assert label_values(rows, "label", NAMES) == [0, 1, 0, 0, 1, 2, 2, 1]


@pytest.mark.parametrize("label", [3, -1, "POSITIVE", "neutral", "", 0.5, math.nan, [0]])
def test_unknown_labels_are_told_with_the_known(label: Any) -> None:
    rows = data({"label": 0}, {"label": label})
    with pytest.raises(
        InputError, match=r"line 2 has the label .* knows 0 NEGATIVE, 1 positive, 2"
    ):
        label_values(rows, "label", NAMES)


def test_a_row_without_a_value() -> None:
    for second in ({}, {"label": None}):
        with pytest.raises(InputError, match=r"rows\.jsonl, line 2 has no 'label'"):
            label_values(data({"label": 0}, second), "label", NAMES)


def test_texts_are_texts() -> None:
    assert text_values(data({"text": ""}), "text") == [""]
    with pytest.raises(InputError, match="line 1 holds the int 3 in 'text', expected a text"):
        text_values(data({"text": 3}), "text")


def test_scores_are_numbers() -> None:
    assert score_values(data({"score": "2.5"}, {"score": 3}), "score") == [2.5, 3]
    for score in ("high", math.inf, "nan"):
        with pytest.raises(InputError, match=r"line 1 has the score .* expected a number"):
            score_values(data({"score": score}), "score")


def test_answers_in_every_form() -> None:
    forms = ["Ada", ["Ada", "she"], {"text": ["Ada"], "answer_start": [0]}, [], {"text": []}]
    rows = data(*({"answers": form} for form in forms))
    column = Columns().labels(rows, ANSWERS)
    assert answer_values(rows, column) == [["Ada"], ["Ada", "she"], ["Ada"], [], []]
    for wrong in (3, [3], {"start": 1}):
        with pytest.raises(InputError, match="expected texts of answers"):
            answer_values(data({"answers": wrong}), "answers")


def test_tags() -> None:
    rows = data({"tokens": ["a", "b"], "tags": ["NEGATIVE", 1]})
    assert list(tagged_values(rows, "tokens", "tags", NAMES)) == [(["a", "b"], [0, 1])]
    for tokens, tags, says in (
        (["a"], [0, 1], "has 1 tokens and 2 tags"),
        ("a b", [0, 1], "expected tokens and a tag for each"),
        ([], [], "expected tokens and a tag for each"),
        (["a"], [7], "label 7; the model knows"),
        ([3], [0], "expected a text"),
    ):
        with pytest.raises(InputError, match=f"line 1 .*{says}"):
            list(tagged_values(data({"tokens": tokens, "tags": tags}), "tokens", "tags", NAMES))
