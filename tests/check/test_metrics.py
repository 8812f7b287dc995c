"""Metrics by hand, and which drops count."""

from __future__ import annotations

import math
import sys
from typing import Any

import pytest

from prunus.check.metrics import LabelJudge, Metric, ScoreJudge, SpanJudge
from prunus.check.quality import DataReport
from prunus.errors import InputError, UnsupportedError

NAN = math.nan


def test_labels() -> None:
    found = LabelJudge().metrics([0, 0, 1, 1], [0, 1, 1, 1])
    # Of label 0: precision 1/2, recall 1; of label 1: precision 1, recall 2/3.
    assert found == pytest.approx({"accuracy": 3 / 4, "F1 (macro)": (2 / 3 + 4 / 5) / 2})
    assert LabelJudge().differing([0, 1, 2], [0, 2, 1]) == 2


def test_scores() -> None:
    judge = ScoreJudge()
    assert judge.metrics([1, 2, 30], [0.1, 0.2, 0.3]) == pytest.approx({"Spearman": 1})
    assert judge.metrics([3, 1, 2], [1, 2, 3]) == pytest.approx({"Spearman": -0.5})
    assert math.isnan(judge.metrics([1, 1, 1], [1, 2, 3])["Spearman"])
    assert math.isnan(judge.metrics([1, NAN, 3], [1, 2, 3])["Spearman"])
    with pytest.raises(InputError, match="every score of the data is 4"):
        judge.metrics([1, 2], [4, 4])
    assert judge.differing([0, 1, 0.5, 100, NAN], [9e-5, 1.00011, 0.5, 100.009, NAN]) == 2


def test_spans() -> None:
    judge = SpanJudge()
    truth = [["the Great Wall", "a wall"], ["Ada"], []]
    assert judge.metrics(["Wall", "ada.", ""], truth) == pytest.approx(
        {"exact match": 1, "F1": 1}
    ), "articles, case and punctuation do not count"
    found = judge.metrics(["Great", "Bob", "x"], truth)
    assert found == pytest.approx({"exact match": 0, "F1": 2 / 3 / 3})


@pytest.mark.parametrize(
    ("judge", "module", "package"),
    [
        (LabelJudge, "sklearn.metrics", "scikit-learn"),
        (ScoreJudge, "scipy.stats", "scipy"),
        (SpanJudge, "torchmetrics.functional.text", "torchmetrics"),
    ],
)
def test_a_missing_library_is_told_with_what_to_do(
    judge: Any, module: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UnsupportedError, match=rf"^{package}.*pip install 'prunus\[check\]'"):
        judge()


@pytest.mark.parametrize(
    ("ours", "theirs", "differing", "tolerance", "same"),
    [
        (0.8, 0.8, 0, 0.0, True),
        (0.8, 0.8, 5, 0.0, True),
        (0.81, 0.8, 5, 0.0, True),
        (0.79, 0.8, 1, 0.0, False),
        (0.79, 0.8, 1, 0.02, True),
        (0.79, 0.8, 1, 0.009, False),
        (0.7999999, 0.8, 0, 0.0, True),
        (NAN, NAN, 9, 0.0, True),
        (NAN, 0.8, 9, 1.0, False),
        (0.8, NAN, 9, 1.0, False),
    ],
)
def test_which_drops_count(
    ours: float, theirs: float, differing: int, tolerance: float, same: bool
) -> None:
    metrics = (Metric("accuracy", ours, theirs),)
    report = DataReport("x.csv", "task", 9, 0, 9, differing, metrics, tolerance)
    assert report.same is same
    assert report.to_dict()["metrics"][0]["name"] == "accuracy"
