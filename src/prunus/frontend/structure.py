"""How a model is called and how it answers, as data that needs neither torch nor transformers."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from prunus.errors import InputError, SavedModelError
from prunus.frontend.arrays import Kind, from_array, to_array
from prunus.frontend.inputs import Input, read_field, read_inputs, read_name
from prunus.ir import Graph

Plain: TypeAlias = str | int | float | bool | None
"""A value that is part of an answer, or fixed at import."""

MAX_NESTING = 64
"""Levels of containers in an answer. Those of transformers have three; code that walks an answer by
recursion, as `json` and `dataclasses` do, needs room below Python's own limit."""

Form = Literal["tensor", "plain", "tuple", "list", "dict", "record"]


class Answer(Mapping[str, Any]):
    """An answer with named parts, for where the class that the module used is not at hand.

    A part is read as `answer["logits"]`, as `answer.logits`, or by position, `answer[0]`.
    """

    __slots__ = ("_parts",)
    _parts: dict[str, Any]

    def __init__(self, parts: Mapping[str, Any]) -> None:
        self._parts = dict(parts)

    def __getitem__(self, key: str | int | slice) -> Any:
        return self._parts[key] if isinstance(key, str) else self.to_tuple()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    def __getattr__(self, key: str) -> Any:
        if not key.startswith("_") and key in self._parts:
            return self._parts[key]
        known = [] if key.startswith("_") else list(self._parts)
        raise AttributeError(f"the answer has no part {key!r}; it has {known}")

    def to_tuple(self) -> tuple[Any, ...]:
        """The parts without their names."""
        return tuple(self._parts.values())

    def __repr__(self) -> str:
        parts = (f"{name}={_describe(part)}" for name, part in self._parts.items())
        return f"Answer({', '.join(parts)})"


def _describe(part: Any) -> str:
    if hasattr(part, "dtype") and hasattr(part, "shape"):
        return f"{str(part.dtype).removeprefix('torch.')}{list(part.shape)}"
    if isinstance(part, tuple | list):
        return f"({', '.join(map(_describe, part))})"
    return repr(part)


