"""Expressions of one element of a tensor, simplified as they are made.

The facts that simplify them hold for every input: an index is never negative, `x and True` is x.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from prunus.ir import DTYPES, OPS, Attrs, Expr

Dim: TypeAlias = int | Expr
Range: TypeAlias = tuple[float, float]

SWAPPED = {"less": "greater", "less_equal": "greater_equal"}
ELEMENTWISE = frozenset(
    {"and", "or", "not", "where", "cast", "abs", "negate", "minimum", "maximum",
     "equal", "not_equal", "less", "less_equal", "greater", "greater_equal",
     "add", "subtract", "multiply", "divide"}
)  # fmt: skip
"""Cheap, and equal for an element alone and for a tensor of them."""


@dataclass(frozen=True, slots=True)
class Index:
    """The result's index along an axis: an int64 from 0 to `extent` - 1."""

    axis: int
    extent: Dim
    dtype: str = "i64"


@dataclass(frozen=True, slots=True)
class Literal:
    """A known number."""

    value: int | float | bool
    dtype: str


@dataclass(frozen=True, slots=True)
class Element:
    """The element of a value of the graph at given indices."""

    value: str
    at: tuple[Scalar, ...]
    dtype: str


@dataclass(frozen=True, slots=True)
class Apply:
    """An elementwise op on expressions; for `cast`, `dtype` is what it casts to."""

    op: str
    operands: tuple[Scalar, ...]
    dtype: str
    size: int = field(compare=False)


Scalar: TypeAlias = Index | Literal | Element | Apply


def apply(op: str, operands: tuple[Scalar, ...], dtype: str) -> Scalar:
    """The op on expressions, simplified."""
    if op in SWAPPED:
        op, operands = SWAPPED[op], operands[::-1]
    if all(isinstance(operand, Literal) for operand in operands):
        return _compute(op, operands, dtype)
    simplified = _simplify(op, operands, dtype)
    if simplified is not None and simplified.dtype == dtype:
        return simplified
    return Apply(op, operands, dtype, 1 + sum(map(size_of, operands)))


def _compute(op: str, operands: tuple[Scalar, ...], dtype: str) -> Scalar:
    values = [
        np.asarray(operand.value, DTYPES[operand.dtype])
        for operand in operands
        if isinstance(operand, Literal)
    ]
    with np.errstate(all="ignore"):
        result = np.asarray(OPS[op].meaning(Attrs(dtype=dtype), *values)).astype(DTYPES[dtype])
    return Literal(result.item(), dtype)


def _simplify(op: str, operands: tuple[Scalar, ...], dtype: str) -> Scalar | None:
    """An equal expression that is simpler, if a fact gives one."""
    match op, operands:
        case (("and" | "or"), (x, y)):
            return _simplify_junction(op, x, y)
        case "not", (Apply(op="not", operands=(x,)),):
            return x
        case "cast", (x,):
            return _simplify_cast(x, dtype)
        case "where", (condition, x, y):
            return _simplify_where(condition, x, y)
        case "add", (x, Literal(value=0)) | (Literal(value=0), x) if _is_whole(x):
            return x  # not of floats: -0.0 + 0.0 is 0.0
        case "multiply", (x, Literal(value=1)) | (Literal(value=1), x):
            return x
        case "subtract", (x, Literal(value=0)):
            return x
        case (("equal" | "greater_equal" | "not_equal" | "greater"), (x, y)):
            return _simplify_comparison(op, x, y)
    return None


def _simplify_junction(op: str, x: Scalar, y: Scalar) -> Scalar | None:
    neutral = op == "and"
    for one, other in ((x, y), (y, x)):
        if isinstance(one, Literal) and bool(one.value) == neutral:
            return other
        if isinstance(one, Literal):
            return Literal(not neutral, "bool")
    return x if x == y else None


def _simplify_cast(x: Scalar, dtype: str) -> Scalar | None:
    if x.dtype == dtype:
        return x
    match x:
        # Whether a truth value went through a number on its way back does not matter.
        case Apply(op="cast", operands=(inner,)) if inner.dtype == dtype == "bool":
            return inner
    return None


