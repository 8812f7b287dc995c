"""An nn.Module → Graph and Signature."""

from __future__ import annotations

import dataclasses
import warnings
from collections import OrderedDict, defaultdict, namedtuple
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from prunus.errors import InputError, UnsupportedError
from prunus.frontend import weights
from prunus.frontend.compare import check_doubtful, without_idle_limits
from prunus.frontend.defaults import Conventions, find_conventions
from prunus.frontend.dynamic_axes import dynamic_axes
from prunus.frontend.examples import Example, read_example
from prunus.frontend.exclusive import exclusively, restoring
from prunus.frontend.feed_forward import in_one_chunk
from prunus.frontend.inputs import Input
from prunus.frontend.program import (
    SEQUENCE,
    Program,
    export_program,
    position_limit,
    without_dumps,
)
from prunus.frontend.snapshot import WatchedTensor
from prunus.frontend.structure import MAX_NESTING, Plain, Signature, Structure
from prunus.frontend.translate import translate
from prunus.ir import Graph

if TYPE_CHECKING:
    import torch

Result = TypeVar("Result")


@dataclass(frozen=True)
class Imported:
    """A module as a graph, and how it is called.

    Attributes:
        graph: Its constants share memory with the module, where they can.
        signature: How the module is called and answers.
        weights: The tensors whose memory the constants may share.
    """

    graph: Graph
    signature: Signature
    weights: tuple[WatchedTensor, ...] = ()


def import_module(
    module: torch.nn.Module, example_inputs: Any = None, *, dynamic_shapes: Any = None
) -> Imported:
    """The graph of a module as it is in eval mode, for all sizes of its inputs.

    The module is left as it was; the graph shares its weights.

    Args:
        module: A module on the CPU.
        example_inputs: By argument name, or positional, of any sizes. Numbers, texts and booleans
            among them are fixed. May be left out for text encoders of transformers.
        dynamic_shapes: As in `torch.export`; of inputs that it does not mention every dimension
            is dynamic, but the last of a float input that is no attention mask.

    Raises:
        InputError: the module does not take the example, or is not on the CPU.
        UnsupportedError: torch is not installed; the module cannot be exported, or has an op
            without a translation.
    """

    def work(module: torch.nn.Module, example: Example, program: Program) -> Imported:
        answer = output_structure(program)
        graph, watched = translated(translate, module, example, program)
        check_doubtful(module, example, program, graph)
        graph = without_idle_limits(module, example, program, graph)
        conventions = find_conventions(module, example, program.axes)
        signature = Signature(
            tuple(_inputs(graph, conventions)),
            answer,
            example.positional,
            example.fixed,
            conventions.ignored,
        )
        return Imported(graph, signature, watched)

    return with_program(module, example_inputs, dynamic_shapes, work)


def with_program(
    module: torch.nn.Module,
    example_inputs: Any,
    dynamic_shapes: Any,
    work: Callable[[torch.nn.Module, Example, Program], Result],
) -> Result:
    """What `work` makes of the module itself, its example inputs and its program.

    Meanwhile the module is in eval mode, and no other thread imports. The other arguments are those
    of `import_module`.

    Raises:
        InputError: the module does not take the example, or is not on the CPU.
        UnsupportedError: torch is not installed; the module cannot be exported.
    """
    weights.require_torch()
    import torch

    module = getattr(module, "_orig_mod", module)  # of what torch.compile wraps
    _check_module(module)

    def run() -> Result:
        example = read_example(module, example_inputs)
        axes = dynamic_axes(example, dynamic_shapes)

        def export() -> Result:
            with torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch's own, about its own future
                return work(module, example, export_program(module, example, axes))

        return _prepared(module, example, lambda: in_one_chunk(module, export))

    return exclusively(run)


def _check_module(module: Any) -> None:
    import torch

    if not isinstance(module, torch.nn.Module) or isinstance(module, torch.jit.ScriptModule):
        raise InputError(
            f"a {type(module).__name__} cannot be compiled; expected an eager torch.nn.Module"
        )
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if tensor.device.type != "cpu":
            raise InputError(f"{name} is on {tensor.device}; move the module to the CPU first")


def _prepared(module: torch.nn.Module, example: Example, work: Callable[[], Result]) -> Result:
    """The result of `work` with the module in eval mode and bound to its options; afterwards it is
    as it was, whatever happens, and so is what torch changes for the whole process.

    Flags are set directly, as `eval()` may do more in a subclass. What torch.export swaps meanwhile
    is restored too, as an interrupt may end its own way back.
    """
    import torch

    has_gradients = torch.is_grad_enabled()
    modes = {each: each.training for each in module.modules()}
    parts = (vars(each).get(name) for each in modes for name in ("_parameters", "_buffers"))
    tensors = [(part, dict(part)) for part in parts if isinstance(part, dict)]
    methods = {name: vars(torch.nn.Module)[name] for name in ("__call__", "__getattr__")}
    own = {name: value for name, value in vars(module).items() if name == "forward"}

    def restore() -> None:
        for each, mode in modes.items():
            each.training = mode
        for part, value in tensors:
            part.update(value)
        for name, method in methods.items():
            if vars(torch.nn.Module)[name] is not method:
                setattr(torch.nn.Module, name, method)
        vars(module).pop("forward", None)
        vars(module).update(own)
        torch.set_grad_enabled(has_gradients)

    def prepare_and_work() -> Result:
        for each in modes:
            each.training = False
        vars(module)["forward"] = without_dumps(partial(module.forward, **example.options))
        return work()

    return restoring(prepare_and_work, restore)


