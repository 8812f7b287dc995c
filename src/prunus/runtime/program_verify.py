"""Checks that a program is well formed, before anything is bound: native code trusts it."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from prunus.errors import ProgramError
from prunus.ir import Attrs, Expr
from prunus.ir.dims import symbols
from prunus.ir.graph import AttrValue
from prunus.kernels.spec import tile_words
from prunus.runtime.host import DERIVED, FEEDS, OF_PACKING
from prunus.runtime.packing import TOKENS, PackingRule
from prunus.runtime.program import (
    Derived,
    Feed,
    NativeStep,
    NumpyStep,
    OfPacking,
    Program,
    Tiles,
)


def verify_program(program: Program) -> Program:
    """The program itself, if it is well formed.

    Every argument that a kernel takes is given and no other; every buffer is large enough and
    written before it is read; plain values are there before they are read; sizes mention known
    symbols alone; functions of the host exist.

    Raises:
        ProgramError: with the step and what is wrong.
    """
    known = {name for type in program.inputs.values() for name in type.symbols()}
    if isinstance(program.packing, PackingRule):
        known.add(TOKENS)
    written = set[str]()
    plain = {*program.inputs, *program.constants}
    for step in program.steps:
        if isinstance(step, NumpyStep):
            _need(step.node.name, step.node.inputs, plain, "plain values")
            plain.add(step.node.name)
            continue
        _check_arguments(step)
        _check_places(step, program)
        _check_functions(step)
        _need(step.name, step.buffers() - step.writes, written, "buffers")
        _need(step.name, step.writes, step.buffers(), "buffers")
        _need(step.name, step.reads_plain(), plain, "plain values")
        _need(step.name, sorted(_symbols(step)), known, "symbols of the inputs")
        written |= step.writes
        plain |= step.makes_plain()
    _need("the end", program.outputs, plain, "plain values")
    return program


def _need(where: str, wanted: Collection[str | None], there: Collection[str], what: str) -> None:
    missing = [each for each in wanted if each is not None and each not in there]
    if missing:
        raise ProgramError(f"{where} needs {', '.join(missing)}, which are no {what} by then")


def _check_arguments(step: NativeStep) -> None:
    words = [
        word
        for name, argument in step.arguments.items()
        for word in (tile_words(name) if isinstance(argument, Tiles) else (name,))
    ]
    wrong = {*step.kernel.parameters} ^ {*words}
    if wrong:
        raise ProgramError(
            f"{step.name} gives {', '.join(sorted(words))} to a kernel that takes "
            f"{', '.join(sorted(step.kernel.parameters))}"
        )


def _check_places(step: NativeStep, program: Program) -> None:
    for name, argument in step.arguments.items():
        if not isinstance(argument, Tiles):
            continue
        buffer = program.buffers.get(argument.buffer)
        if buffer is None:
            raise ProgramError(f"{step.name} has {name} in {argument.buffer}, which is no buffer")
        inside = 0 <= argument.first <= argument.first + argument.features <= buffer.rows
        if not inside or (argument.rows, argument.tokens) != (buffer.rows, buffer.tokens):
            raise ProgramError(f"{step.name} has {name} = {argument}, which is not in {buffer}")


def _check_functions(step: NativeStep) -> None:
    for name, argument in step.arguments.items():
        table = {Feed: FEEDS, Derived: DERIVED, OfPacking: OF_PACKING}.get(type(argument))
        if table is not None and argument.function not in table:  # type: ignore[union-attr]
            raise ProgramError(
                f"{step.name} has {name} made by {argument.function!r}, "  # type: ignore[union-attr]
                f"expected one of {', '.join(sorted(table))}"
            )


def _symbols(step: NativeStep) -> Iterator[str]:
    """All symbols that bind the step."""
    for dim in (step.tokens, step.units, step.scratch, step.work.units):
        yield from () if dim is None else symbols(dim)
    for argument in step.arguments.values():
        match argument:
            case Expr():
                yield from symbols(argument)
            case Tiles(tokens=tokens):
                yield from symbols(tokens)
            case Feed(attrs=attrs) | Derived(attrs=attrs) | OfPacking(attrs=attrs):
                yield from _of_attrs(attrs)


def _of_attrs(attrs: Attrs) -> Iterator[str]:
    waiting: list[AttrValue] = list(attrs.values())
    while waiting:
        value = waiting.pop()
        if isinstance(value, Expr):
            yield from symbols(value)
        elif isinstance(value, tuple):
            waiting += value
