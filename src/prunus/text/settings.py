"""What a model is for, and what its files say about its answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal, get_args

from prunus.errors import CheckpointError, UnsupportedError
from prunus.frontend.structure import Structure
from prunus.text.files import SETTINGS, Files, read_json, read_object

Task = Literal[
    "question-answering",
    "text-classification",
    "token-classification",
    "fill-mask",
    "feature-extraction",
]
"""As the hub calls it."""

Pooling = Literal["mean", "cls", "max"]
"""How the vectors of tokens become the one of a text: the mean, the first, or the maximum."""

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


@dataclass(frozen=True, slots=True)
class Sentences:
    """How sentence-transformers makes a vector of a text.

    Attributes:
        pooling: How tokens become one vector.
        normalize: Whether that vector has length 1.
        longest: Tokens of a text, at most; None where nothing is said.
    """

    pooling: Pooling = "mean"
    normalize: bool = False
    longest: int | None = None

    @staticmethod
    def read(folder: Path) -> Sentences:
        """What `modules.json` and the files that it names say; the defaults where there is none.

        Raises:
            UnsupportedError: a module or a pooling that is not known here.
            CheckpointError: files that cannot be read.
        """
        path = folder / "modules.json"
        if not path.is_file():
            return Sentences()
        pooling: Pooling = "mean"
        normalize = False
        for name, place in _modules(path):
            if name == "Pooling":
                pooling = _pooling(folder / place / "config.json")
            elif name == "Normalize":
                normalize = True
            elif name != "Transformer":
                raise UnsupportedError(
                    f"{path} has a module {name}, of which prunus knows nothing; expected "
                    "Transformer, Pooling and Normalize"
                )
        settings = folder / "sentence_bert_config.json"
        longest = read_json(settings).get("max_seq_length") if settings.is_file() else None
        return Sentences(pooling, normalize, longest if isinstance(longest, int) else None)


def longest_text(files: Files, *limits: int | None) -> int | None:
    """Tokens of a text at most: the least of what the tokenizer's settings and others say."""
    own = read_object(files, SETTINGS).get("model_max_length")
    numbers = [*limits, own if isinstance(own, int | float) else None]
    known = [int(each) for each in numbers if each is not None and 0 < each < _NO_LIMIT]
    return min(known, default=None)


def _modules(path: Path) -> Sequence[tuple[str, str]]:
    """The class and the folder of each module, in their order."""
    modules = read_json(path)
    try:
        found = [(str(each["type"]).rpartition(".")[2], str(each["path"])) for each in modules]
    except (KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path} is no list of modules, as sentence-transformers writes it: copy it again"
        ) from error
    for _, place in found:
        if ".." in PurePosixPath(place).parts or PurePosixPath(place).is_absolute():
            raise CheckpointError(f"{path} names {place!r:.60}, which is outside of its folder")
    return found


def _pooling(path: Path) -> Pooling:
    config: Any = read_json(path)
    if not isinstance(config, dict):
        raise CheckpointError(f"{path} is no configuration of a pooling: copy it again")
    modes = config.get("pooling_mode")
    if modes is None:  # as it was written before version 6
        modes = [
            key.removeprefix("pooling_mode_").removesuffix("_tokens").removesuffix("_token")
            for key, chosen in config.items()
            if key.startswith("pooling_mode_") and chosen is True
        ]
    modes = [modes] if isinstance(modes, str) else modes
    for known in get_args(Pooling):
        if modes == [known]:
            found: Pooling = known
            return found
    raise UnsupportedError(
        f"{path} asks for the pooling {modes}, expected one of {', '.join(get_args(Pooling))}"
    )
