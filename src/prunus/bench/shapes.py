"""Batch sizes and sequence lengths as people write them: ``1x128,8x128``, or lists for each."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import product

from prunus.errors import InputError

Shape = tuple[int, int]
"""Batch and sequence length."""

_SHAPE = re.compile(r"(\d+)\s*[x×]\s*(\d+)", re.IGNORECASE | re.ASCII)


def parse_shapes(text: str) -> tuple[Shape, ...]:
    """Read ``1x128,8x128`` as ``((1, 128), (8, 128))``. Raises `InputError` for anything else."""
    return tuple(_shape(part) for part in _parts(text, "a shape such as 1x128"))


def parse_counts(text: str) -> tuple[int, ...]:
    """Read ``1,8`` as ``(1, 8)``. Raises `InputError` for anything but whole numbers from 1."""
    return tuple(_count(part, text) for part in _parts(text, "a whole number such as 8"))


def all_shapes(batches: Iterable[int], sequences: Iterable[int]) -> tuple[Shape, ...]:
    """Every batch with every length, batches outermost. Raises `InputError` for a size below 1."""
    shapes = tuple(product(batches, sequences))
    for shape in shapes:
        check_shape(shape)
    return shapes


def check_shape(shape: Shape) -> None:
    """Raise `InputError` when a batch or a length is below 1."""
    if min(shape) < 1:
        raise InputError(
            f"the shape {shape[0]}x{shape[1]} has a size below 1; "
            "a benchmark needs a batch and a length of at least 1"
        )


def _parts(text: str, expected: str) -> list[str]:
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise InputError(
            f"{text!r} has an empty part; write {expected}, several with commas between"
        )
    return parts


def _shape(part: str) -> Shape:
    found = _SHAPE.fullmatch(part)
    if found is None:
        raise InputError(f"{part!r} is not a shape; write batch and length as in 1x128,8x128")
    shape = int(found[1]), int(found[2])
    check_shape(shape)
    return shape


def _count(part: str, text: str) -> int:
    if not (part.isascii() and part.isdigit()) or int(part) < 1:
        raise InputError(f"{part!r} in {text!r} is not a whole number from 1; write, say, 1,8")
    return int(part)
