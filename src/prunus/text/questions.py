"""Extractive question answering: the best spans of a context, however long.

The scores are those of the question-answering pipeline that transformers had until 5.3: in each
window the start and the end of an answer have a softmax of their own over the tokens of the context
and the first token, which stands for "no answer"; a span scores the product of both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from prunus.errors import InputError, UnsupportedError
from prunus.text.tokens import Row, batches, check_text, encode, own_copy, padding_id

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

Array = np.ndarray[Any, Any]
Logits = Callable[[Mapping[str, Array]], tuple[Array, Array]]
"""Start and end logits `[windows, tokens]` for inputs by name."""


@dataclass(frozen=True, slots=True)
class Span:
    """An answer: `context[start:end]`, with a score from 0 to 1. It is empty for "no answer"."""

    answer: str
    score: float
    start: int
    end: int


def check_sides(padding: str, truncation: str, place: str) -> None:
    """Insist on a tokenizer that pads and cuts at the right.

    With padding at the left, transformers puts the context before the question; with truncation at
    the left, it counts the windows from the end of the context.

    Raises:
        UnsupportedError: a side is the left; `place` says where it is set.
    """
    for name, side in (("padding_side", padding), ("truncation_side", truncation)):
        if side != "right":
            raise UnsupportedError(
                f"{place} has the {name} {side!r}, with which windows of a question and its "
                "context are made otherwise; prunus answers questions with 'right' only: set it, "
                "if the model was trained with the question first"
            )


class Choosing(TypedDict, total=False):
    """The keywords of `QuestionAnswering.answers`, where they are described."""

    top_k: int
    no_answer: bool
    max_answer_length: int
    align_to_words: bool


class QuestionAnswering:
    """Answers questions over contexts, which are read in overlapping windows."""

    def __init__(
        self,
        logits: Logits,
        tokenizer: Tokenizer,
        *,
        input_names: Sequence[str],
        max_length: int,
        stride: int = 128,
        batch_size: int = 16,
    ) -> None:
        """Put a model and its tokenizer together.

        Args:
            logits: The model: inputs by name, start and end logits `[windows, tokens]`.
            tokenizer: It is copied, so that its own truncation and padding stay as they are.
            input_names: What the model takes, of `input_ids`, `attention_mask` and
                `token_type_ids`.
            max_length: Tokens of a window, with the question and the special tokens.
            stride: Tokens of the context that neighbouring windows share, but never more than
                half of those that a window has room for.
            batch_size: Windows of a call, at most.

        Raises:
            InputError: a number that is too small.
        """
        _check_least(max_length=(max_length, 1), stride=(stride, 0), batch_size=(batch_size, 1))
        self._logits, self._tokenizer = logits, own_copy(tokenizer)
        self._input_names, self._padding = tuple(input_names), padding_id(tokenizer)
        self.max_length, self.stride, self.batch_size = max_length, stride, batch_size

    def answer(
        self,
        question: str,
        context: str,
        *,
        top_k: int = 1,
        no_answer: bool = False,
        max_answer_length: int = 30,
        align_to_words: bool = True,
    ) -> list[Span]:
        """The best answers to one question, the best first; see `answers`."""
        (spans,) = self.answers(
            [(question, context)],
            top_k=top_k,
            no_answer=no_answer,
            max_answer_length=max_answer_length,
            align_to_words=align_to_words,
        )
        return spans

    def answers(
        self,
        pairs: Iterable[tuple[str, str]],
        *,
        top_k: int = 1,
        no_answer: bool = False,
        max_answer_length: int = 30,
        align_to_words: bool = True,
    ) -> Iterator[list[Span]]:
        """The best answers for each question and its context, in their order.

        Pairs are taken as they are needed, `batch_size` at a time.

        Args:
            pairs: Questions and their contexts.
            top_k: Answers for each question, at most. A span that several windows find counts
                once, with its largest score.
            no_answer: Whether "no answer" is among the candidates, as in SQuAD 2.0. Its score is
                the smallest of all windows.
            max_answer_length: Tokens of an answer, at most, before it is aligned.
            align_to_words: Whether an answer that begins or ends inside a word is extended to the
                whole word. Turn it off for languages without spaces.

        Raises:
            InputError: a question or context that is empty, or a question that leaves a window no
                room for the context.
        """
        _check_least(top_k=(top_k, 1), max_answer_length=(max_answer_length, 1))
        return self._answers(
            iter(pairs), _Choice(top_k, no_answer, max_answer_length, align_to_words)
        )

    def _answers(self, pairs: Iterator[tuple[str, str]], choice: _Choice) -> Iterator[list[Span]]:
        while group := [_checked(pair) for pair in islice(pairs, self.batch_size)]:
            encodings = encode(self._tokenizer, group)
            contexts = [
                _Context.of(context, encoding, aligned=choice.align_to_words)
                for (_, context), encoding in zip(group, encodings, strict=True)
            ]
            windows = [each.windows(self.max_length, self.stride) for each in contexts]
            logits = iter(self._run([window.row for each in windows for window in each]))
            for context, own in zip(contexts, windows, strict=True):
                yield choice.best(context, [(window, *next(logits)) for window in own])

    def _run(self, rows: Sequence[Row]) -> list[tuple[Array, Array]]:
        """Start and end logits `[tokens]` of each row, in their order."""
        answers: dict[int, tuple[Array, Array]] = {}
        for places, inputs in batches(
            rows, self._input_names, size=self.batch_size, padding=self._padding
        ):
            starts, ends = self._logits(inputs)
            answers.update(zip(places, zip(starts, ends, strict=True), strict=True))
        return [answers[place] for place in range(len(rows))]


@dataclass(frozen=True, slots=True)
class _Window:
    """A part of a context with the question, as a row for a model.

    Attributes:
        row: Its tokens.
        first: Where in `row` the part begins.
        begin: The part's first token, counted in the context.
        tokens: The part's length.
    """

    row: Row
    first: int
    begin: int
    tokens: int


@dataclass(frozen=True, slots=True)
class _Context:
    """A tokenized context, with its question.

    Attributes:
        text: The context.
        row: Question, context and special tokens, of any length.
        first: Where in `row` the context begins.
        starts: Where in `text` an answer begins whose first token is this one, `[tokens]`.
        ends: Where it ends if its last token is this one, `[tokens]`.
        has_null: Whether the first token of a row stands for "no answer".
    """

    text: str
    row: Row
    first: int
    starts: Sequence[int]
    ends: Sequence[int]
    has_null: bool

    @staticmethod
    def of(text: str, encoding: Encoding, *, aligned: bool) -> _Context:
        """Find the context in what the tokenizer made of question and context."""
        sequence = encoding.sequence_ids
        places = [place for place, number in enumerate(sequence) if number == 1]
        if not places:
            raise InputError(
                f"the tokenizer finds no token in the context {text[:20]!r}: pass a context with "
                "words in it"
            )
        spans = [encoding.offsets[place] for place in places]
        if aligned:
            spans = _whole_words(spans, [encoding.word_ids[place] for place in places])
        starts, ends = zip(*spans, strict=True)
        return _Context(text, Row.of(encoding), places[0], starts, ends, sequence[0] is None)

    def windows(self, max_length: int, stride: int) -> list[_Window]:
        """The windows that together cover the context."""
        tokens = len(self.starts)
        room = max_length - (len(self.row) - tokens)
        if room < 1:
            raise InputError(
                f"the question takes {len(self.row) - tokens} tokens with the special ones, which "
                f"leaves no room for the context in a window of {max_length}: shorten the question"
            )
        step = room - min(stride, room // 2)
        begins = range(0, max(tokens - room, 0) + step, step)
        return [self._window(begin, min(room, tokens - begin)) for begin in begins]

    def _window(self, begin: int, tokens: int) -> _Window:
        head = slice(None, self.first)
        part = slice(self.first + begin, self.first + begin + tokens)
        tail = slice(self.first + len(self.starts), None)
        ids, types = (
            np.concatenate([array[head], array[part], array[tail]])
            for array in (self.row.ids, self.row.types)
        )
        return _Window(Row(ids, types), self.first, begin, tokens)


@dataclass(frozen=True, slots=True)
class _Choice:
    """Which spans are answers; the fields are arguments of `QuestionAnswering.answers`."""

    top_k: int
    no_answer: bool
    max_answer_length: int
    align_to_words: bool

    def best(self, context: _Context, scored: Sequence[tuple[_Window, Array, Array]]) -> list[Span]:
        """The best answers, from the start and end logits `[tokens]` of each window."""
        scores: dict[tuple[int, int], float] = {}
        null = []
        for window, start, end in scored:
            first_start, start = _probabilities(start, window, context.has_null)
            first_end, end = _probabilities(end, window, context.has_null)
            null.append(first_start * first_end)
            for place, score in self._spans(context, window.begin, start, end).items():
                scores[place] = max(score, scores.get(place, 0.0))
        spans = [
            Span(context.text[start:end], score, start, end)
            for (start, end), score in scores.items()
        ]
        if self.no_answer:
            spans.append(Span("", min(null), 0, 0))
        return sorted(spans, key=lambda span: (-span.score, span.start, span.end))[: self.top_k]

    def _spans(
        self, context: _Context, begin: int, start: Array, end: Array
    ) -> dict[tuple[int, int], float]:
        """The best distinct spans of one window, as places in the text with their scores."""
        longest = min(self.max_answer_length, len(end))
        following = np.lib.stride_tricks.sliding_window_view(np.pad(end, (0, longest - 1)), longest)
        products = start[:, None] * following  # [first token, tokens after it]
        found: dict[tuple[int, int], float] = {}
        for flat in np.argsort(-products, axis=None, kind="stable"):
            first, more = divmod(int(flat), longest)
            if first + more >= len(end):
                continue  # a product with the padding
            place = _trimmed(
                context.text, context.starts[begin + first], context.ends[begin + first + more]
            )
            if place[0] < place[1]:
                found.setdefault(place, float(products[first, more]))
            if len(found) == self.top_k:
                break
        return found


def _probabilities(logits: Array, window: _Window, has_null: bool) -> tuple[float, Array]:
    """The softmax over "no answer" and the window's part of the context, in float64."""
    part = logits[window.first : window.first + window.tokens].astype(np.float64)
    null = float(logits[0]) if has_null else -np.inf
    largest = max(null, part.max())
    null, part = np.exp(null - largest), np.exp(part - largest)
    total = null + part.sum()
    return float(null / total), part / total


def _whole_words(
    spans: Sequence[tuple[int, int]], words: Sequence[int | None]
) -> list[tuple[int, int]]:
    """For each token the place of its whole word; a token outside of words stays alone."""
    whole: dict[int, tuple[int, int]] = {}
    for (start, end), word in zip(spans, words, strict=True):
        if word is not None:
            known = whole.get(word, (start, end))
            whole[word] = (min(start, known[0]), max(end, known[1]))
    return [span if word is None else whole[word] for span, word in zip(spans, words, strict=True)]


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """The place without white space around it, which some tokenizers count to a token."""
    span = text[start:end]
    return start + len(span) - len(span.lstrip()), start + len(span.rstrip())


def _checked(pair: Any) -> tuple[str, str]:
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise InputError(f"expected pairs of a question and a context, found {pair!r:.60}")
    question, context = pair
    check_text(question, "question")
    check_text(context, "context")
    return question, context


def _check_least(**numbers: tuple[int, int]) -> None:
    for name, (number, least) in numbers.items():
        if number < least:
            raise InputError(f"{name} is {number}: it must be at least {least}")