@dataclass(frozen=True, slots=True)
class Structure:
    """What an answer consists of: one tensor, or parts that are structures again.

    Attributes:
        form: "tensor" is the next output of the graph, "plain" is `value`, "record" has named
            parts and a class: a dataclass, a named tuple or a ModelOutput.
        keys: The names of the parts of a dict or record.
        parts: The parts of everything but "tensor" and "plain".
        origin: The class of a record as `module:name`.
        value: What a plain part always is.
        record_class: The class itself, where this process has seen it; not saved.
    """

    form: Form
    keys: tuple[str | int, ...] = ()
    parts: tuple[Structure, ...] = ()
    origin: str = ""
    value: Plain = None
    record_class: type | None = field(default=None, compare=False, repr=False)

    @property
    def tensors(self) -> int:
        """The number of tensors in the answer."""
        return int(self.form == "tensor") + sum(part.tensors for part in self.parts)

    def build(self, outputs: Iterator[np.ndarray], kind: Kind) -> Any:
        """The answer, with tensors taken from `outputs` in turn."""
        if self.form == "tensor":
            return from_array(next(outputs), kind)
        if self.form == "plain":
            return self.value
        parts = [part.build(outputs, kind) for part in self.parts]
        match self.form:
            case "tuple":
                return tuple(parts)
            case "list":
                return parts
            case "dict":
                return dict(zip(self.keys, parts, strict=True))
        named = {str(key): part for key, part in zip(self.keys, parts, strict=True)}
        record_class = self._find_class()
        return Answer(named) if record_class is None else record_class(**named)

    def _find_class(self) -> type | None:
        """The record's class, or None where it is not at hand.

        By name only outputs of transformers are looked up, and only where it is imported already: a
        saved model must not choose what is imported and called.
        """
        if self.record_class is not None:
            return self.record_class
        module, _, name = self.origin.partition(":")
        base = getattr(sys.modules.get("transformers.utils.generic"), "ModelOutput", None)
        found = getattr(sys.modules.get(module), name, None)
        if base is None or not module.startswith("transformers.") or not isinstance(found, type):
            return None
        if not issubclass(found, base) or not dataclasses.is_dataclass(found):
            return None
        known = {each.name for each in dataclasses.fields(found)}
        return found if known.issuperset(self.keys) else None

    def to_json(self) -> dict[str, Any]:
        """Plain data, which `from_json` reads."""
        document: dict[str, Any] = {"form": self.form}
        if self.form == "plain":
            return document | {"value": self.value}
        if self.form in ("dict", "record"):
            document["keys"] = list(self.keys)
        if self.form == "record":
            document["origin"] = self.origin
        if self.form != "tensor":
            document["parts"] = [part.to_json() for part in self.parts]
        return document

    @staticmethod
    def from_json(document: Any, where: str = "answer", levels: int = MAX_NESTING) -> Structure:
        """The structure that `to_json` wrote, of up to `levels` levels of containers.

        Raises:
            SavedModelError: it is no such structure.
        """
        form = read_field(document, "form", str, where)
        if form not in get_args(Form):
            raise SavedModelError(f"{where}.form must be one of {get_args(Form)}, found {form!r}")
        if form == "plain":
            return Structure("plain", value=_plain(document.get("value"), f"{where}.value"))
        keys: tuple[Any, ...] = ()
        parts: tuple[Structure, ...] = ()
        if form != "tensor":
            if levels == 0:
                raise SavedModelError(
                    f"the signature's answer is nested deeper than {MAX_NESTING} levels, which "
                    "prunus does not write: save the model again from its source"
                )
            parts = tuple(
                Structure.from_json(part, f"{where}.parts[{i}]", levels - 1)
                for i, part in enumerate(read_field(document, "parts", list, where))
            )
        if form in ("dict", "record"):
            keys = tuple(read_field(document, "keys", list, where))
            allowed = (str,) if form == "record" else (str, int)
            if len(set(map(repr, keys))) != len(parts) or len(keys) != len(parts):
                raise SavedModelError(f"{where} has {len(parts)} parts, but the keys {keys!r:.80}")
            if not all(type(key) in allowed for key in keys):
                raise SavedModelError(f"{where}.keys must be names, found {keys!r:.80}")
        origin = read_field(document, "origin", str, where) if form == "record" else ""
        return Structure(form, keys, parts, origin)


