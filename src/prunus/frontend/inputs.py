"""The inputs of a model: names, dtypes, and what they are where a call leaves them out."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from prunus.errors import SavedModelError
from prunus.ir import DTYPES


@dataclass(frozen=True, slots=True)
class Default:
    """What an input is where it is left out, in the shape of another input.

    Attributes:
        like: The other input.
        value: 0 or 1, which every element is; None where `padding` decides.
        padding: An id: elements are 0 where the other input holds it, and 1 elsewhere.
    """

    like: str
    value: int | None = None
    padding: int | None = None

    def array(self, other: np.ndarray, dtype: str) -> np.ndarray:
        """The input for a value of the other one."""
        if self.padding is not None:
            mask: np.ndarray = (other != self.padding).astype(DTYPES[dtype])
            return mask
        return np.full(other.shape, self.value, DTYPES[dtype])

    def to_json(self) -> dict[str, Any]:
        """Plain data; of `value` and `padding` only the one that is set, so that versions of prunus
        that do not know `padding` refuse it.
        """
        return {key: each for key, each in dataclasses.asdict(self).items() if each is not None}

    @staticmethod
    def from_json(document: dict[str, Any], where: str) -> Default:
        """The default that `to_json` wrote.

        Raises:
            SavedModelError: it is no such default.
        """
        like = read_field(document, "like", str, where)
        if "padding" in document and "value" not in document:
            return Default(like, padding=read_field(document, "padding", int, where))
        value = read_field(document, "value", int, where)
        if value not in (0, 1) or "padding" in document:
            raise SavedModelError(f"{where} must be 0, 1 or a padding id, found {document!r:.80}")
        return Default(like, value)


@dataclass(frozen=True, slots=True)
class Input:
    """An input's name, its dtype (`i64`), and its default; None if it must be given."""

    name: str
    dtype: str
    default: Default | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain data, which `Signature.from_json` reads."""
        default = None if self.default is None else self.default.to_json()
        return {"name": self.name, "dtype": self.dtype, "default": default}


def read_inputs(documents: list[Any]) -> tuple[Input, ...]:
    """The inputs that `Input.to_json` wrote.

    Raises:
        SavedModelError: they are no such inputs.
    """
    inputs = []
    for i, document in enumerate(documents):
        where = f"inputs[{i}]"
        dtype = read_field(document, "dtype", str, where)
        if dtype not in DTYPES:
            raise SavedModelError(f"{where}.dtype must be one of {list(DTYPES)}, found {dtype!r}")
        default = None
        if document.get("default") is not None:
            inner = read_field(document, "default", dict, where)
            default = Default.from_json(inner, f"{where}.default")
        inputs.append(Input(read_name(read_field(document, "name", str, where)), dtype, default))
    required = {each.name for each in inputs if each.default is None}
    if len({each.name for each in inputs}) != len(inputs):
        raise SavedModelError("two inputs of the signature have one name")
    for each in inputs:
        if each.default is not None and each.default.like not in required:
            raise SavedModelError(
                f"the default of {each.name} refers to {each.default.like!r:.60}, expected one of "
                f"{sorted(required)}"
            )
    return tuple(inputs)


def read_field(document: Any, key: str, kind: type, where: str) -> Any:
    """A field of saved data, whose type is exactly `kind`.

    Raises:
        SavedModelError: it is missing or of another type.
    """
    if not isinstance(document, dict) or type(document.get(key)) is not kind:
        found = document.get(key) if isinstance(document, dict) else document
        raise SavedModelError(f"{where}.{key} must be a {kind.__name__}, found {found!r:.60}")
    return document[key]


def read_name(value: Any) -> str:
    """The name of an input.

    Raises:
        SavedModelError: it is no identifier.
    """
    if not isinstance(value, str) or not value.isidentifier():
        raise SavedModelError(f"an input's name must be an identifier, found {value!r:.60}")
    return value
