"""Quality: the task's metric of prunus and of the module, on the user's own data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prunus.check.columns import Columns
from prunus.check.data import Data
from prunus.check.engines import module_engine, output_types, prunus_engine
from prunus.check.metrics import Metric
from prunus.check.progress import Bar, Say, silent
from prunus.check.tasks import Pooling, Source, find_task, sentence_similarity
from prunus.check.tokens import Encoder
from prunus.errors import InputError, UnsupportedError

if TYPE_CHECKING:
    import torch

    from prunus.model import CompiledModel


@dataclass(frozen=True, slots=True)
class DataReport:
    """The metrics of both engines on the same rows.

    Attributes:
        path: The file.
        task: What the model was asked.
        rows: How many rows there were.
        cut: How many texts were longer than the model takes, and were cut.
        answers: How many answers there are: words, where words are tagged.
        differing: How many of them differ between the engines.
        metrics: The metrics of the task.
        tolerance: By how much a metric may be worse.
    """

    path: str
    task: str
    rows: int
    cut: int
    answers: int
    differing: int
    metrics: tuple[Metric, ...]
    tolerance: float

    @property
    def dropped(self) -> tuple[Metric, ...]:
        """The metrics that are worse by more than is tolerated.

        There are none where no answer differs: the order of scores that are the same but for
        rounding means nothing.
        """
        if not self.differing:
            return ()
        # A drop that is not a number is none that is tolerated.
        return tuple(each for each in self.metrics if not each.drop <= self.tolerance)

    @property
    def same(self) -> bool:
        """Whether no metric dropped."""
        return not self.dropped

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {
            "same": self.same,
            "path": self.path,
            "task": self.task,
            "rows": self.rows,
            "cut": self.cut,
            "answers": self.answers,
            "differing": self.differing,
            "metrics": [each.to_dict() for each in self.metrics],
            "tolerance": self.tolerance,
        }


def check_data(
    model: CompiledModel,
    module: torch.nn.Module,
    data: Data,
    tokenizer: Any,
    *,
    text_columns: Sequence[str] = (),
    label_column: str | None = None,
    pooling: Pooling | None = None,
    tolerance: float = 0.0,
    progress: Say = silent,
) -> DataReport:
    """Let a compiled model and the module that it was made from answer the same rows of data.

    The task follows from the model's outputs. Texts are tokenised once, and both engines get the
    same arrays.

    Args:
        model: The compiled model.
        module: The module; its configuration names the labels.
        data: What `read_data` read.
        tokenizer: Of transformers, as `load_tokenizer` gives it.
        text_columns: The column of texts, or two for pairs; found by usual names unless given.
        label_column: The column of labels, scores, tags or answers; likewise.
        pooling: How a sentence's embedding is made of its tokens', where similarity is checked;
            the mean unless given.
        tolerance: By how much a metric may be worse than the module's.
        progress: Told in a few words what is being done.

    Raises:
        InputError: data without the columns of the task or with values that it cannot have, a
            tokenizer of another vocabulary, or an option that the task has no use for.
        UnsupportedError: a model whose task is not known, or a library that is not installed.
    """
    if not tolerance >= 0:
        raise InputError(f"the tolerance is {tolerance}; give 0 or more")
    config = getattr(module, "config", None)
    labels: Mapping[int, str] = getattr(config, "id2label", None) or {}
    _insist_on_texts(model, config)
    outputs = {name: type.shape for name, type in output_types(model).items()}
    make = find_task(outputs, len(labels))
    if pooling is not None and make is not sentence_similarity:
        raise InputError(
            f"pooling={pooling!r} is of use only where the similarity of sentences is checked, but "
            f"the model answers {', '.join(outputs)}; leave it out"
        )
    columns = Columns(tuple(text_columns), label_column)
    task = make(Source(data, columns, Encoder.of(model, tokenizer), labels, pooling or "mean"))
    ours = task.answer(prunus_engine(model), Bar(progress, "prunus answers rows"))
    theirs = task.answer(module_engine(module, model), Bar(progress, "transformers answers rows"))
    found, expected = (task.judge.metrics(answers, task.truth) for answers in (ours, theirs))
    return DataReport(
        path=str(data.path),
        task=task.name,
        rows=len(data.rows),
        cut=task.cut,
        answers=len(ours),
        differing=task.judge.differing(ours, theirs),
        metrics=tuple(Metric(name, found[name], expected[name]) for name in expected),
        tolerance=tolerance,
    )


def _insist_on_texts(model: CompiledModel, config: Any) -> None:
    ids = model.graph.inputs.get("input_ids")
    if ids is None or ids.rank != 2:
        inputs = ", ".join(f"{name} {type}" for name, type in model.graph.inputs.items())
        raise UnsupportedError(
            f"the model takes {inputs}; data is checked for models of texts, whose input_ids are "
            "i64[batch, seq]"
        )
    if getattr(config, "problem_type", None) == "multi_label_classification":
        raise UnsupportedError(
            "the model gives a text several labels (problem_type is multi_label_classification), "
            "for which data is not checked"
        )
