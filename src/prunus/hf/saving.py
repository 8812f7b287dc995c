"""The keywords of `save_pretrained` that programs for transformers pass."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from prunus.errors import InputError, UnsupportedError
from prunus.frontend.keywords import SAVING, check_keywords, check_known
from prunus.ir import Constant
from prunus.runtime.saved_constants import split_constants

_SHARD = "max_shard_size"
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_BINARY_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def check_saving(keywords: Mapping[str, Any], constants: Mapping[str, Constant]) -> None:
    """Refuse keywords that would change what is written.

    Args:
        keywords: Those that were given to `save_pretrained`.
        constants: What the model would write.

    Raises:
        TypeError: an unknown keyword.
        UnsupportedError: a keyword of transformers that prunus cannot follow.
        InputError: a size that cannot be read.
    """
    check_known("save_pretrained", keywords, (), (*SAVING, _SHARD))
    check_keywords("save_pretrained", SAVING, keywords)
    size = keywords.get(_SHARD)
    if size is None:
        return
    limit = _bytes(size)
    needed = sum(tensor.nbytes for tensor in split_constants(constants)[0].values())
    if needed > limit:
        raise UnsupportedError(
            f"save_pretrained({_SHARD}={size!r}): the weights take {needed} bytes, and prunus "
            f"writes one file of weights: leave it out, or pass {needed} or more"
        )


def _bytes(size: Any) -> int:
    """A size as transformers takes it: bytes, or a text such as "5GB" or "200MiB"."""
    if type(size) is int and size > 0:
        return size
    match = re.fullmatch(r"(\d+)\s*([KMGT]?)(I?)B?", str(size).upper().strip())
    if match is None or type(size) is not str:
        raise InputError(
            f"{_SHARD} is {size!r:.60}, expected a number of bytes or a text such as '5GB'"
        )
    number, unit, binary = match.groups()
    return int(number) * (_BINARY_UNITS.get(unit, 1) if binary else _UNITS[unit])
