"""Dimensions: integers or integer expressions (sum, product, floor division) of named symbols.

An expression is kept as a polynomial with integer coefficients whose atoms are symbols and floor
divisions, in a canonical order, so equal expressions compare equal and `batch*seq` is `seq*batch`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import overload

from prunus.errors import GraphError, InputError

MAX_TEXT = 2000
"""Characters of an expression. The longest of a real model has about 100; without a limit, a short
product of sums in a hostile file would take minutes to expand."""

MAX_DEPTH = 80
"""Brackets inside each other in a text; the length after seven strided convolutions has 14."""

MAX_INTEGER = 1 << 62
"""No size, and no coefficient of one, reaches this: they must fit into 64 bits."""


@dataclass(frozen=True, slots=True, eq=False)
class _Canonical:
    """Something whose text is canonical: equal text means equal, and the text is made once, so that
    comparing and hashing a deeply nested expression does not walk through it.
    """

    text: str = field(init=False, repr=False)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Canonical):
            return NotImplemented
        return type(self) is type(other) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __str__(self) -> str:
        return self.text

    def _set_text(self, text: str) -> None:
        if len(text) > MAX_TEXT:
            raise GraphError(
                f"a dimension has more than {MAX_TEXT} characters: {text[:60]}…; "
                "expected a short expression such as batch*seq"
            )
        object.__setattr__(self, "text", text)


@dataclass(frozen=True, slots=True, eq=False)
class FloorDiv(_Canonical):
    """`numerator // denominator`, an atom of an expression."""

    numerator: int | Expr
    denominator: int | Expr

    def __post_init__(self) -> None:
        # In brackets of its own: 3 * (seq // 2) is not (3 * seq) // 2.
        self._set_text(f"(({self.numerator})//({self.denominator}))")


Atom = str | FloorDiv
Monomial = tuple[Atom, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Expr(_Canonical):
    """A polynomial: `terms` maps products of atoms to coefficients, sorted by their text, never
    constant.
    """

    terms: tuple[tuple[Monomial, int], ...]

    def __post_init__(self) -> None:
        self._set_text(" + ".join(_monomial_text(atoms, factor) for atoms, factor in self.terms))

    @property
    def is_symbol(self) -> bool:
        """Whether it is a symbol alone."""
        match self.terms:
            case (((str(),), 1),):
                return True
        return False

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


def _monomial_text(atoms: Monomial, factor: int) -> str:
    words = [str(atom) for atom in atoms]
    return "*".join(words if factor == 1 and words else [str(factor), *words])


def _terms(dim: int | Expr) -> tuple[tuple[Monomial, int], ...]:
    return dim.terms if isinstance(dim, Expr) else (((), dim),)


def _collect(terms: Iterable[tuple[Monomial, int]]) -> int | Expr:
    total: dict[Monomial, int] = {}
    for atoms, factor in terms:
        total[atoms] = total.get(atoms, 0) + factor
        if len(total) > MAX_TEXT:
            raise GraphError(f"a dimension has more than {MAX_TEXT} terms")
    kept = [(atoms, factor) for atoms, factor in total.items() if factor]
    if any(abs(factor) >= MAX_INTEGER for _, factor in kept):
        raise GraphError("a dimension holds a number that does not fit into 64 bits")
    if all(not atoms for atoms, _ in kept):
        return sum(factor for _, factor in kept)
    kept.sort(key=lambda term: (-len(term[0]), *map(str, term[0])))
    return Expr(tuple(kept))


def symbol(name: str) -> Expr:
    """The dimension called `name`.

    Raises:
        GraphError: the name is not an identifier of letters, digits and underscores.
    """
    if not _IDENTIFIER.fullmatch(name):
        raise GraphError(f"a dimension's name must be an identifier, found {name[:60]!r}")
    return _symbol(name)


def internal_symbol(name: str) -> Expr:
    """A dimension that prunus introduces; no model can have one of the same name."""
    return _symbol(f"{name}'")  # not an identifier


def _symbol(name: str) -> Expr:
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


@overload
def round_up(dim: int, quantum: int) -> int: ...
@overload
def round_up(dim: int | Expr, quantum: int) -> int | Expr: ...
def round_up(dim: int | Expr, quantum: int) -> int | Expr:
    """The next multiple of `quantum` that is not less."""
    return floor_div(dim + (quantum - 1), quantum) * quantum


def product(dims: Iterable[int | Expr]) -> int | Expr:
    """The product of all dimensions; 1 for none."""
    result: int | Expr = 1
    for dim in dims:
        result = dim * result
        if isinstance(result, int) and result >= MAX_INTEGER:
            raise GraphError("a shape has more elements than fit into 64 bits")
    return result


def is_positive(dim: int | Expr) -> bool:
    """Whether `dim` is at least 1 for all sizes of its symbols, which are at least 1 themselves: at
    least where no term is negative, and one is not a floor division that may be 0.
    """
    terms = _terms(dim)
    return all(factor >= 0 for _, factor in terms) and any(
        factor > 0 and all(isinstance(atom, str) for atom in atoms) for atoms, factor in terms
    )


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
                value = values.get(atom, _symbol(atom))
            else:
                value = floor_div(
                    substitute(atom.numerator, values), substitute(atom.denominator, values)
                )
            term = value * term
        result = result + term
    return result


@lru_cache(maxsize=1024)  # a graph has the same few on every line
def parse_dim(text: str, *, internal: bool = False) -> int | Expr:
    """The dimension that `str` printed. With `internal` it may mention symbols that prunus
    introduced, which no model has.

    Raises:
        GraphError: the text is not an expression of integers, names, `+`, `-`, `*` and `//`.
    """
    try:
        return _Parser(text, internal).parse()
    except GraphError as error:
        raise GraphError(f"not a dimension: {text[:80]!r}: {error}") from error


_IDENTIFIER = re.compile(r"[^\W\d]\w*")
_TOKEN = re.compile(rf"\s*(?:(\d+)|({_IDENTIFIER.pattern}'?)|(//|[-+*()]))")


class _Parser:
    """Recursive descent over the tokens of a dimension's text, of limited depth."""

    def __init__(self, text: str, internal: bool) -> None:
        self._internal, self._depth = internal, 0
        self._tokens = self._split(text)
        self._next: str = next(self._tokens)

    def parse(self) -> int | Expr:
        result = self._sum()
        if self._next:
            raise GraphError(f"cannot read {self._next!r}")
        return result

    @staticmethod
    def _split(text: str) -> Iterator[str]:
        """The tokens, and an empty one at the end."""
        text, position = text.rstrip(), 0
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None:
                raise GraphError(f"cannot read {text[position : position + 20]!r}")
            position = match.end()
            yield match[0].lstrip()
        yield ""

    def _take(self) -> str:
        taken = self._next
        self._next = next(self._tokens, "")
        return taken

    def _sum(self) -> int | Expr:
        result = self._product()
        while self._next in ("+", "-"):
            sign = 1 if self._take() == "+" else -1
            result = result + sign * self._product()
        return result

    def _product(self) -> int | Expr:
        result = self._factor()
        while self._next in ("*", "//"):
            if self._take() == "*":
                result = result * self._factor()
            else:
                result = floor_div(result, self._factor())
        return result

    def _factor(self) -> int | Expr:
        token = self._take()
        if token == "-":
            return -1 * self._nested(self._factor)
        if token == "(":
            inner = self._nested(self._sum)
            if self._take() != ")":
                raise GraphError("a bracket is not closed")
            return inner
        if token.isdecimal() and token.isascii() and len(token) < 20:
            return int(token)
        if self._internal and token.endswith("'"):
            return internal_symbol(token[:-1])
        return symbol(token)

    def _nested(self, read: Callable[[], int | Expr]) -> int | Expr:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise GraphError(f"more than {MAX_DEPTH} brackets inside each other")
        result = read()
        self._depth -= 1
        return result
