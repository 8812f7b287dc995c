"""A program is data: it is printed, read back, compared, and verified before anything runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunus.errors import ProgramError
from prunus.ir import Attrs, symbol
from prunus.plan import make_options, make_plan
from prunus.runtime.program import Feed, NativeStep, Program
from prunus.runtime.program_text import parse_program, print_program
from prunus.runtime.program_verify import verify_program
from tests.graphs import Case, graphs
from tests.native.decisions import examples
from tests.native.encoder import encoder

PROGRAM = make_plan(encoder(density=0.1), make_options(tune="cost", threads=2))


@examples(0.5)
@given(graphs())
def test_a_program_reads_back_as_it_was_printed(case: Case) -> None:
    program = make_plan(case.graph, make_options(tune="cost", threads=2))
    text = print_program(program)
    assert parse_program(text) == program
    assert str(parse_program(text)) == text


def test_equal_graphs_have_equal_programs() -> None:
    again = make_plan(encoder(density=0.1), make_options(tune="cost", threads=2))
    assert again == PROGRAM


def changed(op: str, change: Callable[[NativeStep], dict[str, Any]]) -> Program:
    """The program with its first step of an op changed."""
    steps = list(PROGRAM.steps)
    at = next(i for i, s in enumerate(steps) if isinstance(s, NativeStep) and s.op == op)
    step = steps[at]
    assert isinstance(step, NativeStep)
    steps[at] = replace(step, **change(step))
    return replace(PROGRAM, steps=tuple(steps))


def argument(name: str, change: Callable[[Any], Any]) -> Callable[[NativeStep], dict[str, Any]]:
    """Another value of an argument."""
    return lambda step: {"arguments": {**step.arguments, name: change(step.arguments[name])}}


def without(name: str) -> Callable[[NativeStep], dict[str, Any]]:
    """An argument less."""
    return lambda step: {"arguments": {k: v for k, v in step.arguments.items() if k != name}}


WRONG: dict[str, tuple[Program, str]] = {
    "a missing argument": (changed("linear", without("bias")), "to a kernel that takes"),
    "rows outside their buffer": (
        changed("linear", argument("x", lambda x: replace(x, features=x.rows + 1))),
        "which is not in",
    ),
    "an unknown buffer": (
        changed("linear", argument("x", lambda x: replace(x, buffer="nowhere"))), "is no buffer",
    ),
    "a buffer that is read too early": (
        replace(PROGRAM, steps=tuple(s for s in PROGRAM.steps
                                     if not isinstance(s, NativeStep) or s.op != "embedding")),
        "which are no buffers by then",
    ),
    "an unknown symbol": (changed("linear", lambda step: {"units": symbol("n")}), "needs n"),
    "an unknown function": (
        changed("embedding", argument("ids0", lambda ids: replace(ids, function="ides"))),
        "made by 'ides', expected one of",
    ),
    "a value that is not there": (
        changed("embedding", argument("ids0", lambda ids: replace(ids, values=("nothing",)))),
        "needs nothing",
    ),
    "an unknown output": (replace(PROGRAM, outputs=("nothing",)), "the end needs nothing"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_is_not_well_formed_is_found(case: str) -> None:
    program, message = WRONG[case]
    with pytest.raises(ProgramError, match=message):
        verify_program(program)


@pytest.mark.parametrize(
    ("line", "changed"),
    [
        ("program", "programme"),
        ("packing", "unpacking"),
        ("kernel = ", "kernel = print"),
        ("Tiles(buffer=", "__import__(buffer="),
        ("features=", "fates="),
        ("argument x = ", "argument x "),
        ('dim("tokens\'")', "dim('tokens%')"),
    ],
)
def test_a_text_that_is_no_program_is_refused(line: str, changed: str) -> None:
    text = str(PROGRAM)
    assert line in text
    with pytest.raises(ProgramError):
        parse_program(text.replace(line, changed, 1))


VALUES = st.recursive(
    st.integers() | st.text() | st.booleans() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3).map(tuple),
    max_leaves=6,
)


@given(VALUES)
def test_attributes_read_back(value: Any) -> None:
    feed = Feed("tokens", ("x",), Attrs(value=value))
    program = changed("linear", argument("bias", lambda _: feed))
    assert parse_program(str(program)) == program
