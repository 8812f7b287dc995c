from collections.abc import Callable, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunus.errors import GraphError, InputError
from prunus.ir import Expr, evaluate, parse_dim, product, symbol
from prunus.ir.dims import divide_exactly, floor_div, substitute, symbols

NAMES = ("batch", "seq", "tokens")
Meaning = Callable[[Mapping[str, int]], int]
Pair = tuple[int | Expr, Meaning]

SIZES = st.fixed_dictionaries({name: st.integers(0, 9) for name in NAMES})


def leaf_of_number(number: int) -> Pair:
    return number, lambda sizes: number


def leaf_of_name(name: str) -> Pair:
    return symbol(name), lambda sizes: sizes[name]


def combine(parts: tuple[str, Pair, Pair]) -> Pair:
    op, (a, mean_a), (b, mean_b) = parts
    match op:
        case "+":
            return a + b, lambda sizes: mean_a(sizes) + mean_b(sizes)
        case "-":
            return a - b, lambda sizes: mean_a(sizes) - mean_b(sizes)
        case "*":
            return a * b, lambda sizes: mean_a(sizes) * mean_b(sizes)
    return a, mean_a


def divide(parts: tuple[Pair, int]) -> Pair:
    (a, mean), divisor = parts
    return floor_div(a, divisor), lambda sizes: mean(sizes) // divisor


def larger(inner: st.SearchStrategy[Pair]) -> st.SearchStrategy[Pair]:
    combined = st.tuples(st.sampled_from("+-*"), inner, inner).map(combine)
    divided = st.tuples(inner, st.integers(-4, 5).filter(bool)).map(divide)
    return combined | divided


PAIRS = st.recursive(
    st.integers(-5, 5).map(leaf_of_number) | st.sampled_from(NAMES).map(leaf_of_name),
    larger,
    max_leaves=8,
)


@given(PAIRS, SIZES)
def test_an_expression_is_what_the_integers_are(pair: Pair, sizes: dict[str, int]) -> None:
    dim, meaning = pair
    assert evaluate(dim, sizes) == meaning(sizes)


@given(PAIRS)
def test_its_text_reads_back(pair: Pair) -> None:
    assert parse_dim(str(pair[0])) == pair[0]


@given(PAIRS, PAIRS, PAIRS)
def test_the_order_of_terms_and_factors_does_not_matter(a: Pair, b: Pair, c: Pair) -> None:
    assert a[0] + b[0] == b[0] + a[0]
    assert a[0] * b[0] == b[0] * a[0]
    assert (a[0] + b[0]) * c[0] == a[0] * c[0] + c[0] * b[0]
    assert product([a[0], b[0], c[0]]) == product([c[0], a[0], b[0]])
    assert a[0] - a[0] == 0


@given(PAIRS, PAIRS, SIZES)
def test_substitution_is_evaluation_in_two_steps(
    outer: Pair, inner: Pair, sizes: dict[str, int]
) -> None:
    substituted = substitute(outer[0], {"seq": inner[0]})
    assert evaluate(substituted, sizes) == evaluate(
        outer[0], {**sizes, "seq": evaluate(inner[0], sizes)}
    )


@given(PAIRS, st.integers(1, 9))
def test_division_undoes_multiplication(pair: Pair, factor: int) -> None:
    assert floor_div(pair[0] * factor, factor) == pair[0]
    assert floor_div(pair[0] * factor * symbol("seq"), factor * symbol("seq")) == pair[0]


def test_what_does_not_divide_stays_a_division() -> None:
    batch, seq = symbol("batch"), symbol("seq")
    assert divide_exactly(batch * seq, seq) == batch
    assert divide_exactly(batch + seq, seq) is None
    assert divide_exactly(batch + seq, batch + seq) == 1
    assert str(floor_div(seq + 1, 2)) == "((seq + 1)//(2))"
    assert evaluate(floor_div(seq + 1, 2), {"seq": 6}) == 3


def test_products_of_divisions_read_back() -> None:
    half = floor_div(symbol("seq"), 2)
    dim = 3 * half * half + half
    assert parse_dim(str(dim)) == dim
    assert evaluate(parse_dim(str(dim)), {"seq": 7}) == 30


def test_symbols_are_found_inside_divisions() -> None:
    assert symbols(floor_div(symbol("seq"), 3) + symbol("batch")) == {"seq", "batch"}
    assert symbols(3) == frozenset()


@pytest.mark.parametrize(
    "text",
    ["", "1.5", "seq %", "seq ** 2", "seq / 2", "f(seq)", "seq // 0", "(" * 500, "a.b",
     "1 if a else 2", "seq == 2", "[1]"],
)  # fmt: skip
def test_other_text_is_an_error(text: str) -> None:
    with pytest.raises(GraphError):
        parse_dim(text)


def test_a_name_must_be_an_identifier() -> None:
    with pytest.raises(GraphError, match="identifier"):
        symbol("2d")


def test_a_missing_size_is_an_error() -> None:
    with pytest.raises(InputError, match="seq"):
        evaluate(symbol("seq"), {"batch": 1})
    with pytest.raises(InputError, match="division by zero"):
        evaluate(floor_div(symbol("seq"), symbol("batch")), {"seq": 4, "batch": 0})
