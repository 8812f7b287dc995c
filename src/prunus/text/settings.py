"""What a model is for, and what its files say about its labels and its longest text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from prunus.errors import CheckpointError, UnsupportedError
from prunus.frontend.structure import Structure
from prunus.text.files import SETTINGS, Files, read_object

Task = Literal[
    "question-answering",
    "text-classification",
    "token-classification",
    "fill-mask",
    "feature-extraction",
]
"""As the hub calls it."""

Scoring = Literal["softmax", "sigmoid", "none"]
"""How logits become the scores of labels: of one label, of several at once, of a regression."""

_CLASSES: dict[str, Task] = {
    "QuestionAnswering": "question-answering",
    "SequenceClassifier": "text-classification",
    "TokenClassifier": "token-classification",
    "MaskedLM": "fill-mask",
}

_NO_LIMIT = 1_000_000
"""transformers writes 1e30 as the length of a tokenizer that knows none."""


def find_task(answer: Structure) -> Task:
    """The task of a model, by what it answers: transformers has a class of answers for each, and
    `config.architectures` need not name the class that the model was loaded as.

    Raises:
        UnsupportedError: a task without an answer in texts.
    """
    name = answer.origin.rpartition(":")[2]
    for part, task in _CLASSES.items():
        if part in name:
            return task
    if "last_hidden_state" in answer.keys:
        return "feature-extraction"
    parts = ", ".join(map(str, answer.keys)) or f"a {answer.form}"
    raise UnsupportedError(
        f"the model answers {name or answer.form} ({parts}), expected that of one of these tasks: "
        f"{', '.join(get_args(Task))}; call it with arrays instead"
    )


@dataclass(frozen=True, slots=True)
class Labels:
    """The labels of a classifier, and how their logits are scored."""

    names: tuple[str, ...]
    scoring: Scoring

    @staticmethod
    def read(files: Files, count: int) -> Labels:
        """The labels in `config.json` for that many logits.

        The scoring is what transformers' pipeline chooses: `problem_type` decides, and a single
        label without one has a sigmoid.

        Raises:
            CheckpointError: as many labels as logits are expected.
        """
        config = read_object(files, "config.json")
        named = config.get("id2label") or {str(i): f"LABEL_{i}" for i in range(count)}
        if not isinstance(named, dict) or set(named) != {str(i) for i in range(count)}:
            raise CheckpointError(
                f"id2label of config.json is {str(named)[:80]}, but the model has {count} labels: "
                'expected one name for each, {"0": …}'
            )
        problem = config.get("problem_type")
        scoring: Scoring = "softmax"
        if problem == "regression":
            scoring = "none"
        elif problem == "multi_label_classification" or count == 1:
            scoring = "sigmoid"
        return Labels(tuple(str(named[str(i)]) for i in range(count)), scoring)


def longest_text(files: Files, model: int | None, chosen: int | None) -> int | None:
    """Tokens of a text at most: what the model takes, or less where its files say so.

    Args:
        files: Those that came with the model.
        model: What the model takes; None where it takes any length.
        chosen: What sentence-transformers' configuration says. It is in the place of the limit in
            the tokenizer's settings, even where it is larger.
    """
    own = chosen if chosen is not None else read_object(files, SETTINGS).get("model_max_length")
    numbers = [model, own if type(own) in (int, float) else None]
    known = [int(each) for each in numbers if each is not None and 0 < each < _NO_LIMIT]
    return min(known, default=None)
