"""ExportedProgram → Graph: sizes, weights, and each ATen op through the table of translations."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from prunus.errors import GraphError, InputError, UnsupportedError, UnsupportedOperatorError
from prunus.frontend import (  # noqa: F401 - they enter the translations
    aten,
    aten_activations,
    aten_conv,
    aten_norms,
    aten_shapes,
)
from prunus.frontend.call import TRANSLATIONS, Call, Dim, Value, Writer
from prunus.frontend.failures import user_line_of_trace
from prunus.frontend.snapshot import WatchedTensor
from prunus.ir import Graph, TensorType, symbol
from prunus.ir.dims import floor_div, product

if TYPE_CHECKING:
    import torch
    from torch.export import ExportedProgram
    from torch.fx import Node as TorchNode

IRRELEVANT = frozenset(
    {"device", "layout", "pin_memory", "memory_format", "non_blocking", "copy", "implicit",
     "generator", "requires_grad", "cudnn_enable", "padding_idx", "scale_grad_by_freq", "sparse",
     "sparse_grad", "half_to_float"}
)  # fmt: skip
"""Arguments that cannot change a result on a CPU, or only a gradient."""

CHECKS = re.compile(r"_?assert_|_functional_assert|sym_constrain|_?_?check")
"""Names of ops that compute nothing."""

PROBES = (3, 5, 7, 11, 13, 17, 19, 23)
"""Sizes by which two expressions are compared that are written in different ways."""


@dataclass(frozen=True, slots=True)
class Opaque:
    """A value of the program that the graph cannot have, with what it is."""

    meaning: str


class Sizes:
    """torch's symbolic sizes as dimensions.

    Args:
        names: What torch's symbols are called here.
    """

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = names

    def dim(self, size: Any) -> Dim:
        """A dimension for an int, or for a SymInt of torch.

        Raises:
            UnsupportedError: it depends on values, or on functions that prunus does not know.
        """
        return size if isinstance(size, int) else self._expression(size.node.expr)

    def type(self, tensor: Any) -> TensorType:
        """The type of a tensor; 16-bit floats are computed in 32 bits."""
        return TensorType(_dtype(tensor.dtype), tuple(self.dim(size) for size in tensor.shape))

    def _expression(self, expression: Any) -> Dim:
        kind = type(expression).__name__
        if expression.is_Integer:
            return int(expression)
        if expression.is_Symbol:
            if str(expression) not in self._names:
                raise UnsupportedError(
                    f"the size {expression} depends on the values of a tensor; prunus needs sizes "
                    "that follow from those of the inputs"
                )
            return symbol(self._names[str(expression)])
        if expression.is_Rational:
            raise UnsupportedError(f"the size {expression} is no integer")
        if kind == "Mul" and (divisor := int(expression.as_coeff_Mul()[0].q)) != 1:
            return floor_div(self._expression(expression * divisor), divisor)
        arguments = [self._expression(each) for each in expression.args]
        match kind:
            case "Add":
                return sum(arguments[1:], arguments[0])
            case "Mul":
                return product(arguments)
            case "Pow" if isinstance(arguments[1], int) and arguments[1] > 0:
                return product(arguments[:1] * arguments[1])
            case "FloorDiv" | "CleanDiv":
                return floor_div(arguments[0], arguments[1])
            case "Mod" | "PythonMod":
                first, second = arguments
                return first - second * floor_div(first, second)
        raise UnsupportedError(
            f"the size {expression} has no translation. The model can be compiled for one length: "
            "load it with transformers and fix the length, as in prunus.compile(module, inputs, "
            "dynamic_shapes={'input_ids': {0: torch.export.Dim('batch')}})"
        )


def translate(
    program: ExportedProgram,
    *,
    input_names: Sequence[str | None],
    size_names: Mapping[str, str],
    weight_names: Mapping[int, str],
    limits: Mapping[str, int],
) -> tuple[Graph, tuple[WatchedTensor, ...]]:
    """The graph of an exported program without in-place ops, and the tensors whose memory its
    constants may share.

    Args:
        program: From `torch.export`.
        input_names: Of the program's user inputs in order; None for what is no tensor.
        size_names: What torch's symbols are called in the graph.
        weight_names: Names of parameters and buffers by their identity, for those that the program
            calls otherwise (tied weights have several names).
        limits: The graph's limits.

    Raises:
        UnsupportedOperatorError: an op has no translation; it is named with its module and line. Or
            a weight is of no dtype that prunus knows.
        UnsupportedError: an input or an output that prunus cannot have.
    """
    return Importer(program, input_names, Sizes(size_names), weight_names).run(limits)


class _DependsOnInputsError(Exception):
    """A value is not made of weights alone."""


class Importer:
    """Writes the graph of a program; for the arguments see `translate`."""

    def __init__(
        self,
        program: ExportedProgram,
        input_names: Sequence[str | None],
        sizes: Sizes,
        weight_names: Mapping[int, str],
    ) -> None:
        self.program, self.sizes, self.weight_names = program, sizes, weight_names
        self.env: dict[TorchNode, Any] = {}
        placeholders = [node for node in program.graph.nodes if node.op == "placeholder"]
        specs = program.graph_signature.input_specs
        self.weights = []
        self.known: dict[TorchNode, Any] = {}
        self.watched: list[WatchedTensor] = []
        inputs: dict[str, TensorType] = {}
        names = iter(input_names)
        for node, spec in zip(placeholders, specs, strict=True):
            if spec.kind.name != "USER_INPUT":
                self.weights.append((node, spec))
            elif (name := next(names)) is not None:
                inputs[name] = sizes.type(node.meta["val"])
                self.env[node] = Value(name, inputs[name])
        self.writer = Writer(inputs, (*weight_names.values(), *program.constants))

    def run(self, limits: Mapping[str, int]) -> tuple[Graph, tuple[WatchedTensor, ...]]:
        """The graph of the whole program, and the tensors that were read."""
        for node, spec in self.weights:
            if node.users:
                self.env[node] = self.weight(node, spec)
        for node in self.program.graph.nodes:
            if node.op == "call_function":
                self.visit(node)
        return self.writer.graph(list(self._outputs()), limits), tuple(self.watched)

    def _outputs(self) -> Iterator[Value]:
        (output,) = next(n for n in self.program.graph.nodes if n.op == "output").args
        for node, spec in zip(output, self.program.graph_signature.output_specs, strict=True):
            if type(spec.arg).__name__ == "TensorArgument":
                yield self._known(self.env[node])

    def weight(self, node: TorchNode, spec: Any) -> Value:
        """The constant for a parameter, a buffer or a tensor that the program holds."""
        program, target = self.program, spec.target
        held = program.state_dict if target in program.state_dict else program.constants
        tensor = held.get(target)
        if spec.kind.name not in ("PARAMETER", "BUFFER", "CONSTANT_TENSOR") or tensor is None:
            raise UnsupportedError(
                f"the module uses {target!r}, a {spec.kind.name.lower().replace('_', ' ')}; prunus "
                "knows parameters, buffers and tensors"
            )
        self.known[node] = tensor
        name = self.weight_names.get(id(tensor), target)
        try:
            return self._constant(name, name, tensor)
        except UnsupportedError as error:
            raise UnsupportedOperatorError(str(error)) from error

    def _constant(self, name: str, source: str, tensor: torch.Tensor) -> Value:
        """A constant with the values of a tensor, which is watched: the two may share memory."""
        value = self.writer.constant(name, lambda: _array(source, tensor))
        self.watched.append(WatchedTensor.of(source, tensor))
        return value

    def visit(self, node: TorchNode) -> None:
        """Write what a node computes.

        Raises:
            UnsupportedOperatorError: it has no translation.
        """
        if is_check(node):
            return
        try:
            self.env[node] = self._value(node)
        except (UnsupportedError, GraphError) as error:
            raise UnsupportedOperatorError(f"{where(node)}: {error}") from error

    def _value(self, node: TorchNode) -> Any:
        """A value of the graph, a list of them, a dimension, a number, or something opaque."""
        result = node.meta.get("val")
        kind = type(result).__name__
        if kind in ("SymInt", "int"):
            return self.sizes.dim(result)
        if kind in ("SymFloat", "SymBool"):
            return Opaque("a number that depends on sizes or values")
        if kind in ("float", "bool"):
            return result
        if getattr(node.target, "__name__", "") == "getitem":
            source, index = node.args
            return self.env[source][index]  # type: ignore[index]
        return self._translate(node)

    def _translate(self, node: TorchNode) -> Any:
        """The value of an op of ATen, or the list of its values."""
        result = node.meta.get("val")
        tensors = list(result) if isinstance(result, list | tuple) else [result]
        translation = TRANSLATIONS.get(_op_name(node))
        if translation is None and (computed := self._computed(node)) is not None:
            return computed
        if translation is None or any(not hasattr(tensor, "dtype") for tensor in tensors):
            raise UnsupportedError(
                "this op has no translation. Write it with other ops of torch, or report it with "
                "the model"
            )
        types = tuple(self.sizes.type(tensor) for tensor in tensors)
        call = Call(self.writer, _path(node), types, lambda: _common_dtype(node))
        value = translation(call, **self._arguments(node, translation))
        values = value if isinstance(value, list) else [value]
        for got, wanted in zip(values, types, strict=True):
            if got is not None and not _agree(got.type, wanted):
                raise GraphError(f"the translation gives {got.type}, but torch {wanted}")
        # Positions of largest values are among the results, and rarely read.
        known = [
            Opaque(f"result {i} of {where(node)}") if v is None else v for i, v in enumerate(values)
        ]
        return known if isinstance(value, list) else value

    def _computed(self, node: TorchNode) -> Any:
        """Constants for what depends on weights alone: torch computes it, once; None for the rest.

        So a table of relative positions may be made in any way.
        """
        try:
            found = self._torch_value(node)
        except _DependsOnInputsError:
            return None
        tensors = found if isinstance(found, list | tuple) else [found]
        values = [
            self._constant(f"{node.name}.{i}", node.name, tensor)
            for i, tensor in enumerate(tensors)
        ]
        return values if isinstance(found, list | tuple) else values[0]

    def _torch_value(self, node: TorchNode) -> Any:
        """What torch makes of a node whose operands are weights, and what is made of these."""
        import torch
        from torch.utils._pytree import tree_leaves

        if node not in self.known:
            if node.op != "call_function" or torch.Tag.nondeterministic_seeded in getattr(
                node.target, "tags", ()
            ):
                raise _DependsOnInputsError
            args, kwargs = torch.fx.map_arg((node.args, node.kwargs), self._torch_value)
            if any(isinstance(each, torch.SymInt) for each in tree_leaves((args, kwargs))):
                raise _DependsOnInputsError
            self.known[node] = node.target(*args, **kwargs)  # type: ignore[operator]
        return self.known[node]

    def _arguments(self, node: TorchNode, translation: Callable[..., Any]) -> dict[str, Any]:
        """All arguments of the schema by name, without those that cannot change the result."""
        target: Any = node.target
        given = dict(zip((a.name for a in target._schema.arguments), node.args, strict=False))
        given.update(node.kwargs)
        known = inspect.signature(translation).parameters
        arguments = {}
        for argument in target._schema.arguments:
            value = given.get(argument.name, argument.default_value)
            name = "x" if argument.name in ("self", "input") else argument.name
            if name in known:
                arguments[name] = self._argument(value)
            elif name not in IRRELEVANT and value != argument.default_value:
                raise UnsupportedError(f"its option {name}={value} has no translation")
        return arguments

    def _argument(self, value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [self._argument(each) for each in value]
        if type(value).__name__ == "SymInt":
            return self.sizes.dim(value)
        return self._known(self.env[value]) if type(value).__name__ == "Node" else value

    @staticmethod
    def _known(value: Any) -> Any:
        if isinstance(value, Opaque):
            raise UnsupportedError(f"it needs {value.meaning}, which has no translation")
        return value


def is_check(node: TorchNode) -> bool:
    """Whether a node computes nothing, but asserts something."""
    return bool(CHECKS.match(_op_name(node)))


def _array(name: str, tensor: torch.Tensor) -> np.ndarray:
    """A weight's values, shared with torch where the dtype allows; not to be written to."""
    import torch

    _dtype(tensor.dtype, name)
    if tensor.dtype in (torch.float16, torch.bfloat16):
        tensor = tensor.float()
    try:
        view: np.ndarray = tensor.detach().contiguous().numpy().view()
    except (RuntimeError, TypeError) as error:
        raise UnsupportedError(
            f"the weight {name} is a {type(tensor).__name__} and cannot be read as an array "
            f"({error}); make it a dense tensor first"
        ) from error
    view.flags.writeable = False
    return view


