"""Programs as text, and back: what will run, to be read, and compared with what ran before.

    program
      input input_ids: i64[batch, seq]
      output last_hidden_state
      packing PackingRule(batch=dim('batch'), length=dim('seq'), mask='mask', splits=True)
      buffer h: 768 rows of dim("tokens'") tokens, steps 1 to 4
      step 1: linear_0 is linear by dense
        kernel = Panel(width=64, rows=6, sparse=False, epilogue=Epilogue(...))
        x = Tiles(buffer='h', tokens=dim("tokens'"), rows=768, first=0, features=768)
        ...

Values are written as Python would write them. They are read by a parser of their own, which knows
the classes of a program's parts and calls nothing else.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any

from prunus.errors import GraphError, ProgramError
from prunus.ir import Attrs, Expr, Node, TensorType, parse_dim, parse_type
from prunus.kernels.attention import Attention
from prunus.kernels.elementwise import Elementwise
from prunus.kernels.epilogue import Epilogue
from prunus.kernels.normalize import LayerNorm
from prunus.kernels.panel import Panel
from prunus.kernels.relative import RelativeAttention
from prunus.kernels.rotary import Rotary
from prunus.kernels.row_stream import RowStream
from prunus.kernels.tokens import Embed, TakeTokens, Unpack
from prunus.runtime.packing import PackingRule
from prunus.runtime.program import (
    Buffer,
    Derived,
    Feed,
    Fresh,
    NativeStep,
    NumpyStep,
    OfPacking,
    Program,
    Step,
    Stored,
    Tiles,
    Work,
    Zeros,
)
from prunus.runtime.weights import (
    BlockPanels,
    DensePanels,
    KeyTable,
    NonzeroStreams,
    Plain,
    QueryTable,
)

_CLASSES: Mapping[str, type] = {
    each.__name__: each
    for each in (
        Attention, BlockPanels, DensePanels, Derived, Elementwise, Embed, Epilogue, Feed, Fresh,
        KeyTable, LayerNorm, Node, NonzeroStreams, OfPacking, PackingRule, Panel, Plain, QueryTable,
        RelativeAttention, Rotary, RowStream, Stored, TakeTokens, Tiles, Unpack, Work, Zeros,
    )
}  # fmt: skip
"""Everything that a program may consist of. Each new kernel and form is entered here."""

_OF_STEP = ("kernel", "tokens", "units", "scratch", "work", "weight", "writes", "reason")
"""Fields of a native step that stand on lines of their own, before its arguments."""

_NAME = r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\""
_LINE = {
    "input": re.compile(rf"input ({_NAME}): (.+)"),
    "output": re.compile(rf"output ({_NAME})"),
    "constant": re.compile(rf"constant ({_NAME})"),
    "value": re.compile(rf"value ({_NAME}): (.+)"),
    "packing": re.compile(r"packing (.+)"),
    "buffer": re.compile(rf"buffer ({_NAME}): (\d+) rows of (.+?) tokens(?:, .*)?"),
    "native": re.compile(rf"step \d+: ({_NAME}) is (\w+) by ({_NAME})"),
    "numpy": re.compile(r"step \d+: (Node\(.+\)) on NumPy, as (.+)"),
}


def print_program(program: Program) -> str:
    """The program as text; `parse_program` reads it back."""
    lines = [f"input {name!r}: {type}" for name, type in program.inputs.items()]
    lines += [f"output {name!r}" for name in program.outputs]
    lines += [f"constant {name!r}" for name in program.constants]
    lines += [f"value {name!r}: {type}" for type, name in program.values.items()]
    lines.append(f"packing {_text(program.packing)}")
    lives = _lives(program)
    lines += [
        f"buffer {each.name!r}: {each.rows} rows of {_text(each.tokens)} tokens"
        + (f", steps {lives[name][0]} to {lives[name][1]}" if name in lives else "")
        for name, each in program.buffers.items()
    ]
    for number, step in enumerate(program.steps):
        lines += _step_lines(number, step)
    return "program\n" + "".join(f"  {line}\n" for line in lines)


def parse_program(text: str) -> Program:
    """The program that `print_program` printed.

    Raises:
        ProgramError: a line that cannot be read.
    """
    first, *lines = [line.strip() for line in text.splitlines() if line.strip()] or [""]
    if first != "program":
        raise ProgramError(f"a program's text begins with 'program', found {first[:60]!r}")
    found: dict[str, list[tuple[str, ...]]] = {kind: [] for kind in _LINE}
    steps: list[Step] = []
    position = 0
    while position < len(lines):
        kind, groups = _read_line(lines[position])
        position += 1
        if kind == "native":
            until = position
            while until < len(lines) and not lines[until].startswith("step "):
                until += 1
            steps.append(_native(groups, lines[position:until]))
            position = until
        elif kind == "numpy":
            steps.append(NumpyStep(_value(groups[0]), _value(groups[1])))
        else:
            found[kind].append(groups)
    if len(found["packing"]) != 1:
        raise ProgramError(f"a program has one line of packing, found {len(found['packing'])}")
    buffers = [
        Buffer(_value(name), int(rows), _value(tokens)) for name, rows, tokens in found["buffer"]
    ]
    return Program(
        inputs={_value(name): parse_type(type) for name, type in found["input"]},
        outputs=tuple(_value(name) for (name,) in found["output"]),
        values={parse_type(type): _value(name) for name, type in found["value"]},
        steps=tuple(steps),
        buffers={each.name: each for each in buffers},
        constants=tuple(_value(name) for (name,) in found["constant"]),
        packing=_value(found["packing"][0][0]),
    )


def _lives(program: Program) -> dict[str, tuple[int, int]]:
    """The first and the last step that uses each buffer."""
    lives: dict[str, tuple[int, int]] = {}
    for number, step in enumerate(program.steps):
        for buffer in step.buffers() if isinstance(step, NativeStep) else ():
            lives[buffer] = (lives.get(buffer, (number,))[0], number)
    return lives


def _step_lines(number: int, step: Step) -> Iterator[str]:
    if isinstance(step, NumpyStep):
        yield f"step {number}: {_text(step.node)} on NumPy, as {step.reason!r}"
        return
    yield f"step {number}: {step.name!r} is {step.op} by {step.label!r}"
    defaults = {each.name: _default(each) for each in fields(NativeStep)}
    for name in _OF_STEP:
        value = getattr(step, name)
        if value != defaults[name]:
            yield f"  {name} = {_text(value)}"
    for name, argument in step.arguments.items():
        yield f"  argument {name} = {_text(argument)}"


def _default(field: Field[Any]) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


def _read_line(line: str) -> tuple[str, tuple[str, ...]]:
    for kind, pattern in _LINE.items():
        if match := pattern.fullmatch(line):
            return kind, match.groups()
    raise ProgramError(f"cannot read the line {line[:120]!r}")


def _native(groups: tuple[str, ...], lines: list[str]) -> NativeStep:
    name, op, label = groups
    known: dict[str, Any] = {"tokens": None}
    arguments: dict[str, Any] = {}
    for line in lines:
        left, equals, right = line.partition(" = ")
        kind, _, key = left.partition(" ")
        if not equals or (kind not in _OF_STEP and kind != "argument"):
            raise ProgramError(f"cannot read the line {line[:120]!r}")
        if kind == "argument":
            arguments[key] = _value(right)
        else:
            known[kind] = _value(right)
    try:
        return NativeStep(
            name=_value(name), op=op, label=_value(label), arguments=arguments, **known
        )
    except TypeError as error:
        raise ProgramError(f"the step {name} lacks something: {error}") from error


def _text(value: Any) -> str:
    """A value as an expression of Python."""
    match value:
        case Expr():
            return f"dim({str(value)!r})"
        case TensorType():
            return f"type({str(value)!r})"
        case Attrs():
            return f"Attrs({', '.join(f'{key}={_text(each)}' for key, each in value.items())})"
        case tuple():
            return f"({', '.join(map(_text, value))}{',' * (len(value) == 1)})"
        case frozenset():
            return f"names({', '.join(map(repr, sorted(value)))})"
    if is_dataclass(value):
        own = [f"{each.name}={_text(getattr(value, each.name))}" for each in fields(value)]
        return f"{type(value).__name__}({', '.join(own)})"
    return repr(value)


def _value(text: str) -> Any:
    """The value of such an expression."""
    try:
        return _evaluate(ast.parse(text, mode="eval").body)
    except (GraphError, SyntaxError, ValueError, TypeError, RecursionError) as error:
        raise ProgramError(f"cannot read {text[:120]!r}: {error}") from error


def _evaluate(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_evaluate(operand)
        case ast.Tuple(elts=items):
            return tuple(map(_evaluate, items))
        case ast.Name(id="inf"):
            return float("inf")
        case ast.Call(func=ast.Name(id=name), args=args, keywords=keywords):
            values = [_evaluate(each) for each in args]
            named = {str(each.arg): _evaluate(each.value) for each in keywords}
            return _call(name, values, named)
    raise ValueError(f"{ast.unparse(node)[:60]} is no value of a program")


def _call(name: str, values: list[Any], named: dict[str, Any]) -> Any:
    match name:
        case "dim":
            return parse_dim(*values, internal=True)
        case "type":
            return parse_type(*values)
        case "names":
            return frozenset(values)
        case "Attrs":
            return Attrs(named)
    if name not in _CLASSES:
        raise ValueError(f"{name} is no part of a program")
    return _CLASSES[name](*values, **named)
