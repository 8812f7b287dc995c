"""An nn.Module → ExportedProgram with dynamic sizes, by what torch.export can do for it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from prunus.errors import InputError, UnsupportedError
from prunus.frontend.dynamic_axes import Axis, DynamicAxes
from prunus.frontend.examples import Example, is_of_transformers
from prunus.frontend.failures import export_failure, user_line
from prunus.frontend.masks import mask_note
from prunus.frontend.quiet import quietly
from prunus.frontend.trials import Refusal, attempt

if TYPE_CHECKING:
    import torch
    from torch.export import ExportedProgram

COMMON_NAMES = ("batch", "seq")

SEQUENCE: Axis = ("input_ids", 1)
"""The axis whose size the position table of an encoder of transformers limits."""

GUARD_PROBES = (2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 31, 64, 65, 128, 130, 512, 513)
"""Sizes at which a condition is tried; most are made of powers of two."""


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """What torch.export made of a module.

    Attributes:
        exported: The program, without in-place ops and graphs within the graph.
        input_names: The names of its inputs in its order; None for what is no tensor.
        axes: The axes that may vary.
        guards: Conditions on sizes that it assumes, as expressions of SymPy.
    """

    exported: ExportedProgram
    input_names: tuple[str | None, ...]
    axes: DynamicAxes
    guards: tuple[Any, ...]

    def input_shapes(self) -> dict[str, tuple[Any, ...]]:
        """The shapes of the inputs, of integers and torch's SymInts."""
        nodes = [node for node in self.exported.graph.nodes if node.op == "placeholder"]
        specs = self.exported.graph_signature.input_specs
        is_input = [spec.kind.name == "USER_INPUT" for spec in specs]
        inputs = [node for node, own in zip(nodes, is_input, strict=True) if own]
        return {
            name: tuple(map(_constant, node.meta["val"].shape))
            for node, name in zip(inputs, self.input_names, strict=True)
            if name is not None
        }

    def size_names(self) -> dict[str, str]:
        """What torch's symbols are called in the graph.

        Raises:
            UnsupportedError: the module takes only multiples, say, of a size.
        """
        found: dict[str, list[str]] = {}
        for name, shape in self.input_shapes().items():
            for axis, size in enumerate(shape):
                if isinstance(size, int):
                    continue
                expression = size.node.expr
                if not expression.is_Symbol:
                    raise UnsupportedError(
                        f"the module takes only some sizes along axis {axis} of {name}: "
                        f"{expression}. Fix the size with dynamic_shapes"
                    )
                found.setdefault(str(expression), []).append(self.axes.names[name, axis])
        return {
            symbol: next((name for name in COMMON_NAMES if name in names), names[0])
            for symbol, names in found.items()
        }

    def limits(self) -> dict[str, int]:
        """The largest sizes by name.

        Raises:
            UnsupportedError: the program is only for sizes from some minimum on.
        """
        names, limits = self.size_names(), dict[str, int]()
        for symbol, bounds in self.exported.range_constraints.items():
            name = names.get(str(symbol))
            if name is None:
                continue
            if bounds.lower > 2:
                raise UnsupportedError(
                    f"the module takes {name} only from {bounds.lower} on, as dynamic_shapes or a "
                    "condition in it says; prunus knows only upper limits. Fix the size with "
                    "dynamic_shapes"
                )
            if bounds.upper.is_Integer and bounds.upper < 1 << 40:
                limits[name] = min(int(bounds.upper), limits.get(name, int(bounds.upper)))
        return limits

    def narrow_axes(self) -> list[Axis]:
        """The axes behind batch and length that the module takes only from 3 or more on, and of
        which nobody said that they vary: the 4 numbers of a token's box.
        """
        narrow = {
            str(symbol)
            for symbol, bounds in self.exported.range_constraints.items()
            if bounds.lower > 2
        }
        shapes = self.input_shapes()
        return [
            (name, axis)
            for (name, axis), dim in self.axes.names.items()
            if axis > 1
            and dim not in self.axes.dims
            and not isinstance(size := shapes[name][axis], int)
            and {str(symbol) for symbol in size.node.expr.free_symbols} & narrow
        ]

    def doubtful_sizes(self) -> list[dict[str, int]]:
        """Sizes by name at which the program may be another than the module.

        torch.export takes for granted that no size is 1, and that a condition on sizes that it met
        is what it was for the example.
        """
        names = self.size_names()
        ranges = {
            symbol: bounds
            for symbol, bounds in self.exported.range_constraints.items()
            if str(symbol) in names
        }
        usual = self.axes.larger_sizes()
        points = [dict.fromkeys(usual, 1)] if usual else []
        for condition in self.guards:
            for point in _points(condition, ranges):
                if _is_false(condition, point):
                    sizes = {names[str(symbol)]: int(size) for symbol, size in point.items()}
                    points.append({**usual, **sizes})
                    break
        return [point for i, point in enumerate(points) if point not in points[:i]]


