"""The kinds of attributes that ops have, each with the values that it takes.

An op's entry in the table names a kind for each of its attributes. The front end, the passes, the
verifier and the loader of saved models all check attributes through `check_attributes`, so type
rules and meanings may rely on what a kind promises. Axes are counted from the front: a front end
normalises them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from prunus.errors import GraphError
from prunus.ir.dims import MAX_INTEGER, Expr
from prunus.ir.types import DTYPES, MAX_RANK

ACTIVATIONS = ("none", "gelu", "gelu_tanh", "relu", "tanh", "sigmoid", "silu")


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of attribute.

    Attributes:
        expected: What its values are, for the error about another one.
        admits: Whether a value is one of them.
    """

    expected: str
    admits: Callable[[Any], bool]


def _is_integer(value: Any) -> bool:
    return type(value) is int and abs(value) < MAX_INTEGER


def _is_dim(value: Any) -> bool:
    return isinstance(value, Expr) or (_is_integer(value) and value >= 0)


def _is_axis(value: Any) -> bool:
    return type(value) is int and 0 <= value < MAX_RANK


def _is_tuple_of(admits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, tuple) and all(map(admits, value))


def _is_number(value: Any) -> bool:
    return isinstance(value, bool | float) or _is_integer(value)


def _is_finite(value: Any) -> bool:
    return type(value) in (int, float) and _is_number(value) and math.isfinite(value)


AXIS = Kind("an axis counted from 0", _is_axis)
AXES = Kind(
    "a tuple of distinct axes counted from 0",
    lambda value: _is_tuple_of(_is_axis)(value) and len(set(value)) == len(value),
)
COUNT = Kind("an integer of at least 1", lambda value: _is_integer(value) and value >= 1)
INDEX = Kind("an integer", _is_integer)
DIM = Kind("a size of at least 0 or an expression of sizes", _is_dim)
SHAPE = Kind("a tuple of sizes", _is_tuple_of(_is_dim))
FLAG = Kind("True or False", lambda value: isinstance(value, bool))
NUMBER = Kind("a number", _is_number)
FINITE = Kind("a finite number", _is_finite)
EPSILON = Kind("a finite number of at least 0", lambda value: _is_finite(value) and value >= 0)
DTYPE = Kind(
    f"one of {', '.join(DTYPES)}", lambda value: isinstance(value, str) and value in DTYPES
)
ACTIVATION = Kind(
    f"one of {', '.join(ACTIVATIONS)}",
    lambda value: isinstance(value, str) and value in ACTIVATIONS,
)


def check_attributes(op: str, kinds: Mapping[str, Kind], attrs: Mapping[str, Any]) -> None:
    """Check that a node of `op` has the attributes of `kinds` and no others, each of its kind.

    Raises:
        GraphError: with the attribute that is missing, unknown, or of another kind.
    """
    if attrs.keys() != kinds.keys():
        raise GraphError(
            f"{op} has the attributes ({', '.join(kinds)}), found ({', '.join(map(str, attrs))})"
        )
    for name, kind in kinds.items():
        if not kind.admits(attrs[name]):
            raise GraphError(f"{op} needs {name} = {kind.expected}, found {attrs[name]!r:.80}")
