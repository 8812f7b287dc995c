"""Which columns of a file hold texts and labels, and what their values mean."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prunus.check.data import Data, Row
from prunus.errors import InputError

Names = tuple[str, ...]

SINGLE: tuple[Names, ...] = (("text",), ("sentence",), ("content",), ("document",))
PAIRS: tuple[Names, ...] = (
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("question", "context"),
    ("text1", "text2"),
    ("text_a", "text_b"),
)
QUESTIONS: tuple[Names, ...] = (("question", "context"),)
TOKENS: tuple[Names, ...] = (("tokens",), ("words",))

LABELS = ("label", "labels")
SCORES = ("score", "similarity_score", *LABELS)
TAGS = ("tags", "ner_tags", "pos_tags", *LABELS)
ANSWERS = ("answers", "answer")


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns that a user named; where none is named, one of a usual name is taken.

    Attributes:
        text: One column, or two for pairs of texts.
        label: The column of labels, scores, tags or answers.
    """

    text: Names = ()
    label: str | None = None

    def texts(self, data: Data, usual: Sequence[Names]) -> Names:
        """The columns of the texts: those of the first entry that is there. Raises `InputError`."""
        counts = sorted({len(names) for names in usual})
        if self.text and len(self.text) not in counts:
            raise InputError(
                f"{len(self.text)} columns of texts are named ({', '.join(self.text)}), but this "
                f"task takes {' or '.join(map(str, counts))}"
            )
        return _find(data, "texts", "--text-column", [self.text] if self.text else usual)

    def labels(self, data: Data, usual: Names) -> str:
        """The column of the labels. Raises `InputError` where there is none."""
        names = [(name,) for name in usual]
        (name,) = _find(data, "labels", "--label-column", [(self.label,)] if self.label else names)
        return name


def _find(data: Data, what: str, option: str, choices: Sequence[Names]) -> Names:
    for names in choices:
        if set(names) <= set(data.columns):
            return names
    raise InputError(
        f"{data.path} has the columns {', '.join(data.columns)}, but for {what} expected "
        f"{', or '.join(' and '.join(names) for names in choices)}; name them ({option})"
    )


def text_values(data: Data, column: str) -> list[str]:
    """The texts of a column. Raises `InputError` for a row that holds something else."""
    return [_text(data, row, column, value) for row, value in data.values(column)]


def label_values(data: Data, column: str, names: Mapping[int, str]) -> list[int]:
    """The labels of a column as numbers; in the file they are numbers or the names of the model.

    Raises:
        InputError: a label that the model does not know.
    """
    return [_label(data, row, value, names) for row, value in data.values(column)]


def score_values(data: Data, column: str) -> list[float]:
    """The scores of a column. Raises `InputError` for what is no finite number."""
    return [_score(data, row, column, value) for row, value in data.values(column)]


def answer_values(data: Data, column: str) -> list[list[str]]:
    """The right answers of each row, none where the context has none: a text, a list of texts, or
    SQuAD's `{"text": […]}`. Raises `InputError` for anything else.
    """
    return [_answers(data, row, column, value) for row, value in data.values(column)]


def tagged_values(
    data: Data, tokens: str, tags: str, names: Mapping[int, str]
) -> Iterator[tuple[list[str], list[int]]]:
    """The tokens of each row with the number of their tags.

    Raises:
        InputError: a row that has no tokens or not a tag for each, or a tag that the model does not
            know.
    """
    for (row, words), (_, found) in zip(data.values(tokens), data.values(tags), strict=True):
        if not (isinstance(words, list) and isinstance(found, list) and words):
            raise data.wrong(
                row,
                f"holds no lists in {tokens!r} and {tags!r}, expected tokens and a tag for each",
            )
        if len(words) != len(found):
            raise data.wrong(
                row, f"has {len(words)} {tokens} and {len(found)} {tags}, expected as many"
            )
        yield (
            [_text(data, row, tokens, word) for word in words],
            [_label(data, row, tag, names) for tag in found],
        )


def _text(data: Data, row: Row, column: str, value: Any) -> str:
    if not isinstance(value, str):
        raise data.wrong(
            row, f"holds the {type(value).__name__} {value!r:.40} in {column!r}, expected a text"
        )
    return value


def _label(data: Data, row: Row, value: Any, names: Mapping[int, str]) -> int:
    if isinstance(value, str):
        exact = [number for number, name in names.items() if name == value]
        folded = [n for n, name in names.items() if name.casefold() == value.casefold()]
        if len(found := exact or folded) == 1:
            return found[0]
    number = _number(value)
    if number in names:
        return int(number)
    known = ", ".join(f"{number} {name}" for number, name in sorted(names.items()))
    raise data.wrong(row, f"has the label {value!r:.40}; the model knows {known}")


def _score(data: Data, row: Row, column: str, value: Any) -> float:
    score = _number(value)
    if not math.isfinite(score):
        raise data.wrong(row, f"has the {column} {value!r:.40}, expected a number")
    return score


def _number(value: Any) -> float:
    """What a number or its text stands for, NaN for anything else."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def _answers(data: Data, row: Row, column: str, value: Any) -> list[str]:
    answers = value.get("text") if isinstance(value, dict) else value
    answers = [answers] if isinstance(answers, str) else answers
    if not isinstance(answers, list) or not all(isinstance(each, str) for each in answers):
        raise data.wrong(row, f"holds {value!r:.40} in {column!r}, expected texts of answers")
    return answers