def _is_false(condition: Any, point: Mapping[Any, Any]) -> bool:
    """Whether a condition of SymPy does not hold; one that is undefined there says nothing."""
    try:
        return bool(condition.xreplace(point) == False)  # noqa: E712 - a truth value of SymPy
    except ZeroDivisionError:
        return False


def _constant(size: Any) -> Any:
    is_constant = isinstance(size, int) or size.node.expr.is_Integer
    return int(size) if is_constant else size


def _points(condition: Any, ranges: Mapping[Any, Any]) -> Iterator[dict[Any, Any]]:
    """Assignments of sizes to the symbols of a condition, inside of their ranges."""
    from sympy import Integer  # type: ignore[import-untyped]

    symbols = sorted(condition.free_symbols, key=str)
    if not all(symbol in ranges for symbol in symbols):
        return
    count = len(GUARD_PROBES)
    for shift in range(count):
        sizes = [GUARD_PROBES[shift * (i + 1) % count] for i in range(len(symbols))]
        point = dict(zip(symbols, map(Integer, sizes), strict=True))
        if all(size <= ranges[symbol].upper for symbol, size in point.items()):
            yield point


def export_program(module: torch.nn.Module, example: Example, axes: DynamicAxes) -> Program:
    """The module as a program.

    Named sizes come first, as they make sure that inputs share them; some modules need torch to
    find out by itself which sizes are equal, bounded or fixed.

    Raises:
        InputError: the module does not take the example.
        UnsupportedError: it cannot be exported.
    """
    failure: Exception | None = None
    for choice in _choices(example, axes):
        for is_named in (True, False):
            program = attempt(partial(_export, module, example, choice, is_named))
            if not isinstance(program, Refusal):
                return _without_fixed(module, example, program)
            failure = program.error
    assert failure is not None, "at least two ways were tried"
    _check_example(module, example)
    note = mask_note(example.tensors)
    raise export_failure(type(module).__name__, failure, note) from failure


def position_limit(module: torch.nn.Module, example: Example) -> int | None:
    """The longest sequence whose positions lie in the table of an encoder of transformers.

    RoBERTa counts positions from the padding id on, and leaves the rows up to it unused.
    """
    import torch

    known = example.tensors.keys()
    if not is_of_transformers(module) or "input_ids" not in known or "position_ids" in known:
        return None
    lengths = [
        table.num_embeddings - (0 if table.padding_idx is None else table.padding_idx + 1)
        for name, table in module.named_modules()
        if isinstance(table, torch.nn.Embedding)
        and name.rpartition(".")[2] == "position_embeddings"
    ]
    return min((length for length in lengths if length > 1), default=None)


def _choices(example: Example, axes: DynamicAxes) -> Iterator[DynamicAxes]:
    """All axes; then all but those that broadcast, such as the heads of a mask [2, 1, 7, 7]."""
    yield axes
    ids = {
        name
        for name, tensor in example.tensors.items()
        if tensor.ndim <= 2 and str(tensor.dtype) == "torch.int64"  # never of one length only
    }
    single = [axis for axis, size in axes.sizes.items() if size == 1 and axis[0] not in ids]
    if inner := [axis for axis in single if axis[1] > 0]:
        yield axes.without(inner)
    if len(single) > len(inner):
        yield axes.without(single)


def _export(
    module: torch.nn.Module, example: Example, axes: DynamicAxes, is_named: bool
) -> Program:
    import torch

    args, kwargs = example.call(axes.resize(example.tensors, axes.larger_sizes()))
    shapes = _dynamic_shapes(module, example, axes, is_named)

    def export() -> tuple[ExportedProgram, tuple[Any, ...]]:
        exported = torch.export.export(module, args, kwargs, dynamic_shapes=shapes, strict=False)
        guards = tuple(_guards(exported))
        if _has_mutation_or_parts(exported):
            # Makes in-place ops and blocks under no_grad plain, and decomposes nothing else.
            exported = exported.run_decompositions({})
        return exported, guards

    try:
        exported, guards = quietly(export)
    except DataDependentError as error:
        raise error.reason from error.reason.__cause__
    return Program(exported, _input_names(exported, example), axes, guards)


