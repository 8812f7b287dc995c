"""Which attention masks a model takes, for messages about masks of another rank."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from prunus.errors import InputError
from prunus.ir import TensorType

_MASK, _IDS = "attention_mask", "input_ids"

_PADDING = "[batch, tokens], 1 for a token and 0 for padding"
_FULL = (
    "[batch, heads or 1, tokens, tokens], of booleans, or of floats that are added to the scores"
)


def check_ranks(types: Mapping[str, TensorType], arrays: Mapping[str, np.ndarray]) -> None:
    """Insist on ids and a mask of the ranks that the model was compiled for.

    Raises:
        InputError: they have others; for a mask the message says which masks there are.
    """
    mask, ids = arrays.get(_MASK), arrays.get(_IDS)
    # The ids first: a mask that is left out is made in their shape.
    if ids is not None and ids.ndim != types[_IDS].rank:
        count = f"{ids.ndim} dimension{'' if ids.ndim == 1 else 's'}"
        raise InputError(f"{_IDS} has {count}, {list(ids.shape)}, expected {types[_IDS]}")
    if mask is None or mask.ndim == types[_MASK].rank:
        return
    compiled, other = (_PADDING, _FULL) if types[_MASK].rank == 2 else (_FULL, _PADDING)
    raise InputError(
        f"{_MASK} is {mask.dtype}{list(mask.shape)}, expected {types[_MASK]}: this model was "
        f"compiled for masks {compiled}. For a mask {other}, compile it again with one among the "
        "example inputs"
    )


def mask_note(tensors: Mapping[str, Any]) -> str:
    """A sentence for the error of a module that an example was refused by: which masks there are,
    if the example has one of another rank; else nothing.
    """
    mask, ids = tensors.get(_MASK), tensors.get(_IDS)
    if mask is None or ids is None or ids.ndim != 2 or mask.ndim in (2, 4):
        return ""
    return (
        f" The example of {_MASK} has the shape {list(mask.shape)}: models of transformers take a "
        f"mask {_PADDING}, or {_FULL}."
    )
