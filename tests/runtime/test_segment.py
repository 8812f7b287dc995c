"""Sizes are checked before native code counts up to them: with one below 0 it would not end."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from prunus.errors import InternalError
from prunus.runtime.executable import Executable
from prunus.runtime.program import NativeStep, Program
from prunus.runtime.segment import MAX_SIZE, Segment
from prunus.runtime.weights import Weights
from tests.graphs import BATCH, SEQ, GraphBuilder
from tests.native.decisions import Decisions, compiled, run
from tests.native.encoder import encoder, sentences

Change = Callable[[NativeStep], dict[str, Any]]


def with_steps(program: Program, op: str, change: Change) -> tuple[Program, str]:
    """The program with one step of this op changed, and its name."""
    steps = list(program.steps)
    for at, step in enumerate(steps):
        if isinstance(step, NativeStep) and step.op == op:
            steps[at] = replace(step, **change(step))
            return replace(program, steps=tuple(steps)), step.name
    raise AssertionError(f"no step is {op}")


def argument(name: str, value: object) -> Change:
    """Another argument."""

    def change(step: NativeStep) -> dict[str, Any]:
        assert name in step.arguments
        return {"arguments": {**step.arguments, name: value}}

    return change


WRONG: dict[str, tuple[str, Change, str]] = {
    "units below 0": ("attention", lambda step: {"units": -2}, "units of a tile is -2"),
    "units of a size below 0": (
        "attention", lambda step: {"units": BATCH * -3}, "units of a tile is -6",
    ),
    "units beyond any memory": (
        "attention", lambda step: {"units": BATCH * (1 << 61)}, f"is {1 << 62}",
    ),
    "tokens below 0": ("linear", lambda step: {"tokens": BATCH * SEQ * -1}, "tokens is -18"),
    "an argument below 0": ("attention", argument("heads", -2), "heads is -2"),
    "an argument that a size makes": (
        "attention", argument("key_tokens", SEQ * -1), "key_tokens is -9",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_size_below_zero_never_reaches_native_code(case: str) -> None:
    op, change, message = WRONG[case]
    sound = compiled(encoder(), Decisions(threads=2))
    program, name = with_steps(sound.program, op, change)
    weights = Weights(encoder().constants)
    with pytest.raises(
        InternalError, match=f"{op} '{name}': .*{message}.*expected 0 to {MAX_SIZE}"
    ):
        run(Executable(program, weights, target=sound.target, threads=2), sentences(2, 9))


def test_what_sizes_derive_is_computed_once_for_all_steps() -> None:
    b = GraphBuilder()
    x = b.input("x", "f32[4, n, 6]")  # the sequences are not those of a batch, so nothing is packed
    for _ in range(3):
        x = b.add("attention", x, x, x, heads=2, scale=0.5, causal=False)
    executable = compiled(b.graph(x), Decisions())
    run(executable, {"x": np.ones((4, 5, 6), np.float32)})
    steps = [step for step in executable.program.native_steps if step.op == "attention"]
    starts = {step.arguments[f"{each}_starts"] for step in steps for each in ("query", "key")}
    assert len(steps) == 3 and len(starts) == 1
    (bound,) = executable._bindings.values()
    arrays = [part.keep for part in bound if isinstance(part, Segment)]
    assert sorted(len(array) for kept in arrays for array in kept) == [5, 20]  # starts, and rows
