"""From the arrays that a model answers to labels, entities and words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from prunus.text.settings import Labels
from prunus.text.tokens import decode

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Label:
    """A label of a text. The score is a probability, or the value itself of a regression."""

    label: str
    score: float


@dataclass(frozen=True, slots=True)
class Entity:
    """A part of a text with a label, without the `B-` and `I-`: `text` is that part of the text
    between the characters `start` and `end`. The score is the mean over its tokens.
    """

    label: str
    score: float
    text: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Fill:
    """A token that may stand in the place of a mask, its probability and its id."""

    token: str
    score: float
    id: int


def text_labels(logits: Array, labels: Labels) -> list[Label]:
    """All labels of a text by its logits `[labels]`, the best first."""
    values = logits.astype(np.float64)
    if labels.scoring == "softmax":
        values = softmax(values)
    elif labels.scoring == "sigmoid":
        values = 1 / (1 + np.exp(-values))
    pairs = zip(labels.names, values.tolist(), strict=True)
    return sorted((Label(*pair) for pair in pairs), key=lambda each: -each.score)


def entities(text: str, encoding: Encoding, logits: Array, labels: Labels) -> list[Entity]:
    """The entities of a text by the logits `[tokens, labels]` of its tokens.

    Neighbouring tokens of one label are one entity, unless the later one begins a new one by its
    `B-`: the aggregation "simple" of transformers.
    """
    tokens = [i for i, special in enumerate(encoding.special_tokens_mask) if not special]
    scores = softmax(logits[tokens].astype(np.float64))
    best = scores.argmax(axis=-1)
    found = []
    for label, members in _runs([labels.names[each] for each in best]):
        if label == "O":
            continue
        start = encoding.offsets[tokens[members[0]]][0]
        end = encoding.offsets[tokens[members[-1]]][1]
        score = float(np.mean([scores[each, best[each]] for each in members]))
        found.append(Entity(label, score, text[start:end], start, end))
    return found


def fills(logits: Array, tokenizer: Tokenizer, top_k: int) -> list[Fill]:
    """The likeliest tokens by the logits `[vocabulary]` in the place of a mask."""
    scores = softmax(logits.astype(np.float64))
    best = islice(np.argsort(-scores, kind="stable").tolist(), top_k)
    return [Fill(decode(tokenizer, each), float(scores[each]), each) for each in best]


def softmax(logits: Array) -> Array:
    """Over the last axis."""
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probabilities: Array = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return probabilities


def _runs(tags: Sequence[str]) -> Iterator[tuple[str, list[int]]]:
    """Labels without `B-` and `I-`, each with the places of the tags that make one entity."""
    members: list[int] = []
    current = ""
    for place, tag in enumerate(tags):
        begins, label = tag.startswith("B-"), tag.removeprefix("B-")
        label = label if begins else label.removeprefix("I-")
        if members and (begins or label != current):
            yield current, members
            members = []
        current = label
        members.append(place)
    if members:
        yield current, members