@dataclass(frozen=True)
class Signature:
    """How to call a model, and what it answers.

    Attributes:
        inputs: In the order of the graph.
        answer: The structure of what the module returns.
        positional: The module's positional parameters, inputs or not, in order.
        fixed: Arguments that were no tensors in the example: a call may only repeat them.
        ignored: Arguments that the module takes without reading them.
    """

    inputs: tuple[Input, ...]
    answer: Structure
    positional: tuple[str, ...] = ()
    fixed: Mapping[str, Plain] = field(default_factory=dict)
    ignored: frozenset[str] = frozenset()

    def bind(
        self, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[dict[str, np.ndarray], Kind]:
        """The arrays for a call, and whether it was made with torch tensors or without.

        NumPy arrays, torch tensors and nested lists are taken; None is an input left out. Shapes
        are checked where the graph is at hand.

        Raises:
            InputError: an input that is unknown, missing, given twice, or cannot be cast.
        """
        given = self._by_name(args, kwargs)
        arrays: dict[str, np.ndarray] = {}
        kinds: set[Kind] = set()
        for each in self.inputs:
            if each.name in given:
                arrays[each.name], kind = to_array(each.name, given[each.name], each.dtype)
                kinds.add(kind)
            elif each.default is None:
                raise InputError(
                    f"the input {each.name!r} is missing; the model takes {self._known()}"
                )
        for each in self.inputs:
            if each.name not in arrays and each.default is not None:
                arrays[each.name] = each.default.array(arrays[each.default.like], each.dtype)
        ordered = {each.name: arrays[each.name] for each in self.inputs}
        return ordered, "torch" if "torch" in kinds else "numpy"

    def pack(self, outputs: Sequence[np.ndarray], kind: Kind) -> Any:
        """The answer in the module's structure, of the kind that `bind` found."""
        return self.answer.build(iter(outputs), kind)

    def check_fits(self, graph: Graph) -> Signature:
        """The signature itself, if it is one of this graph.

        Raises:
            SavedModelError: names, dtypes or the number of outputs differ.
        """
        mine = {each.name: each.dtype for each in self.inputs}
        if mine != {name: type.dtype for name, type in graph.inputs.items()}:
            raise SavedModelError(f"the graph takes {dict(graph.inputs)}, but the signature {mine}")
        if self.answer.tensors != len(graph.outputs):
            raise SavedModelError(
                f"the graph has {len(graph.outputs)} outputs, but the answer consists of "
                f"{self.answer.tensors} tensors"
            )
        return self

    def _by_name(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        if len(args) > len(self.positional):
            raise InputError(
                f"{len(args)} inputs by position, expected at most {len(self.positional)}: "
                f"{', '.join(self.positional)}"
            )
        given = dict(zip(self.positional, args, strict=False))
        if twice := sorted(given.keys() & kwargs.keys()):
            raise InputError(f"{twice[0]!r} is given by position and by name; give it once")
        given = {name: value for name, value in {**given, **kwargs}.items() if value is not None}
        known = {each.name for each in self.inputs}
        for name in sorted(given.keys() - known):
            value = given.pop(name)
            if name in self.ignored:
                continue
            if name not in self.fixed:
                raise InputError(self._unknown(name))
            fixed = self.fixed[name]
            if type(value) is not type(fixed) or value != fixed:
                raise InputError(
                    f"{name} is {value!r:.60}, but the model was compiled for {fixed!r}; compile "
                    "it again with that in the example inputs"
                )
        return given

    def _unknown(self, name: str) -> str:
        advice = (
            "; to use it, compile the module again with it among the example inputs"
            if name in self.positional
            else ""
        )
        return f"unknown input {name!r}; the model takes {self._known()}{advice}"

    def _known(self) -> str:
        notes = (
            each.name if each.default is None else f"{each.name} (may be left out)"
            for each in self.inputs
        )
        return ", ".join(notes)

    def to_json(self) -> dict[str, Any]:
        """Plain data, which `from_json` reads."""
        return {
            "inputs": [each.to_json() for each in self.inputs],
            "answer": self.answer.to_json(),
            "positional": list(self.positional),
            "fixed": dict(self.fixed),
            "ignored": sorted(self.ignored),
        }

    @staticmethod
    def from_json(document: Any) -> Signature:
        """The signature that `to_json` wrote.

        Raises:
            SavedModelError: it is no such signature.
        """
        try:
            fixed = read_field(document, "fixed", dict, "signature")
            # Models that were saved before there were such arguments have no such field.
            ignored = read_field({"ignored": [], **document}, "ignored", list, "signature")
            return Signature(
                read_inputs(read_field(document, "inputs", list, "signature")),
                Structure.from_json(read_field(document, "answer", dict, "signature")),
                tuple(map(read_name, read_field(document, "positional", list, "signature"))),
                {read_name(name): _plain(value, f"fixed.{name}") for name, value in fixed.items()},
                frozenset(map(read_name, ignored)),
            )
        except RecursionError as error:  # of a message that shows a part
            raise SavedModelError("the signature is nested too deeply") from error


def _plain(value: Any, where: str) -> Plain:
    if value is None or type(value) in (str, int, float, bool):
        plain: Plain = value
        return plain
    raise SavedModelError(f"{where} must be a number, text or null, found {value!r:.60}")