def _simplify_where(condition: Scalar, x: Scalar, y: Scalar) -> Scalar | None:
    match condition, x, y:
        case Literal(value=value), _, _:
            return x if value else y
        case _, Literal(value=True, dtype="bool"), Literal(value=False, dtype="bool"):
            return condition
        case _, Literal(value=False, dtype="bool"), Literal(value=True, dtype="bool"):
            return apply("not", (condition,), "bool") if condition.dtype == "bool" else None
    return x if x == y else None


def _simplify_comparison(op: str, x: Scalar, y: Scalar) -> Scalar | None:
    if not _is_whole(x):
        return None
    if x == y:
        return Literal(op in ("equal", "greater_equal"), "bool")
    (least, most), (lower, upper) = bounds(x), bounds(y)
    match op:
        case "greater_equal" if least >= upper or most < lower:
            return Literal(least >= upper, "bool")
        case "greater" if least > upper or most <= lower:
            return Literal(least > upper, "bool")
        case "not_equal" if y == Literal(0, y.dtype):
            return apply("cast", (x,), "bool")
        case "equal" if y == Literal(0, y.dtype):
            return apply("not", (apply("cast", (x,), "bool"),), "bool")
    return None


def _is_whole(x: Scalar) -> bool:
    return x.dtype in ("i32", "i64", "u8")


def size_of(x: Scalar) -> int:
    """The number of ops, numbers and look-ups in an expression."""
    match x:
        case Apply(size=size):
            return size
        case Element(at=at):
            return 1 + sum(map(size_of, at))
    return 1


UNBOUNDED: Range = (-math.inf, math.inf)
LARGEST = {"i32": 1 << 31, "i64": 1 << 62}
"""From here on an integer is too near to overflow for anything to be claimed of it. (A size without
a limit is no danger: 64 indices of what fits into a memory do not reach it.)"""


def bounds(
    x: Scalar,
    limits: Mapping[str, int] | None = None,
    of_element: Callable[[Element], Range] = lambda element: UNBOUNDED,
) -> Range:
    """Numbers between which an integer or boolean expression lies, for all inputs.

    Args:
        x: The expression.
        limits: The largest sizes of symbols.
        of_element: What is known of the elements of opaque values.
    """
    if x.dtype == "bool":
        return 0, 1
    match x:
        case Index(extent=extent):
            size = extent if isinstance(extent, int) else (limits or {}).get(str(extent), math.inf)
            return 0, size - 1
        case Literal(value=value):
            return value, value
        case Element():
            return of_element(x)
        case Apply(op=op, operands=operands, dtype=dtype):
            return within(
                _combine(op, [bounds(each, limits, of_element) for each in operands]), dtype
            )


def within(found: Range, dtype: str) -> Range:
    """A range if it is one of integers that cannot overflow, else the unbounded one."""
    largest = LARGEST.get(dtype, 0)
    unsafe = any(abs(end) >= largest and (dtype != "i64" or end not in UNBOUNDED) for end in found)
    return UNBOUNDED if unsafe else found


def _combine(op: str, ranges: list[Range]) -> Range:
    match op, ranges:
        case "cast", [a]:
            return a
        case "add", [a, b]:
            return a[0] + b[0], a[1] + b[1]
        case "multiply", [a, b] if a[0] >= 0 and b[0] >= 0 and math.inf not in (a[1], b[1]):
            return a[0] * b[0], a[1] * b[1]
        case "where", [_, a, b]:
            return min(a[0], b[0]), max(a[1], b[1])
    return UNBOUNDED


def leaves(x: Scalar) -> tuple[Element, ...]:
    """The elements of opaque values in an expression, those in their indices included."""
    match x:
        case Apply(operands=operands):
            return sum(map(leaves, operands), ())
        case Element(at=at):
            return sum(map(leaves, at), (x,))
    return ()


def describe(x: Scalar) -> str:
    """`and(mask[i, l], greater_equal(k, l))`: axes are named from i on."""
    match x:
        case Index(axis=axis):
            return "ijklmnop"[axis] if axis < 8 else f"axis{axis}"
        case Literal(value=value):
            return str(value)
        case Element(value=value, at=at):
            return f"{value}[{', '.join(map(describe, at))}]"
        case Apply(op="cast", operands=(operand,), dtype=dtype):
            return f"{dtype}({describe(operand)})"
        case Apply(op=op, operands=operands):
            return f"{op}({', '.join(map(describe, operands))})"
