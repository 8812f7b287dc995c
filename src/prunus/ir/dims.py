"""Dimensions: integers or integer expressions (sum, product, floor division) of named symbols.

An expression is kept as a polynomial with integer coefficients whose atoms are symbols and floor
divisions, in a canonical order, so equal expressions compare equal and `batch*seq` is `seq*batch`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from prunus.errors import GraphError, InputError


@dataclass(frozen=True, slots=True)
class FloorDiv:
    """`numerator // denominator`, an atom of an expression."""

    numerator: int | Expr
    denominator: int | Expr

    def __str__(self) -> str:
        # In brackets of its own: 3 * (seq // 2) is not (3 * seq) // 2.
        return f"(({self.numerator})//({self.denominator}))"


Atom = str | FloorDiv
Monomial = tuple[Atom, ...]


@dataclass(frozen=True, slots=True)
class Expr:
    """A polynomial: `terms` maps products of atoms to coefficients, sorted by their text, never
    constant.
    """

    terms: tuple[tuple[Monomial, int], ...]

    def __add__(self, other: int | Expr) -> int | Expr:
        return _collect((*_terms(self), *_terms(other)))

    __radd__ = __add__

    def __sub__(self, other: int | Expr) -> int | Expr:
        return self + -1 * other

    def __rsub__(self, other: int | Expr) -> int | Expr:
        return other + -1 * self

    def __mul__(self, other: int | Expr) -> int | Expr:
        return _collect(
            (tuple(sorted(a + b, key=str)), p * q)
            for a, p in _terms(self)
            for b, q in _terms(other)
        )

    __rmul__ = __mul__

    def __floordiv__(self, other: int | Expr) -> int | Expr:
        return floor_div(self, other)

    def __str__(self) -> str:
        return " + ".join(_monomial_text(atoms, factor) for atoms, factor in self.terms)


def _monomial_text(atoms: Monomial, factor: int) -> str:
    words = [str(atom) for atom in atoms]
    return "*".join(words if factor == 1 and words else [str(factor), *words])


def _terms(dim: int | Expr) -> tuple[tuple[Monomial, int], ...]:
    return dim.terms if isinstance(dim, Expr) else (((), dim),)


MAX_TERMS = 1000
"""More than any model needs; a product of many sums in a hostile file would grow without end."""


def _collect(terms: Iterable[tuple[Monomial, int]]) -> int | Expr:
    total: dict[Monomial, int] = {}
    for atoms, factor in terms:
        total[atoms] = total.get(atoms, 0) + factor
        if len(total) > MAX_TERMS:
            raise GraphError(f"a dimension has more than {MAX_TERMS} terms")
    kept = tuple(
        sorted(
            ((atoms, factor) for atoms, factor in total.items() if factor),
            key=lambda term: (-len(term[0]), str(term[0])),
        )
    )
    if all(not atoms for atoms, _ in kept):
        return sum(factor for _, factor in kept)
    return Expr(kept)


def symbol(name: str) -> Expr:
    """The dimension called `name`, a Python identifier."""
    if not name.isidentifier():
        raise GraphError(f"a dimension's name must be an identifier, found {name!r}")
    return Expr((((name,), 1),))


def floor_div(numerator: int | Expr, denominator: int | Expr) -> int | Expr:
    """`numerator // denominator`, simplified where the division is exact."""
    if denominator == 0:
        raise GraphError(f"division by zero in the dimension {numerator}//0")
    if isinstance(numerator, int) and isinstance(denominator, int):
        return numerator // denominator
    quotient = divide_exactly(numerator, denominator)
    if quotient is not None:
        return quotient
    return Expr((((FloorDiv(numerator, denominator),), 1),))


def divide_exactly(numerator: int | Expr, denominator: int | Expr) -> int | Expr | None:
    """The quotient where `denominator` is a single term that divides every term of `numerator`,
    else None.
    """
    if numerator == 0:
        return 0
    divisor = _terms(denominator)
    if len(divisor) != 1:
        return 1 if numerator == denominator else None
    (atoms, factor), quotient = divisor[0], []
    for term, coefficient in _terms(numerator):
        rest = list(term)
        if coefficient % factor:
            return None
        for atom in atoms:
            if atom not in rest:
                return None
            rest.remove(atom)
        quotient.append((tuple(rest), coefficient // factor))
    return _collect(quotient)


def product(dims: Iterable[int | Expr]) -> int | Expr:
    """The product of all dimensions; 1 for none."""
    result: int | Expr = 1
    for dim in dims:
        result = dim * result
    return result


def symbols(dim: int | Expr) -> frozenset[str]:
    """The names that `dim` mentions."""
    names: set[str] = set()
    for atoms, _ in _terms(dim):
        for atom in atoms:
            if isinstance(atom, str):
                names.add(atom)
            else:
                names |= symbols(atom.numerator) | symbols(atom.denominator)
    return frozenset(names)


def evaluate(dim: int | Expr, sizes: Mapping[str, int]) -> int:
    """The integer that `dim` is for the given sizes of its symbols.

    Raises:
        InputError: a symbol has no size, or a division by zero.
    """
    if isinstance(dim, int):
        return dim
    total = 0
    for atoms, factor in dim.terms:
        for atom in atoms:
            factor *= _evaluate_atom(atom, sizes)
        total += factor
    return total


def _evaluate_atom(atom: Atom, sizes: Mapping[str, int]) -> int:
    if isinstance(atom, str):
        if atom not in sizes:
            raise InputError(f"no size is known for the dimension {atom!r}")
        return sizes[atom]
    denominator = evaluate(atom.denominator, sizes)
    if denominator == 0:
        raise InputError(f"division by zero in the dimension {atom}")
    return evaluate(atom.numerator, sizes) // denominator


def substitute(dim: int | Expr, values: Mapping[str, int | Expr]) -> int | Expr:
    """`dim` with some symbols replaced by other dimensions."""
    result: int | Expr = 0
    for atoms, factor in _terms(dim):
        term: int | Expr = factor
        for atom in atoms:
            if isinstance(atom, str):
                value = values.get(atom, symbol(atom))
            else:
                value = floor_div(
                    substitute(atom.numerator, values), substitute(atom.denominator, values)
                )
            term = value * term
        result = result + term
    return result


def parse_dim(text: str) -> int | Expr:
    """The dimension that `str` printed.

    Raises:
        GraphError: the text is not an expression of integers, names, `+`, `-`, `*` and `//`.
    """
    try:
        return _from_ast(ast.parse(text, mode="eval").body)
    except (SyntaxError, RecursionError, ValueError) as error:
        raise GraphError(f"not a dimension: {text[:80]!r}") from error


def _from_ast(node: ast.expr) -> int | Expr:
    match node:
        case ast.Constant(value=int(value)) if not isinstance(value, bool):
            return value
        case ast.Name(id=name):
            return symbol(name)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -1 * _from_ast(operand)
        case ast.BinOp(left=left, op=operator, right=right):
            a, b = _from_ast(left), _from_ast(right)
            match operator:
                case ast.Add():
                    return a + b
                case ast.Sub():
                    return a - b
                case ast.Mult():
                    return a * b
                case ast.FloorDiv():
                    return floor_div(a, b)
    raise GraphError(f"not a dimension: {ast.dump(node)[:80]}")
