"""Inputs to time a text encoder with: random ids inside the vocabulary, nothing masked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from prunus.bench.engines.contract import Arrays
from prunus.bench.shapes import Shape
from prunus.errors import InputError


def random_inputs(
    names: Sequence[str], shape: Shape, vocabulary: int | None, seed: int = 0
) -> Arrays:
    """Inputs by name, each int64 of ``[batch, sequence]``.

    Raises `InputError` for a name that is none of an encoder's usual inputs, and when ids are
    wanted but the size of the vocabulary is not known.
    """
    return {name: _values(name, shape, vocabulary, seed) for name in names}


def _values(
    name: str, shape: Shape, vocabulary: int | None, seed: int
) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    if name == "input_ids":
        if vocabulary is None:
            raise InputError(
                "the size of the vocabulary is not known, so no ids can be drawn; "
                "give the benchmark vocabulary= or inputs="
            )
        return np.random.default_rng(seed).integers(0, vocabulary, shape, dtype=np.int64)
    if name == "attention_mask":
        return np.ones(shape, np.int64)
    if name == "token_type_ids":
        return np.zeros(shape, np.int64)
    if name == "position_ids":
        return np.broadcast_to(np.arange(shape[1], dtype=np.int64), shape).copy()
    raise InputError(
        f"no values can be made up for the input {name!r}; give the benchmark inputs=, "
        "a function of batch and length that returns arrays by name"
    )
