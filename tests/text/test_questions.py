"""Question answering against a plain reference, on a real tokenizer and a made-up model."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from prunus.errors import InputError
from prunus.text.questions import QuestionAnswering, Span

NAMES = ("input_ids", "attention_mask", "token_type_ids")
QUESTION = "Who gathered the plums?"
CONTEXT = (
    "Ünïcode — 東京 🍑 plum trees were pruned. In winter, Zoë-Anne embedded the antidisestablished "
    "seedlings; afterwards the naïve gardener gathered 3,141 plums (and sold them) for €2.50 each."
)
PAIRS = [
    (QUESTION, CONTEXT),
    ("When?", "In winter."),
    ("How many plums did the gardener gather, and where?", CONTEXT * 3),
    ("Wer?", "Zoë"),
]


class Model:
    """Logits that depend on a token, its neighbours, its type and nothing behind the mask."""

    def __init__(self, spread: float = 3.0) -> None:
        random = np.random.default_rng(0)
        self.tables = random.normal(0, spread, (2, 3, 30522)).astype(np.float32)
        self.calls: list[Mapping[str, np.ndarray[Any, Any]]] = []

    def __call__(
        self, inputs: Mapping[str, np.ndarray[Any, Any]]
    ) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        self.calls.append(dict(inputs))
        ids = inputs["input_ids"] * inputs["attention_mask"]
        before, after = np.roll(ids, 1, axis=1), np.roll(ids, -1, axis=1)
        before[:, 0] = after[:, -1] = 0
        start, end = (
            own[ids] + 0.5 * left[before] + 0.5 * right[after] for own, left, right in self.tables
        )
        return start, end


@pytest.fixture(scope="module")
def tokenizer(minilm_folder: Path) -> Tokenizer:
    return Tokenizer.from_file(str(minilm_folder / "tokenizer.json"))


def reference(
    model: Model,
    tokenizer: Tokenizer,
    question: str,
    context: str,
    *,
    max_length: int,
    stride: int,
    longest: int,
) -> tuple[dict[tuple[int, int], float], float]:
    """All spans with their scores, and the score of "no answer": every window, start and end is
    tried, with the windows of `tokenizers` itself.
    """
    own = Tokenizer.from_str(tokenizer.to_str())
    own.no_padding()
    own.enable_truncation(max_length, stride=stride, strategy="only_second")
    whole = own.encode(question, context)
    spans: dict[tuple[int, int], float] = {}
    null = math.inf
    for window in [whole, *whole.overflowing]:
        ids = np.array([window.ids])
        logits = model({"input_ids": ids, "attention_mask": np.ones_like(ids)})
        allowed = [i for i, number in enumerate(window.sequence_ids) if number == 1]
        start, end = ([math.exp(float(x[0, i])) for i in [0, *allowed]] for x in logits)
        null = min(null, start[0] * end[0] / sum(start) / sum(end))
        for i, first in enumerate(allowed):
            for j, last in enumerate(allowed):
                if not 0 <= j - i < longest:
                    continue
                place = (
                    _word(context, window.offsets[first])[0],
                    _word(context, window.offsets[last])[1],
                )
                score = start[1 + i] * end[1 + j] / sum(start) / sum(end)
                spans[place] = max(score, spans.get(place, 0.0))
    return spans, null


def _word(context: str, place: tuple[int, int]) -> tuple[int, int]:
    """The run of letters, digits and currency signs around a place; every other mark, and every
    ideograph, is a word of its own.
    """
    start, end = place
    if not _inside(context[start]) or context[start] in "東京":
        return place
    while start and _inside(context[start - 1]):
        start -= 1
    while end < len(context) and _inside(context[end]):
        end += 1
    return start, end


def _inside(character: str) -> bool:
    return character.isalnum() or character == "€"


@pytest.mark.parametrize("longest", [1, 4, 30])
@pytest.mark.parametrize(("max_length", "stride"), [(384, 128), (32, 8), (24, 0), (24, 7)])
@pytest.mark.parametrize("question", [QUESTION, "Naïve?"])
def test_all_spans_equal_the_reference(
    tokenizer: Tokenizer, question: str, max_length: int, stride: int, longest: int
) -> None:
    model = Model()
    answering = QuestionAnswering(
        model, tokenizer, input_names=NAMES, max_length=max_length, stride=stride
    )
    spans, null = reference(
        model, tokenizer, question, CONTEXT, max_length=max_length, stride=stride, longest=longest
    )
    found = answering.answer(
        question, CONTEXT, top_k=10_000, no_answer=True, max_answer_length=longest
    )
    assert {(each.start, each.end): each.score for each in found if each.answer} == pytest.approx(
        spans, rel=1e-5
    )
    (nothing,) = (each for each in found if not each.answer)
    assert nothing == Span("", nothing.score, 0, 0)
    assert nothing.score == pytest.approx(null, rel=1e-5)
    assert [each.score for each in found] == sorted((each.score for each in found), reverse=True)
    assert all(each.answer == CONTEXT[each.start : each.end] for each in found)
    for count in (1, 3):
        assert (
            answering.answer(
                question, CONTEXT, top_k=count, no_answer=True, max_answer_length=longest
            )
            == found[:count]
        )


def test_without_no_answer_a_span_wins(tokenizer: Tokenizer) -> None:
    model = Model()
    model.tables[:, 0, 101] = 50.0  # [CLS]: hardly anything is an answer
    answering = QuestionAnswering(model, tokenizer, input_names=NAMES, max_length=384)
    (nothing,) = answering.answer(QUESTION, CONTEXT, no_answer=True)
    assert nothing.answer == "" and nothing.score > 0.99
    (span,) = answering.answer(QUESTION, CONTEXT)
    assert span.answer and span.score < 0.01


def test_many_answer_as_one_by_one(tokenizer: Tokenizer) -> None:
    model = Model()
    answering = QuestionAnswering(
        model, tokenizer, input_names=NAMES, max_length=40, stride=10, batch_size=3
    )
    alone = [answering.answer(*pair, top_k=4, no_answer=True) for pair in PAIRS]
    model.calls.clear()
    together = list(answering.answers(PAIRS, top_k=4, no_answer=True))
    for one, other in zip(alone, together, strict=True):
        assert [(each.start, each.end) for each in one] == [
            (each.start, each.end) for each in other
        ]
        assert [each.score for each in one] == pytest.approx(
            [each.score for each in other], abs=1e-6
        )
    sizes = [call["input_ids"].shape[0] for call in model.calls]
    assert max(sizes) == 3 and sizes.count(3) >= len(sizes) - 2


def test_pairs_are_taken_as_needed(tokenizer: Tokenizer) -> None:
    taken = []

    def pairs() -> Iterator[tuple[str, str]]:
        for pair in PAIRS * 10:
            taken.append(pair)
            yield pair

    answering = QuestionAnswering(
        Model(), tokenizer, input_names=NAMES, max_length=64, batch_size=2
    )
    answers = answering.answers(pairs())
    assert not taken
    next(answers)
    assert len(taken) == 2


def test_inside_a_word(tokenizer: Tokenizer) -> None:
    model = Model(spread=0)
    inner = tokenizer.token_to_id("##bed")
    model.tables[:, 0, inner] = 20.0
    answering = QuestionAnswering(model, tokenizer, input_names=NAMES, max_length=384)
    (whole,) = answering.answer(QUESTION, "The embeddings matter.")
    assert whole.answer == "embeddings"
    (part,) = answering.answer(QUESTION, "The embeddings matter.", align_to_words=False)
    assert part.answer == "bed" and part.start == 6
    assert whole.score == part.score


def test_only_the_inputs_that_the_model_takes(tokenizer: Tokenizer) -> None:
    model = Model()
    short = QuestionAnswering(model, tokenizer, input_names=NAMES[:2], max_length=64)
    short.answer(QUESTION, "The gardener.")
    full = QuestionAnswering(model, tokenizer, input_names=NAMES, max_length=64)
    full.answer(QUESTION, "The gardener.")
    assert set(model.calls[0]) == set(NAMES[:2])
    types = model.calls[1]["token_type_ids"][0]
    tokens = [tokenizer.id_to_token(int(each)) for each in model.calls[1]["input_ids"][0]]
    second = tokens.index("[SEP]") + 1
    assert not types[:second].any() and types[second:].all()


def test_a_model_without_a_mask_sees_no_padding(tokenizer: Tokenizer) -> None:
    seen = []

    def logits(inputs: Mapping[str, Any]) -> tuple[Any, Any]:
        seen.append(inputs["input_ids"])
        return inputs["input_ids"] * 1e-3, inputs["input_ids"] * 1e-3

    answering = QuestionAnswering(logits, tokenizer, input_names=("input_ids",), max_length=64)
    list(answering.answers(PAIRS))
    assert len(seen) > 1 and all((ids != 0).all() for ids in seen)


def test_the_tokenizer_is_left_alone(tokenizer: Tokenizer) -> None:
    before = tokenizer.to_str()
    tokenizer_settings = tokenizer.truncation, tokenizer.padding
    assert None not in tokenizer_settings  # it cuts and pads to 128
    answering = QuestionAnswering(Model(), tokenizer, input_names=NAMES, max_length=384)
    answering.answer(QUESTION, CONTEXT * 3)
    assert tokenizer.to_str() == before


@pytest.mark.parametrize(
    ("question", "context", "says"),
    [
        ("", CONTEXT, "the question is empty"),
        (QUESTION, " \n", "the context is empty"),
        (QUESTION, "\x01", "no token in the context"),
        (QUESTION, None, "the context is a NoneType"),
        (QUESTION, "\ud800", "not valid Unicode"),
        ("why " * 30, CONTEXT, "shorten the question"),
    ],
)
def test_bad_pairs(tokenizer: Tokenizer, question: Any, context: Any, says: str) -> None:
    answering = QuestionAnswering(Model(), tokenizer, input_names=NAMES, max_length=32)
    with pytest.raises(InputError, match=says):
        answering.answer(question, context)


def test_a_string_is_no_pair(tokenizer: Tokenizer) -> None:
    answering = QuestionAnswering(Model(), tokenizer, input_names=NAMES, max_length=32)
    with pytest.raises(InputError, match="pairs"):
        list(answering.answers(["ab"]))  # type: ignore[list-item]


@pytest.mark.parametrize("name", ["top_k", "max_answer_length"])
def test_numbers_that_are_too_small(tokenizer: Tokenizer, name: Any) -> None:
    answering = QuestionAnswering(Model(), tokenizer, input_names=NAMES, max_length=32)
    with pytest.raises(InputError, match=f"{name} is 0"):
        answering.answer(QUESTION, CONTEXT, **dict[str, Any]({name: 0}))
    with pytest.raises(InputError, match="stride is -1"):
        QuestionAnswering(Model(), tokenizer, input_names=NAMES, max_length=32, stride=-1)


def test_a_question_that_nearly_fills_the_window(tokenizer: Tokenizer) -> None:
    """Windows then share at most half of their room, and still cover every token."""
    model = Model()
    answering = QuestionAnswering(model, tokenizer, input_names=NAMES, max_length=14, stride=128)
    answering.answer("why is it so?", CONTEXT)
    covered = {int(each) for call in model.calls for each in call["input_ids"].flat}
    assert covered >= set(tokenizer.encode(CONTEXT, add_special_tokens=False).ids) - {0}
