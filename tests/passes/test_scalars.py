import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunus.ir import DTYPES, OPS, Attrs, symbol
from prunus.passes.scalars import (
    UNBOUNDED,
    Apply,
    Element,
    Index,
    Literal,
    Scalar,
    apply,
    bounds,
    describe,
    leaves,
    size_of,
    within,
)

COMPARISONS = ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal")
OPERATIONS = (*COMPARISONS, "and", "or", "not", "cast", "where", "add", "multiply", "subtract")
EXTENTS = (4, 3)
INDICES = np.indices(EXTENTS)
VALUES = np.random.default_rng(0).integers(-3, 4, EXTENTS)
SEEN = VALUES > 0
NUMBER = Element("values", (Index(0, 4), Index(1, 3)), "i64")
TRUTH = Element("seen", (Index(0, 4), Index(1, 3)), "bool")


def value(x: Scalar) -> np.ndarray:
    """The expression at all indices."""
    match x:
        case Index(axis=axis):
            return np.asarray(INDICES[axis])
        case Literal(value=number, dtype=dtype):
            return np.full(EXTENTS, number, DTYPES[dtype])
        case Element(value=name):
            return VALUES if name == "values" else SEEN
        case Apply(op=op, operands=operands, dtype=dtype):
            return np.asarray(OPS[op].meaning(Attrs(dtype=dtype), *map(value, operands)))


NUMBERS = st.one_of(
    st.sampled_from([Index(0, 4), Index(1, 3), NUMBER]),
    st.integers(-3, 3).map(lambda number: Literal(number, "i64")),
)
TRUTHS = st.sampled_from([TRUTH, Literal(True, "bool"), Literal(False, "bool")])
ATOMS: st.SearchStrategy[Scalar] = st.one_of(NUMBERS, TRUTHS)


@st.composite
def expressions(draw: st.DrawFn) -> tuple[Scalar, np.ndarray]:
    """An expression made by `apply`, and what it must be."""
    known: list[tuple[Scalar, np.ndarray]] = [
        (x, value(x)) for x in draw(st.lists(ATOMS, min_size=2, max_size=4))
    ]
    for _ in range(draw(st.integers(1, 6))):
        op = draw(st.sampled_from(OPERATIONS))
        count = {"not": 1, "cast": 1, "where": 3}.get(op, 2)
        chosen = [draw(st.sampled_from(known)) for _ in range(count)]
        dtypes = [x.dtype for x, _ in chosen]
        if op in ("and", "or", "not") and set(dtypes) != {"bool"}:
            continue
        if op == "where" and (dtypes[0] != "bool" or dtypes[1] != dtypes[2]):
            continue
        if count == 2 and (dtypes[0] != dtypes[1] or (dtypes[0] == "bool" and op == "subtract")):
            continue
        to = draw(st.sampled_from(["bool", "i64", "i32", "f32"]))
        if op != "cast":
            to = "bool" if op in COMPARISONS else dtypes[-1]
        meant = OPS[op].meaning(Attrs(dtype=to), *(array for _, array in chosen))
        known.append((apply(op, tuple(x for x, _ in chosen), to), meant.astype(DTYPES[to])))
    return known[-1]


@given(expressions())
def test_simplified_expressions_keep_their_value_and_lie_within_their_bounds(
    case: tuple[Scalar, np.ndarray],
) -> None:
    x, meant = case
    np.testing.assert_array_equal(value(x), meant)
    assert value(x).dtype == meant.dtype == DTYPES[x.dtype]
    if x.dtype != "f32":
        least, most = bounds(x, {}, lambda element: (-3, 3))
        assert least <= meant.min() and meant.max() <= most


def truth(x: Scalar) -> Scalar:
    return apply("cast", (x,), "bool")


@pytest.mark.parametrize(
    ("op", "operands", "dtype", "expected"),
    [
        ("and", (Literal(True, "bool"), TRUTH), "bool", TRUTH),
        ("and", (TRUTH, Literal(False, "bool")), "bool", Literal(False, "bool")),
        ("or", (TRUTH, Literal(False, "bool")), "bool", TRUTH),
        ("or", (Literal(True, "bool"), TRUTH), "bool", Literal(True, "bool")),
        ("and", (TRUTH, TRUTH), "bool", TRUTH),
        ("not", (apply("not", (TRUTH,), "bool"),), "bool", TRUTH),
        ("cast", (NUMBER,), "i64", NUMBER),
        ("cast", (apply("cast", (TRUTH,), "f32"),), "bool", TRUTH),
        ("greater_equal", (Index(0, 4), Literal(0, "i64")), "bool", Literal(True, "bool")),
        ("less", (Index(0, 4), Literal(4, "i64")), "bool", Literal(True, "bool")),
        ("less", (Index(0, 4), Literal(0, "i64")), "bool", Literal(False, "bool")),
        ("less_equal", (NUMBER, NUMBER), "bool", Literal(True, "bool")),
        ("not_equal", (NUMBER, Literal(0, "i64")), "bool", truth(NUMBER)),
        ("where", (Literal(False, "bool"), NUMBER, Index(0, 4)), "i64", Index(0, 4)),
        ("where", (TRUTH, NUMBER, NUMBER), "i64", NUMBER),
        ("where", (TRUTH, Literal(True, "bool"), Literal(False, "bool")), "bool", TRUTH),
        ("add", (NUMBER, Literal(0, "i64")), "i64", NUMBER),
        ("multiply", (Literal(1, "i64"), NUMBER), "i64", NUMBER),
        ("add", (Literal(2, "i64"), Literal(3, "i64")), "i64", Literal(5, "i64")),
    ],
)
def test_each_fact(op: str, operands: tuple[Scalar, ...], dtype: str, expected: Scalar) -> None:
    assert apply(op, operands, dtype) == expected


def test_facts_of_integers_are_not_claimed_of_floats() -> None:
    x = Element("x", (), "f32")
    for op, operands, dtype in (
        ("equal", (x, x), "bool"),  # NaN
        ("add", (x, Literal(0.0, "f32")), "f32"),  # -0.0
        ("less_equal", (x, x), "bool"),
    ):
        assert isinstance(apply(op, operands, dtype), Apply)


def test_what_might_overflow_has_no_bounds() -> None:
    seq = Index(0, symbol("seq"))
    assert bounds(seq) == (0, np.inf)
    assert bounds(seq, {"seq": 9}) == (0, 8)
    assert bounds(apply("add", (seq, Literal(3, "i64")), "i64")) == (3, np.inf)
    assert bounds(apply("cast", (seq,), "i32")) == UNBOUNDED
    assert bounds(apply("cast", (seq,), "i32"), {"seq": 9}) == (0, 8)
    assert within((0, 1 << 31), "i32") == UNBOUNDED
    assert within((0, 1 << 62), "i64") == UNBOUNDED
    assert within((0, 5), "u8") == UNBOUNDED


def test_parts_of_an_expression() -> None:
    x = apply("and", (TRUTH, apply("less", (Index(1, 3), NUMBER), "bool")), "bool")
    assert describe(x) == "and(seen[i, j], greater(values[i, j], j))"
    assert [leaf.value for leaf in leaves(x)] == ["seen", "values"]
    assert size_of(x) == 1 + 3 + 1 + 3 + 1
