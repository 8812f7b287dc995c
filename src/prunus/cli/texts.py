"""Texts on the command line, and what a model answers to them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from prunus.errors import InputError
from prunus.text import Entity, Fill, Label, Span, TextModel

_SHOWN = 5
"""Numbers of a vector that people see."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What to find out about which texts; the fields are options of `prunus run`."""

    texts: Sequence[str]
    question: str | None = None
    top_k: int | None = None
    truncate: bool = False

    def check(self, task: str) -> None:
        """Insist on options that mean something for a model of this task.

        Raises:
            InputError: one does not, or the question is missing.
        """
        asks = task == "question-answering"
        if asks and self.question is None:
            raise InputError(f"the model is for {task}: add --question '…' to the text")
        meaningless = {
            "question": self.question is not None and not asks,
            "truncate": self.truncate and asks,  # a long text is read in windows
            "top-k": self.top_k is not None
            and task in ("token-classification", "feature-extraction"),
        }
        for name, given in meaningless.items():
            if given:
                raise InputError(f"--{name} means nothing for a model for {task}: leave it out")

    def answers(self, model: TextModel) -> list[Any]:
        """What the model answers to each text, in their order.

        Raises:
            InputError: texts that the model does not take.
        """
        self.check(model.task)
        texts, truncate = self.texts, self.truncate
        if model.task == "question-answering":
            pairs = [(self.question or "", text) for text in texts]
            return list(model.answers(pairs, top_k=1 if self.top_k is None else self.top_k))
        if model.task == "text-classification":
            return [each[: self.top_k] for each in model.classify(texts, truncate=truncate)]
        if model.task == "token-classification":
            return model.label_tokens(texts, truncate=truncate)
        if model.task == "fill-mask":
            top_k = 5 if self.top_k is None else self.top_k
            return model.fill(texts, top_k=top_k, truncate=truncate)
        vectors: list[Any] = model.embed(texts, truncate=truncate).tolist()
        return vectors


def answers_data(model: TextModel, asked: Asked, answers: Sequence[Any]) -> dict[str, Any]:
    """For machines: an answer is a list of objects, or of numbers where it is a vector."""
    pairs = zip(asked.texts, answers, strict=True)
    return {
        "model": model.model.source.name,
        "task": model.task,
        "threads": model.model.threads,
        "simulated": model.model.simulated,
        "question": asked.question,
        "answers": [{"text": text, "answer": _plain(answer)} for text, answer in pairs],
    }


def answers_text(model: TextModel, asked: Asked, answers: Sequence[Any]) -> str:
    """For people: each text with its answers below it."""
    simulated = f", SIMULATED {model.model.simulated}" if model.model.simulated else ""
    lines = [f"{model.model.source.name}: {model.task}{simulated}"]
    for text, answer in zip(asked.texts, answers, strict=True):
        lines += ["", text, *(f"  {line}" for line in _lines(answer))]
    return "\n".join(lines)


def _plain(answer: Any) -> Any:
    if isinstance(answer, list):
        return [_plain(each) for each in answer]
    return answer if isinstance(answer, float) else dataclasses.asdict(answer)


def _lines(answer: Any) -> list[str]:
    if not answer:
        return ["nothing found"]
    if isinstance(answer[0], float):
        numbers = " ".join(f"{each:.4f}" for each in answer[:_SHOWN])
        return [f"{len(answer)} numbers: {numbers} …"]
    if isinstance(answer[0], list):  # one list for each mask
        return [line for each in answer for line in _lines(each)]
    return [f"{each.score:.4f}  {_told(each)}" for each in answer]


def _told(answer: Any) -> str:
    """An answer without its score."""
    match answer:
        case Label():
            return answer.label
        case Fill():
            return answer.token
        case Entity():
            return f"{answer.label}  {answer.text}  ({answer.start}–{answer.end})"
        case Span(answer=""):
            return "no answer"
        case Span():
            return f"{answer.answer}  ({answer.start}–{answer.end})"
    raise TypeError(type(answer).__name__)
