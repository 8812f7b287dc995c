"""The question-answering pipeline, which transformers had until 5.3, for compiled models."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from prunus.errors import InputError
from prunus.hf.limits import check_vocabulary
from prunus.hf.models import PrunusModelForQuestionAnswering
from prunus.text.questions import QuestionAnswering, Span, check_sides

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Answer: TypeAlias = dict[str, str | float | int]
"""`answer`, its `score`, and its place in the context: `start`, `end`."""

DEFAULTS: dict[str, Any] = {
    "top_k": 1,
    "max_answer_len": 15,
    "handle_impossible_answer": False,
    "align_to_words": True,
    "max_seq_len": 384,
    "doc_stride": 128,
    "batch_size": 1,
}
"""What a call does unless it is told otherwise: as in transformers."""


class QuestionAnsweringPipeline:
    """Answers questions by spans of a context, however long it is.

        pipe = QuestionAnsweringPipeline(model, tokenizer)
        pipe(question="Where?", context="…")   # {"score": …, "start": …, "end": …, "answer": …}

    It takes what the pipeline of transformers took: a question and a context by keyword, or lists
    of them, or a dict with both, or a list of such dicts, or any other iterable of them, whose
    answers then come one by one, as they are asked for. A list of dicts is answered by a list,
    also where it has one element.

    Attributes:
        model: The model.
        tokenizer: Its tokenizer.
        task: "question-answering".
        device: That of the model, the processor.
    """

    task = "question-answering"

    def __init__(
        self,
        model: PrunusModelForQuestionAnswering,
        tokenizer: PreTrainedTokenizerFast,
        **settings: Any,
    ) -> None:
        """Put a model and its tokenizer together.

        Args:
            model: A model for question answering.
            tokenizer: The fast one of transformers that the model was trained with.
            **settings: What a call should do unless it is told otherwise; see `__call__`.

        Raises:
            InputError: a model of another task, a tokenizer that is slow or knows more tokens than
                the model, or a setting that cannot be used.
            UnsupportedError: a tokenizer that pads or cuts at the left.
            TypeError: an unknown setting.
        """
        if not isinstance(model, PrunusModelForQuestionAnswering):
            raise InputError(
                f"question answering needs a PrunusModelForQuestionAnswering, found a "
                f"{type(model).__name__}: load the model with that class"
            )
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise InputError(
                f"question answering needs a fast tokenizer, found a {type(tokenizer).__name__}: "
                "load it with AutoTokenizer.from_pretrained"
            )
        check_sides(tokenizer.padding_side, tokenizer.truncation_side, "the tokenizer")
        check_vocabulary(model.compiled, tokenizer)
        self.model, self.tokenizer, self.device = model, tokenizer, model.device
        self._backend = backend
        own = tokenizer.model_max_length
        self._longest = min(model.compiled.longest or own, own)
        self._readers: dict[tuple[int, int, int], QuestionAnswering] = {}
        self._settings = DEFAULTS | {"max_seq_len": min(DEFAULTS["max_seq_len"], self._longest)}
        self._settings = self._updated(settings)

    def __call__(
        self,
        inputs: Mapping[str, str] | Iterable[Mapping[str, str]] | None = None,
        *,
        question: str | Sequence[str] | None = None,
        context: str | Sequence[str] | None = None,
        **settings: Any,
    ) -> Any:
        """The answers, each a dict of `answer`, `score`, `start` and `end`; the best one, or a
        list of the best where `top_k` is above 1.

        Args:
            inputs: A dict with `question` and `context`, or several.
            question: A question, or several.
            context: Its context, one for all questions, or one for each.
            **settings: `top_k`, how many answers (1); `max_answer_len`, their tokens at most (15);
                `handle_impossible_answer`, whether "no answer", an empty text, is one (False);
                `align_to_words`, whether an answer has whole words (True); `max_seq_len`, the
                tokens of a window with the question, at most (384, or the model's limit);
                `doc_stride`, the tokens that neighbouring windows share (128); `batch_size`, how
                many windows the model is given at a time (1).

        Raises:
            InputError: no question, an empty one or an empty context, a setting that cannot be
                used.
            TypeError: an unknown setting.
        """
        chosen = self._updated(settings)
        if inputs is None:
            inputs = _joined(question, context)
        elif question is not None or context is not None:
            raise InputError("question= or context= stand beside other inputs: give one of both")
        if isinstance(inputs, Mapping | str):
            return next(self._answers([_pair(inputs)], chosen))
        answers = self._answers(map(_pair, inputs), chosen)
        if not isinstance(inputs, list | tuple):
            return answers
        if not inputs:
            raise InputError("the list of questions is empty: there is nothing to answer")
        return list(answers)

    def _updated(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        if unknown := settings.keys() - self._settings.keys():
            raise TypeError(
                f"unknown setting {min(unknown)!r}; question answering takes "
                f"{', '.join(self._settings)}"
            )
        chosen = {**self._settings, **settings}
        if chosen["max_seq_len"] > self._longest:
            raise InputError(
                f"max_seq_len is {chosen['max_seq_len']}, but model and tokenizer take at most "
                f"{self._longest}; longer contexts are read in several windows"
            )
        return chosen

    def _answers(
        self, pairs: Iterable[tuple[str, str]], chosen: Mapping[str, Any]
    ) -> Iterator[Any]:
        """What is handed out for each question, in their order, as it is asked for."""
        reader = self._reader(chosen["max_seq_len"], chosen["doc_stride"], chosen["batch_size"])
        found = reader.answers(
            pairs,
            top_k=chosen["top_k"],
            no_answer=chosen["handle_impossible_answer"],
            max_answer_length=chosen["max_answer_len"],
            align_to_words=chosen["align_to_words"],
        )
        for spans in found:
            answers = [_as_answer(span) for span in spans]
            yield answers[0] if chosen["top_k"] == 1 else answers

    def _reader(self, max_length: int, stride: int, batch_size: int) -> QuestionAnswering:
        """Made once for each choice, as it copies the tokenizer."""
        key = (max_length, stride, batch_size)
        if key not in self._readers:
            self._readers[key] = QuestionAnswering(
                self._logits,
                self._backend,
                input_names=self.model.compiled.input_names,
                max_length=max_length,
                stride=stride,
                batch_size=batch_size,
            )
        return self._readers[key]

    def _logits(self, inputs: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        answer = self.model(**inputs, return_dict=True)
        return answer["start_logits"], answer["end_logits"]


def _joined(
    question: str | Sequence[str] | None, context: str | Sequence[str] | None
) -> Mapping[str, str] | list[Mapping[str, str]]:
    """A question with its context as a dict, or several."""
    if question is None or context is None:
        raise InputError(
            "there is nothing to answer: give question= and context=, or dicts with both"
        )
    if isinstance(question, str) and isinstance(context, str):
        return {"question": question, "context": context}
    questions = [question] if isinstance(question, str) else list(question)
    contexts = [context] * len(questions) if isinstance(context, str) else list(context)
    if len(questions) != len(contexts):
        raise InputError(
            f"{len(questions)} questions and {len(contexts)} contexts: give one context for all, "
            "or one for each"
        )
    return [{"question": q, "context": c} for q, c in zip(questions, contexts, strict=True)]


def _pair(example: Mapping[str, str] | str) -> tuple[str, str]:
    if not isinstance(example, Mapping) or not {"question", "context"} <= example.keys():
        found = f"keys {sorted(example)}" if isinstance(example, Mapping) else repr(example)[:60]
        raise InputError(f"expected a dict with a question and a context, found {found}")
    return example["question"], example["context"]


def _as_answer(span: Span) -> Answer:
    return {"score": span.score, "start": span.start, "end": span.end, "answer": span.answer}