def _dtype(dtype: torch.dtype, what: str = "it") -> str:
    name = str(dtype).removeprefix("torch.")
    known = {
        "float32": "f32", "float16": "f32", "bfloat16": "f32", "float64": "f64", "int32": "i32",
        "int64": "i64", "uint8": "u8", "bool": "bool",
    }  # fmt: skip
    if name not in known:
        raise UnsupportedError(f"{what} is {name}; prunus knows {', '.join(known)}")
    return known[name]


def _common_dtype(node: TorchNode) -> str:
    """What torch promotes the first two arguments of an op to."""
    import torch

    operands: list[Any] = [
        argument.meta["val"] if isinstance(argument, torch.fx.Node) else argument
        for argument in node.args[:2]
    ]
    plain = [1 if isinstance(operand, torch.SymInt) else operand for operand in operands]
    return _dtype(torch.result_type(*plain))


def _agree(got: TensorType, wanted: TensorType) -> bool:
    """Whether two types are one, though their sizes may be written differently."""
    if got == wanted or got.dtype != wanted.dtype or got.rank != wanted.rank:
        return got == wanted
    names = sorted(got.symbols() | wanted.symbols())
    for shift in range(len(PROBES)):
        sizes = {name: PROBES[(i + shift) % len(PROBES)] for i, name in enumerate(names)}
        try:
            if got.sizes(sizes) != wanted.sizes(sizes):
                return False
        except InputError:
            return False
    return True


def _op_name(node: TorchNode) -> str:
    """`add` for `aten.add.Tensor`, nothing for what is no op of ATen."""
    schema = getattr(node.target, "_schema", None)
    namespace, _, name = schema.name.partition("::") if schema is not None else ("", "", "")
    return name if namespace == "aten" else ""


def _path(node: TorchNode) -> str:
    """The module that calls the op, `encoder.layer.0`."""
    stack = node.meta.get("nn_module_stack") or {}
    paths = [path for path, _ in stack.values() if not path.startswith("_")]
    return re.sub(r"@\d+", "", paths[-1]) if paths else ""


def where(node: TorchNode) -> str:
    """The op, its module and the user's line, for messages."""
    stack = node.meta.get("nn_module_stack") or {}
    kinds = [str(kind).rpartition(".")[2] for path, kind in stack.values() if path == _path(node)]
    module = f" in {_path(node) or 'the module'}" + (f" ({kinds[-1]})" if kinds else "")
    line = user_line_of_trace(node.meta.get("stack_trace") or "")
    return f"{node.target}{module}" + (f", {line}" if line else "")