class DataDependentError(Exception):
    """Wraps an error of torch about a condition on values, until torch.export has passed it on.

    Where torch.export meets the error itself, it prints the graph so far to stderr.
    """

    def __init__(self, reason: RuntimeError) -> None:
        super().__init__(str(reason))
        self.reason = reason


def without_dumps(forward: Callable[..., Any]) -> Callable[..., Any]:
    """A module's forward, with errors about conditions on values wrapped."""

    @functools.wraps(forward)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return forward(*args, **kwargs)
        except RuntimeError as error:
            if type(error).__name__ == "GuardOnDataDependentSymNode":
                raise DataDependentError(error) from error
            raise

    return call


def _dynamic_shapes(
    module: torch.nn.Module, example: Example, axes: DynamicAxes, is_named: bool
) -> dict[str, Any]:
    from torch.export import Dim

    limit, sequence = position_limit(module, example), axes.names.get(SEQUENCE)
    dims = dict(axes.dims)
    if limit and sequence in dims and dims[sequence].max > limit:
        dims[sequence] = Dim(sequence, min=dims[sequence].min, max=limit)
    specs: dict[str, dict[int, Any]] = {name: {} for name in example.tensors}
    for (input_name, axis), name in axes.names.items():
        if name not in dims:
            dims[name] = Dim(name, max=limit) if limit and name == sequence else Dim(name)
        is_automatic = not is_named and name not in axes.dims
        specs[input_name][axis] = Dim.AUTO if is_automatic else dims[name]
    return example.by_parameter(specs)


def _guards(exported: ExportedProgram) -> Iterator[Any]:
    """The conditions on sizes that tracing met, in terms of the sizes that are left."""
    values = (node.meta.get("val") for node in exported.graph.nodes)
    mode = next((value.fake_mode for value in values if hasattr(value, "fake_mode")), None)
    environment: Any = getattr(mode, "shape_env", None)
    for guard in getattr(environment, "guards", ()):
        yield environment.replace(guard.expr)


def _has_mutation_or_parts(exported: ExportedProgram) -> bool:
    """Whether there are in-place ops, or graphs within the graph."""
    for node in exported.graph.nodes:
        schema = getattr(node.target, "_schema", None)
        if node.op == "get_attr" or (schema is not None and schema.is_mutable):
            return True
    return False


@dataclass(frozen=True, slots=True)
class _Slot:
    """Stands for a tensor in a call."""

    name: str


def _input_names(exported: ExportedProgram, example: Example) -> tuple[str | None, ...]:
    args, kwargs = example.call({name: _Slot(name) for name in example.tensors})
    order = exported.call_spec.in_spec.children()[1].context if kwargs else []
    values = [*args, *(kwargs[name] for name in order)]
    return tuple(each.name if isinstance(each, _Slot) else None for each in values)


def _without_fixed(module: torch.nn.Module, example: Example, program: Program) -> Program:
    """Leave out axes that the module fixes; those that were enlarged, or that it takes only from
    some size on, are exported anew.
    """
    shapes, axes = program.input_shapes(), program.axes
    fixed = [(name, axis) for name, axis in axes.names if isinstance(shapes[name][axis], int)]
    narrow = program.narrow_axes()
    rest = axes.without([*fixed, *narrow])
    if not narrow and all(axes.sizes[axis] > 1 for axis in fixed):
        return Program(program.exported, program.input_names, rest, program.guards)
    smaller = attempt(partial(_export, module, example, rest, is_named=False))
    if isinstance(smaller, Refusal):
        raise export_failure(type(module).__name__, smaller.error) from smaller.error
    return smaller


def _check_example(module: torch.nn.Module, example: Example) -> None:
    """Raises InputError where the module does not take the example either."""
    args, kwargs = example.call(example.tensors)
    answer = attempt(lambda: quietly(lambda: module(*args, **kwargs)))
    if isinstance(answer, Refusal):
        error = answer.error
        line = user_line(error)
        reason = f"{type(error).__name__}: {error}{f' ({line})' if line else ''}"
        if example.is_made_up:
            made = (f"{name} {list(each.shape)}" for name, each in example.tensors.items())
            raise InputError(
                f"{type(module).__name__} does not take the inputs that prunus made up for it, as "
                f"none were given ({', '.join(made)}): {reason}. Pass example_inputs that it takes"
            ) from error
        raise InputError(
            f"{type(module).__name__} does not take the example inputs: {reason}"
            f"{mask_note(example.tensors)}"
        ) from error
