"""`prunus.json`, the description in a saved model: its parts, its text and its strict reader."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import prunus
from prunus.errors import SavedModelError
from prunus.runtime.companions import check_companions
from prunus.sparsity import Block, Pattern

VERSION = 1
"""Version of the format. A change that an older reader would misunderstand must raise it."""

DESCRIPTION = "prunus.json"
WEIGHTS = "model.safetensors"

_MAX_BYTES = 1 << 26
"""Largest description that is read; that of a BERT-base has 250 KB."""


@dataclass(frozen=True, slots=True)
class StoredConstant:
    """How one constant is stored, and the zeros that were measured in it."""

    storage: Literal["dense", "block-sparse"]
    shape: tuple[int, ...]
    block: Block | None
    pattern: Pattern | None


@dataclass(frozen=True, slots=True)
class Description:
    """All that is known of a saved model but the values of its constants.

    Attributes:
        source: Name of the model that was compiled, for people.
        simulated: How its weights were simulated, in words, or None.
        companions: Names of the files that came with the model.
        weights: Digest of the file of weights, so that the two files are known to belong together.
        signature: How the model is called and answers; its content is the caller's affair.
        graph: The lines of the graph's text.
        constants: How each constant is stored.
    """

    source: str
    simulated: str | None
    companions: tuple[str, ...]
    weights: str
    signature: dict[str, Any]
    graph: tuple[str, ...]
    constants: dict[str, StoredConstant]


def description_text(description: Description) -> str:
    """The text of `prunus.json`.

    Raises:
        SavedModelError: something in the signature or in a pattern has no form in JSON.
    """
    document: dict[str, Any] = {"format": "prunus", "version": VERSION}
    document |= {"prunus": prunus.__version__, "model": dataclasses.asdict(description)}
    try:
        return json.dumps({**document, "digest": _digest(document)}, indent=1, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise SavedModelError(f"signature and patterns must be plain JSON: {error}") from error


def read_description(path: Path) -> Description:
    """Read `prunus.json`.

    Raises:
        SavedModelError: it is damaged, of a newer version, or was not written by prunus.
    """
    size = path.stat().st_size
    if size > _MAX_BYTES:
        raise SavedModelError(f"{path.name} has {size} bytes, expected {_MAX_BYTES} at most")
    try:
        document = json.loads(path.read_bytes(), parse_constant=_refuse_constant)
        _check_head(document)
        digest = document.pop("digest", None)
        sound = _digest(document) == digest
    except (ValueError, RecursionError) as error:
        raise SavedModelError(f"{path.name} is not JSON: {error}") from error
    if not sound:
        raise SavedModelError(f"{path.name} was changed or damaged after it was written (digest)")
    description: Description = _decode(Description, document.get("model"), "model")
    check_companions(description.companions)
    if any(printable(text) != text for text in (description.source, description.simulated or "")):
        raise SavedModelError("model.source and model.simulated must be printable text")
    return description


def printable(text: str) -> str:
    """Text for people; what a terminal cannot show, or would obey, is replaced."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)


def _digest(document: Mapping[str, Any]) -> str:
    """The digest of a document's meaning: how it is laid out does not matter."""
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number in JSON")


def _check_head(document: object) -> None:
    if not isinstance(document, dict) or document.get("format") != "prunus":
        raise SavedModelError(f"{DESCRIPTION} was not written by prunus")
    version = document.get("version")
    if type(version) is not int or version < 1:
        raise SavedModelError(f"the version of a format is a count, found {version!r:.40}")
    if version > VERSION:
        raise SavedModelError(
            f"it has format {version} (prunus {document.get('prunus')!s:.40}), but this prunus "
            f"({prunus.__version__}) reads formats up to {VERSION}; upgrade prunus"
        )


def _decode(hint: Any, value: Any, where: str) -> Any:
    """JSON as the type that `hint` names, strictly: nothing missing, nothing left over."""
    if dataclasses.is_dataclass(hint):
        return _decode_fields(hint, value, where)
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return None if value is None else _decode(arguments[0], value, where)
    if origin is tuple and isinstance(value, list):
        hints = arguments[:1] * len(value) if arguments[-1] is Ellipsis else arguments
        if len(hints) == len(value):
            return tuple(_decode(*pair, where) for pair in zip(hints, value, strict=True))
    if origin is dict and isinstance(value, dict):
        return {key: _decode(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    if origin is Literal and isinstance(value, str) and value in arguments:
        return value
    if hint is Any or (type(value) is hint and _is_sane(value)):
        return value
    name = getattr(hint, "__name__", hint)
    raise SavedModelError(f"{where:.80} must be {name}, found {value!r:.60}")


def _decode_fields(hint: Any, value: Any, where: str) -> Any:
    fields = _fields(hint)
    if not isinstance(value, dict) or value.keys() != fields.keys():
        raise SavedModelError(f"{where:.80} must have the fields {', '.join(fields)}")
    return hint(**{name: _decode(fields[name], value[name], f"{where}.{name}") for name in fields})


@cache
def _fields(hint: type) -> dict[str, Any]:
    return get_type_hints(hint)


def _is_sane(value: object) -> bool:
    """Integers in a description are counts and sizes, and JSON can write an infinite 1e999."""
    if isinstance(value, int):
        return 0 <= value < 1 << 63
    return not isinstance(value, float) or math.isfinite(value)
