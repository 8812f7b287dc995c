"""Every op's attributes: what is not of its kind is refused before a type rule sees it."""

import math
from typing import Any

import pytest

from prunus.errors import GraphError
from prunus.ir import OPS, Attrs, infer, symbol
from prunus.ir.attributes import (
    ACTIVATION,
    AXES,
    AXIS,
    COUNT,
    DIM,
    DTYPE,
    EPSILON,
    FINITE,
    FLAG,
    INDEX,
    NUMBER,
    SHAPE,
    Kind,
    check_attributes,
)
from tests.ir.test_ops import EXAMPLES

HUGE = 1 << 70
NONSENSE: tuple[Any, ...] = (None, "x", object(), [1], (1, (2,)), 1j, HUGE)
WRONG: dict[Kind, tuple[Any, ...]] = {
    AXIS: (-1, 1.0, True, 99, symbol("seq")),
    AXES: (0, (0, 0), (0, -1), (0.5,), (True,), [0]),
    COUNT: (0, -2, 1.0, True, symbol("seq")),
    INDEX: (0.0, True, symbol("seq")),
    DIM: (-1, 1.0, True),
    SHAPE: (3, (3, -1), (2.0,), (True,)),
    FLAG: (0, 1, "True"),
    NUMBER: ((1,),),
    FINITE: (math.inf, -math.inf, math.nan, True),
    EPSILON: (-1e-5, math.inf, math.nan, True),
    DTYPE: ("f16", "", 32),
    ACTIVATION: ("swish", "", True),
}


def test_every_kind_has_wrong_values() -> None:
    assert {kind for op in OPS.values() for kind in op.attrs.values()} == set(WRONG)


@pytest.mark.parametrize("op", sorted(OPS))
def test_an_attribute_of_another_kind_is_an_error(op: str) -> None:
    types, attrs = EXAMPLES[op][0]
    infer(op, types, Attrs(attrs))
    for name, kind in OPS[op].attrs.items():
        for value in (*WRONG[kind], *NONSENSE):
            with pytest.raises(GraphError, match=f"{op} needs {name} = "):
                infer(op, types, Attrs(attrs | {name: value}))


@pytest.mark.parametrize("op", sorted(OPS))
def test_attributes_that_are_missing_or_unknown_are_errors(op: str) -> None:
    types, attrs = EXAMPLES[op][0]
    with pytest.raises(GraphError, match="has the attributes"):
        infer(op, types, Attrs(attrs | {"slope": 0.1}))
    for name in attrs:
        rest = {key: value for key, value in attrs.items() if key != name}
        with pytest.raises(GraphError, match="has the attributes"):
            check_attributes(op, OPS[op].attrs, rest)
