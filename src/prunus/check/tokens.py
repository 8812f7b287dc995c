"""Texts → the arrays that both engines are given, by the checkpoint's own tokenizer."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from prunus.check.cases import LONGEST
from prunus.check.engines import Arrays, Engine
from prunus.check.libraries import library
from prunus.check.progress import Bar
from prunus.errors import CheckpointError, InputError, UnsupportedError
from prunus.text.files import WHOLE
from prunus.text.files import load_tokenizer as read_tokenizer
from prunus.text.tokens import Row, batches

if TYPE_CHECKING:
    from prunus.model import CompiledModel

BATCH = 16
"""Texts of a call."""

UNLIMITED = 10**9
"""A tokenizer that was not told its limit has one of 10³⁰."""

Answer = TypeVar("Answer")

Pick = Callable[[Arrays, Arrays], Sequence[Answer]]
"""The answer of each row, from a batch's outputs and inputs."""


def load_tokenizer(folder: str | os.PathLike[str]) -> Any:
    """The tokenizer of a checkpoint's folder, from transformers.

    Raises:
        CheckpointError: the folder holds none, or one that cannot be read.
        UnsupportedError: one that is not of the library tokenizers, which alone tells what was cut
            and where words begin; or transformers is not installed.
    """
    transformers = library("transformers", "reads the tokenizer", extra="hf")
    if (whole := Path(folder, WHOLE)).is_file():
        read_tokenizer({WHOLE: whole})  # else a hostile one could end the process
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise CheckpointError(
            f"{os.fspath(folder)} holds no tokenizer that transformers can read ({error}): add the "
            "files of the tokenizer that the model was trained with"
        ) from error
    if not tokenizer.is_fast:
        raise UnsupportedError(
            f"the tokenizer of {os.fspath(folder)} is a {type(tokenizer).__name__}, which is not "
            "of the library tokenizers; convert it to a tokenizer.json"
        )
    # Without its files, transformers makes one that knows the special tokens and nothing else.
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        raise CheckpointError(
            f"{os.fspath(folder)} holds no tokenizer: add its files, such as tokenizer.json"
        )
    return tokenizer


@dataclass(frozen=True, slots=True)
class Encoder:
    """A tokenizer of transformers, and how a model is given what it makes of texts.

    Attributes:
        tokenizer: Of the checkpoint.
        names: The inputs of the model.
        limit: The tokens of the longest text, special ones included; longer texts are cut.
    """

    tokenizer: Any
    names: tuple[str, ...]
    limit: int

    @staticmethod
    def of(model: CompiledModel, tokenizer: Any) -> Encoder:
        """The encoder for a model. Raises `InputError` for a tokenizer of another vocabulary."""
        known = model.vocabulary
        if known is not None and len(tokenizer) > known:
            raise InputError(
                f"the tokenizer knows {len(tokenizer)} tokens, but the model only {known}; give "
                "the tokenizer that belongs to the model"
            )
        limits = (model.longest or UNLIMITED, int(tokenizer.model_max_length))
        limit = min(limits)
        return Encoder(tokenizer, model.input_names, limit if limit < UNLIMITED else LONGEST)

    def encode(
        self, texts: Sequence[Any], second: Sequence[str] | None = None, *, words: bool = False
    ) -> Any:
        """What the tokenizer makes of texts, of pairs of them, or of lists of words."""
        return self.tokenizer(
            list(texts),
            None if second is None else list(second),
            truncation=True,
            max_length=self.limit,
            is_split_into_words=words,
        )

    def run(
        self, engine: Engine, rows: Sequence[Row], pick: Pick[Answer], bar: Bar
    ) -> list[Answer]:
        """The answer of each row, in their order; both engines get the same arrays."""
        answers: dict[int, Answer] = {}
        padding = int(self.tokenizer.pad_token_id or 0)
        for places, inputs in batches(rows, self.names, size=BATCH, padding=padding):
            bar.show(len(answers), len(rows))
            answers.update(zip(places, pick(engine(inputs), inputs), strict=True))
        return [answers[place] for place in range(len(rows))]


def rows_of(encoded: Any) -> list[Row]:
    """The rows for `Encoder.run`."""
    return [Row.of(each) for each in encoded.encodings]


def count_cut(encoded: Any) -> int:
    """How many texts were longer than the limit."""
    return sum(bool(each.overflowing) for each in encoded.encodings)