def translated(
    translation: Callable[..., Result], module: torch.nn.Module, example: Example, program: Program
) -> Result:
    """What a translation, such as `translate`, makes of the program of a module."""
    sizes, limits = program.size_names(), program.limits()
    limit, sequence = position_limit(module, example), program.axes.names.get(SEQUENCE)
    if limit is not None and sequence is not None and sequence in sizes.values():
        limits[sequence] = min(limit, limits.get(sequence, limit))
    names: dict[int, str] = {}
    for name, tensor in (
        *module.named_parameters(remove_duplicate=False),
        *module.named_buffers(remove_duplicate=False),
    ):
        names.setdefault(id(tensor), name)
    return translation(
        program.exported,
        input_names=program.input_names,
        size_names=sizes,
        weight_names=names,
        limits=limits,
    )


def _inputs(graph: Graph, conventions: Conventions) -> Iterator[Input]:
    """The inputs, with what they are where they are left out."""
    ids = graph.inputs.get("input_ids")
    for name, type in graph.inputs.items():
        may_be_left_out = ids is not None and type.shape == ids.shape
        default = conventions.defaults.get(name) if may_be_left_out else None
        yield Input(name, type.dtype, default)


def output_structure(program: Program) -> Structure:
    """The structure of what the module returns.

    Raises:
        UnsupportedError: it returns what prunus cannot return, or writes to its inputs or buffers.
    """
    specs = program.exported.graph_signature.output_specs
    leaves = iter([_leaf(spec.arg) for spec in specs if spec.kind.name == "USER_OUTPUT"])
    if unknown := [spec for spec in specs if spec.kind.name != "USER_OUTPUT"]:
        raise UnsupportedError(
            f"the module writes to {unknown[0].target or 'its inputs'} when it is called; prunus "
            "keeps no state between calls, so return the new value instead"
        )
    spec = program.exported.call_spec.out_spec
    if _is_deep(spec):
        raise UnsupportedError(
            f"the module returns a value nested deeper than {MAX_NESTING} levels; prunus returns "
            "up to that many levels of tuples, lists, dicts and records: return a flatter one"
        )
    return _structure(spec, leaves)


def _is_deep(spec: Any) -> bool:
    """Whether a tree of torch's pytree has more than `MAX_NESTING` levels of containers."""
    level = [spec]
    for _ in range(MAX_NESTING):
        level = [child for each in level if not each.is_leaf() for child in each.children()]
        if not level:
            return False
    return any(not each.is_leaf() for each in level)


def _leaf(argument: Any) -> Structure:
    kind = type(argument).__name__
    if kind == "TensorArgument":
        return Structure("tensor")
    value: Plain = getattr(argument, "value", None)
    if kind != "ConstantArgument" or type(value) not in (str, int, float, bool, type(None)):
        raise UnsupportedError(
            f"the module returns {getattr(argument, 'name', value)!r}, a {kind}; prunus returns "
            "tensors, and numbers that are always the same"
        )
    return Structure("plain", value=value)


def _structure(spec: Any, leaves: Iterator[Structure]) -> Structure:
    """A tree of torch's pytree as a structure."""
    if spec.is_leaf():
        return next(leaves)
    kind, context = spec.type, spec.context
    parts = tuple(_structure(child, leaves) for child in spec.children())
    if kind in (tuple, list):
        return Structure("tuple" if kind is tuple else "list", parts=parts)
    if kind in (dict, OrderedDict, defaultdict):
        names = tuple(context[1] if kind is defaultdict else context)
        if odd := [key for key in names if type(key) not in (str, int)]:
            raise UnsupportedError(f"the module returns a dict with the key {odd[0]!r}; use texts")
        return Structure("dict", names, parts)
    if kind is namedtuple:
        return _record(context, context._fields, parts)
    keys: Any = context
    if dataclasses.is_dataclass(kind) and len(context) == 2 and isinstance(context[0], list):
        # A dataclass that torch knows: the names of its parts, and of those that are None.
        keys = [*context[0], *context[1]]
        parts = (*parts, *(Structure("plain") for _ in context[1]))
    return _record(kind, keys, parts)


def _record(kind: type, keys: Any, parts: tuple[Structure, ...]) -> Structure:
    has_names = isinstance(keys, list | tuple) and all(isinstance(key, str) for key in keys)
    if not has_names or len(keys) != len(parts):
        raise UnsupportedError(
            f"the module returns a {kind.__module__}.{kind.__qualname__}; prunus returns tensors "
            "in tuples, lists, dicts, dataclasses and outputs of transformers"
        )
    origin = f"{kind.__module__}:{kind.__qualname__}"
    return Structure("record", tuple(keys), parts, origin, record_class=kind)
