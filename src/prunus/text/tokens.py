"""Token ids for texts, and the arrays that a model takes, padded at the end."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from prunus.errors import CheckpointError, InputError
from prunus.text.files import Side
from prunus.text.panics import guarded

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

Text = str | tuple[str, str]
"""A text, or a pair such as premise and hypothesis."""

Inputs = dict[str, np.ndarray[Any, Any]]

MODEL_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
"""What a text becomes. A model takes some of them."""

PADDING_TOKENS = ("[PAD]", "<pad>")


@dataclass(frozen=True, slots=True)
class Row:
    """One sequence for a model: its ids and type ids, both int64 `[tokens]`."""

    ids: np.ndarray[Any, Any]
    types: np.ndarray[Any, Any]

    @staticmethod
    def of(encoding: Encoding) -> Row:
        """What the tokenizer made of a text or a pair, with its special tokens."""
        return Row(np.array(encoding.ids, np.int64), np.array(encoding.type_ids, np.int64))

    def __len__(self) -> int:
        return len(self.ids)


def own_copy(tokenizer: Tokenizer) -> Tokenizer:
    """A copy that neither cuts nor pads; the caller's own keeps its settings."""
    copy = guarded(_failure, tokenizer.from_str, guarded(_failure, tokenizer.to_str))
    copy.no_truncation()
    copy.no_padding()
    return copy


def padding_id(tokenizer: Tokenizer) -> int:
    """The id of the padding token, or 0 where there is none: no model looks at it."""
    known = (tokenizer.token_to_id(token) for token in PADDING_TOKENS)
    return next((number for number in known if number is not None), 0)


def encode(tokenizer: Tokenizer, texts: Sequence[Text]) -> list[Encoding]:
    """What the tokenizer makes of texts or pairs of texts.

    Raises:
        InputError: a text that is empty, no string, or not valid Unicode.
        CheckpointError: the tokenizer fails on them.
    """
    for each in texts:
        for text in each if isinstance(each, tuple) else (each,):
            check_text(text)
    return guarded(_failure, tokenizer.encode_batch, list(texts))


def with_prompt(prompt: str, texts: Sequence[Text]) -> list[Text]:
    """The texts with a prompt before them; of a pair, before the first.

    Raises:
        InputError: the prompt or a text is no valid Unicode, or a text is empty or no string.
    """
    check_text(prompt, "prompt")
    found: list[Text] = []
    for each in texts:
        pair = each if isinstance(each, tuple) else (each,)
        for text in pair:
            check_text(text)
        found.append((prompt + pair[0], pair[1]) if len(pair) == 2 else prompt + pair[0])
    return found


def prompt_length(tokenizer: Tokenizer, prompt: str) -> int:
    """Tokens of a prompt with the special ones before it, but not the one after it."""
    (encoding,) = encode(tokenizer, [prompt])
    return len(encoding) - (encoding.special_tokens_mask[-1:] == [1])


def lower_case(tokenizer: Tokenizer) -> None:
    """Let a tokenizer write texts in small letters first, whatever else it does."""
    from tokenizers import normalizers

    known = tokenizer.normalizer
    small = normalizers.Lowercase()
    tokenizer.normalizer = small if known is None else normalizers.Sequence([small, known])


def decode(tokenizer: Tokenizer, number: int) -> str:
    """The text of one token, special or not.

    Raises:
        CheckpointError: the tokenizer fails on it.
    """
    return guarded(_failure, tokenizer.decode, [number], skip_special_tokens=False)


def _failure(reason: str) -> CheckpointError:
    return CheckpointError(
        f"the tokenizer fails on its input ({reason}), expected one that takes any text: its "
        "tokenizer.json is damaged, hostile or of another version; copy it again from the "
        "checkpoint"
    )


def check_text(text: Any, what: str = "text") -> None:
    """Insist on a text that a tokenizer takes.

    Raises:
        InputError: it is empty, no string, or not valid Unicode.
    """
    if not isinstance(text, str):
        raise InputError(f"the {what} is a {type(text).__name__}, expected a string")
    if not text.strip():
        raise InputError(f"the {what} is empty ({text!r:.20}): pass one with words in it")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"the {what} is not valid Unicode ({error}): read it again with the right encoding"
        ) from error


def own_tokens(count: int, length: int, side: Side) -> slice:
    """The places of a row's `count` tokens in a batch of that length, which is padded at a side."""
    return slice(length - count, length) if side == "left" else slice(count)


def batches(
    rows: Sequence[Row], names: Collection[str], *, size: int, padding: int, side: Side = "right"
) -> Iterator[tuple[list[int], Inputs]]:
    """All rows in batches of similar length, longest first, with the places of these rows.

    Rows are padded up to the longest of their batch. A model that takes no
    `attention_mask` would read the padding, so its batches are of one length.

    Args:
        rows: In any order.
        names: The inputs that the model takes.
        size: Rows of a batch, at most.
        padding: The id to pad with.
        side: Where to pad.

    Yields:
        Places in `rows`, and the inputs by name, int64 `[rows, tokens]`.
    """
    order = sorted(range(len(rows)), key=lambda place: -len(rows[place]))
    masked = "attention_mask" in names
    batch: list[int] = []
    for place in order:
        if len(batch) == size or (batch and not masked and len(rows[batch[0]]) != len(rows[place])):
            yield batch, _inputs([rows[each] for each in batch], names, padding, side)
            batch = []
        batch.append(place)
    if batch:
        yield batch, _inputs([rows[each] for each in batch], names, padding, side)


def _inputs(rows: Sequence[Row], names: Collection[str], padding: int, side: Side) -> Inputs:
    shape = (len(rows), max(map(len, rows)))
    arrays = {
        "input_ids": np.full(shape, padding, np.int64),
        "attention_mask": np.zeros(shape, np.int64),
        "token_type_ids": np.zeros(shape, np.int64),
    }
    for place, row in enumerate(rows):
        own = own_tokens(len(row), shape[1], side)
        arrays["input_ids"][place, own] = row.ids
        arrays["attention_mask"][place, own] = 1
        arrays["token_type_ids"][place, own] = row.types
    return {name: array for name, array in arrays.items() if name in names}
