"""The metrics of each task, from scikit-learn, SciPy and torchmetrics; all are shares of 1."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from prunus.check.libraries import library
from prunus.check.parity import BAR
from prunus.errors import InputError


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric of both engines; the larger, the better. NaN where it is not defined."""

    name: str
    prunus: float
    transformers: float

    @property
    def drop(self) -> float:
        """By how much prunus is worse; NaN where only one of both is defined."""
        undefined = math.isnan(self.prunus) and math.isnan(self.transformers)
        return 0.0 if undefined else self.transformers - self.prunus

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {
            "name": self.name,
            "prunus": self.prunus,
            "transformers": self.transformers,
            "drop": self.drop,
        }


class Judge(ABC):
    """Says how good the answers of an engine are, and how many of two engines differ."""

    @abstractmethod
    def metrics(self, answers: Sequence[Any], truth: Sequence[Any]) -> dict[str, float]:
        """The metrics by name."""

    def differing(self, ours: Sequence[Any], theirs: Sequence[Any]) -> int:
        """How many answers are not the same."""
        return sum(a != b for a, b in zip(ours, theirs, strict=True))


class LabelJudge(Judge):
    """Accuracy and macro F1 of labels. Raises `UnsupportedError` without scikit-learn."""

    def __init__(self) -> None:
        self._metrics = library("sklearn.metrics", "computes accuracy and F1")

    def metrics(self, answers: Sequence[int], truth: Sequence[int]) -> dict[str, float]:
        """Accuracy and macro F1."""
        return {
            "accuracy": float(self._metrics.accuracy_score(truth, answers)),
            "F1 (macro)": float(self._metrics.f1_score(truth, answers, average="macro")),
        }


class ScoreJudge(Judge):
    """Spearman's rank correlation of scores. Raises `UnsupportedError` without SciPy."""

    def __init__(self) -> None:
        self._stats = library("scipy.stats", "computes Spearman's correlation")

    def metrics(self, answers: Sequence[float], truth: Sequence[float]) -> dict[str, float]:
        """Spearman's correlation; NaN where all answers are equal, or one is NaN.

        Raises:
            InputError: all scores of the data are equal.
        """
        if len(set(truth)) < 2:
            raise InputError(
                f"every score of the data is {truth[0]}: Spearman's correlation compares their "
                "order, so give rows with different scores"
            )
        if len(set(answers)) < 2 or not np.isfinite(answers).all():
            return {"Spearman": math.nan}
        return {"Spearman": float(self._stats.spearmanr(answers, truth).statistic)}

    def differing(self, ours: Sequence[float], theirs: Sequence[float]) -> int:
        """Those that lie apart by more than the bar of parity; a NaN is never the same."""
        apart = np.abs(np.subtract(ours, theirs))
        return int((~(apart <= BAR * np.maximum(1, np.abs(theirs)))).sum())


class SpanJudge(Judge):
    """SQuAD's exact match and F1. Raises `UnsupportedError` without torchmetrics."""

    def __init__(self) -> None:
        self._text = library("torchmetrics.functional.text", "computes SQuAD's metrics")

    def metrics(self, answers: Sequence[str], truth: Sequence[list[str]]) -> dict[str, float]:
        """Exact match and F1; where there is no answer, an empty one is right."""
        found = [{"id": str(i), "prediction_text": answer} for i, answer in enumerate(answers)]
        right = [{"id": str(i), "answers": {"text": all or [""]}} for i, all in enumerate(truth)]
        percent = self._text.squad(found, right)
        return {
            "exact match": float(percent["exact_match"]) / 100,
            "F1": float(percent["f1"]) / 100,
        }
