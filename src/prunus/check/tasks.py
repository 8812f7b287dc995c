"""What a model is for: how its outputs answer rows of data, and who judges the answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from prunus.check.columns import (
    ANSWERS,
    LABELS,
    PAIRS,
    QUESTIONS,
    SCORES,
    SINGLE,
    TAGS,
    TOKENS,
    Columns,
    answer_values,
    label_values,
    score_values,
    tagged_values,
    text_values,
)
from prunus.check.data import Data
from prunus.check.engines import Arrays, Engine
from prunus.check.metrics import Judge, LabelJudge, ScoreJudge, SpanJudge
from prunus.check.progress import Bar
from prunus.check.tokens import BATCH, Encoder, count_cut, rows_of
from prunus.errors import UnsupportedError
from prunus.text.questions import QuestionAnswering

Pooling = Literal["mean", "cls", "max"]
Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Task:
    """A task with its data, read and tokenised.

    Attributes:
        name: What it is called.
        judge: Of the answers.
        truth: The right answers.
        answer: Lets an engine answer all rows.
        cut: How many texts were longer than the model takes.
    """

    name: str
    judge: Judge
    truth: Sequence[Any]
    answer: Callable[[Engine, Bar], Sequence[Any]]
    cut: int = 0


@dataclass(frozen=True, slots=True)
class Source:
    """What a task is made from.

    Attributes:
        data: The rows.
        columns: Those that the user named.
        encoder: Makes arrays of texts.
        labels: The names of the model's labels, by their numbers.
        pooling: How a sentence's embedding is made of those of its tokens.
    """

    data: Data
    columns: Columns
    encoder: Encoder
    labels: Mapping[int, str]
    pooling: Pooling = "mean"


def text_classification(source: Source) -> Task:
    """The label of a text or a pair of texts."""
    judge, data = LabelJudge(), source.data
    truth = label_values(data, source.columns.labels(data, LABELS), source.labels)
    encoded = _encoded_texts(source)
    rows = rows_of(encoded)

    def answer(engine: Engine, bar: Bar) -> list[int]:
        return source.encoder.run(engine, rows, _best_labels, bar)

    return Task("text classification", judge, truth, answer, count_cut(encoded))


def text_scoring(source: Source) -> Task:
    """The score of a text or a pair of texts, by a model with one logit."""
    judge, data = ScoreJudge(), source.data
    truth = score_values(data, source.columns.labels(data, SCORES))
    encoded = _encoded_texts(source)
    rows = rows_of(encoded)

    def answer(engine: Engine, bar: Bar) -> list[float]:
        return source.encoder.run(engine, rows, lambda out, _: out["logits"][:, 0].tolist(), bar)

    return Task("text scoring", judge, truth, answer, count_cut(encoded))


def sentence_similarity(source: Source) -> Task:
    """How alike two texts are: the cosine of their pooled embeddings."""
    judge, data = ScoreJudge(), source.data
    truth = score_values(data, source.columns.labels(data, SCORES))
    first, second = (text_values(data, name) for name in source.columns.texts(data, PAIRS))
    encoded = source.encoder.encode([*first, *second])
    rows = rows_of(encoded)

    def pooled(outputs: Arrays, inputs: Arrays) -> list[Array]:
        return list(_pool(outputs["last_hidden_state"], inputs, source.pooling))

    def answer(engine: Engine, bar: Bar) -> list[float]:
        vectors = np.stack(source.encoder.run(engine, rows, pooled, bar))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        cosines: list[float] = (vectors[: len(first)] * vectors[len(first) :]).sum(1).tolist()
        return cosines

    return Task("sentence similarity", judge, truth, answer, count_cut(encoded))


def token_classification(source: Source) -> Task:
    """The tag of each word, read off its first token; a word that was cut off is not judged."""
    judge, data, columns = LabelJudge(), source.data, source.columns
    (tokens,) = columns.texts(data, TOKENS)
    tagged = list(tagged_values(data, tokens, columns.labels(data, TAGS), source.labels))
    encoded = source.encoder.encode([words for words, _ in tagged], words=True)
    rows = rows_of(encoded)
    places = [_first_tokens(each.word_ids) for each in encoded.encodings]
    truth = [tags[w] for (_, tags), row in zip(tagged, places, strict=True) for w in row]

    def answer(engine: Engine, bar: Bar) -> list[int]:
        found = source.encoder.run(engine, rows, _best_labels, bar)
        return [
            tags[place] for tags, row in zip(found, places, strict=True) for place in row.values()
        ]

    return Task("token classification", judge, truth, answer, count_cut(encoded))


def question_answering(source: Source) -> Task:
    """The span of a context that answers a question; long contexts are read in windows."""
    judge, data, columns, encoder = SpanJudge(), source.data, source.columns, source.encoder
    truth = answer_values(data, columns.labels(data, ANSWERS))
    questions, contexts = (text_values(data, name) for name in columns.texts(data, QUESTIONS))

    def answer(engine: Engine, bar: Bar) -> list[str]:
        def logits(inputs: Mapping[str, Array]) -> tuple[Array, Array]:
            outputs = engine(dict(inputs))
            return outputs["start_logits"], outputs["end_logits"]

        answering = QuestionAnswering(
            logits,
            encoder.tokenizer.backend_tokenizer,
            input_names=encoder.names,
            max_length=encoder.limit,
            batch_size=BATCH,
        )
        found: list[str] = []
        pairs = zip(questions, contexts, strict=True)
        for spans in answering.answers(pairs, no_answer=not all(truth)):
            bar.show(len(found), len(truth))
            found.append(spans[0].answer if spans else "")
        return found

    return Task("question answering", judge, truth, answer)


def find_task(outputs: Mapping[str, Sequence[object]], labels: int) -> Callable[[Source], Task]:
    """The task that a text encoder's outputs are for.

    Args:
        outputs: Their shapes by name.
        labels: How many labels the configuration names.

    Raises:
        UnsupportedError: outputs of another task.
    """
    logits = outputs.get("logits", ())
    match len(logits):
        case 2 if logits[-1] == 1:
            return text_scoring
        case 2:
            return text_classification
        case 3 if logits[-1] == labels:
            return token_classification
    if {"start_logits", "end_logits"} <= outputs.keys():
        return question_answering
    if "last_hidden_state" in outputs:
        return sentence_similarity
    shapes = (f"{name} [{', '.join(map(str, shape))}]" for name, shape in outputs.items())
    raise UnsupportedError(
        f"the model answers {', '.join(shapes)}, for which there is no metric; data is checked for "
        "the classification of texts and of tokens, question answering, and sentence similarity"
    )


def _encoded_texts(source: Source) -> Any:
    names = source.columns.texts(source.data, (*PAIRS, *SINGLE))
    return source.encoder.encode(*(text_values(source.data, name) for name in names))


def _best_labels(outputs: Arrays, inputs: Arrays) -> list[Any]:
    """The labels of the largest logits: one for a text, or a list of one for each token."""
    best: list[Any] = outputs["logits"].argmax(-1).tolist()
    return best


def _first_tokens(words: Sequence[int | None]) -> dict[int, int]:
    """The place of the first token of each word, by the word's number."""
    places: dict[int, int] = {}
    for place, word in enumerate(words):
        if word is not None:
            places.setdefault(word, place)
    return places


def _pool(tokens: Array, inputs: Arrays, pooling: Pooling) -> Array:
    """Embeddings of sentences [batch, features] from those of tokens [batch, tokens, features]."""
    tokens = tokens.astype(np.float64)
    if pooling == "cls":
        return tokens[:, 0]
    mask = inputs.get("attention_mask", np.ones(tokens.shape[:2]))[:, :, None] != 0
    if pooling == "max":
        return np.asarray(np.where(mask, tokens, -np.inf).max(1))
    return np.asarray(np.where(mask, tokens, 0).sum(1) / mask.sum(1))
