"""A module in parts: graphs for what prunus can compute, PyTorch for the operators between them.

torch.export makes one program of the module, without in-place operators, so operators may be moved
as long as each comes after those that it reads. Every operator is translated; what fails is noted,
and translation goes on with an input in the place of its result. So one look finds all operators to
leave out, also those that fail because of an argument. PyTorch's own partitioner then groups the
others into the fewest parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch
from torch.fx import GraphModule
from torch.fx import Node as TorchNode
from torch.fx.passes.infra.partitioner import CapabilityBasedPartitioner, Partition
from torch.fx.passes.operator_support import OperatorSupportBase
from torch.utils._pytree import tree_leaves

from prunus.errors import UnsupportedError, UnsupportedOperatorError
from prunus.frontend.call import Value
from prunus.frontend.examples import Example
from prunus.frontend.exclusive import exclusively, restoring
from prunus.frontend.export import Imported, output_structure, translated, with_program
from prunus.frontend.inputs import Input
from prunus.frontend.program import Program
from prunus.frontend.structure import Signature, Structure
from prunus.frontend.translate import Importer, Opaque, Sizes, is_check, where
from prunus.frontend.trials import Refusal, attempt
from prunus.ir import symbol

Result = TypeVar("Result")

VALUE = "prunus_value"
"""Under what a node's value of the graph is kept in its `meta`, which copies of a node share."""

HEAVY = frozenset({"linear", "matmul", "attention"})
"""A part has one of these at least: they are what kernels and pruning make faster. Before it
computes anything (checks, the way into tiles, waking workers), a part costs as much as 50 small
operators of PyTorch: a ReLU of 16 numbers takes 150 µs as a part, and 2.7 µs in PyTorch."""


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A part of a program as a graph that is called by position and answers with a tuple.

    Attributes:
        imported: What it computes, its inputs and outputs, and the weights that it may share.
        outputs: Which of the graph's outputs each of its results is; an integer where it returns
            a tensor and no tuple.
        orders: Of each result, the axes from the outermost in memory to the innermost; None where
            that is their own order.
        may_pack: Whether padding may be left out: only where nothing else reads values of tokens.
    """

    imported: Imported
    outputs: tuple[int, ...] | int
    orders: tuple[tuple[int, ...] | None, ...]
    may_pack: bool


@dataclass(frozen=True, slots=True, eq=False)
class Partitioned:
    """A module in parts.

    Attributes:
        program: Takes `weights` and the inputs; each part is a submodule that PyTorch runs, until a
            compiled one takes its place.
        weights: What the program reads of the module.
        structure: The structure of the answer, as torch's pytree has it.
        parts: By the name of the submodule.
        refused: Why operators are left to PyTorch, by their names.
        probes: Inputs for which the program may compute something else than the module, with what
            the module computes.
    """

    program: GraphModule
    weights: tuple[Any, ...]
    structure: Any
    parts: Mapping[str, Part]
    refused: Mapping[str, UnsupportedError]
    probes: tuple[tuple[list[torch.Tensor], list[torch.Tensor]], ...]


def partition_module(
    module: torch.nn.Module, example_inputs: Sequence[torch.Tensor], *, dynamic_shapes: Any = None
) -> Partitioned:
    """The parts of a module that is called with tensors alone, by position.

    Raises:
        UnsupportedOperatorError: no operator is left out, or none is left that is worth a part.
        UnsupportedError: it cannot be exported.
    """

    def work(module: torch.nn.Module, example: Example, program: Program) -> Partitioned:
        output_structure(program)
        _check_storages(program)
        survey = translated(_Survey, module, example, program)
        names: dict[str, UnsupportedError] = {}
        for node, error in survey.refused.items():
            names.setdefault(str(node.target), error)
        parts = _Parts(survey, program).make() if names else {}
        if not parts:
            raise next(iter(survey.refused.values()), UnsupportedOperatorError("no operator fails"))
        exported = program.exported
        return Partitioned(
            exported.graph_module,
            tuple(survey.known_tensors()),
            exported.call_spec.out_spec,
            parts,
            names,
            tuple(_probes(module, example, program)),
        )

    return with_program(module, example_inputs, dynamic_shapes, work)


def _probes(
    module: torch.nn.Module, example: Example, program: Program
) -> Iterator[tuple[list[torch.Tensor], list[torch.Tensor]]]:
    for sizes in program.doubtful_sizes():
        inputs = list(program.axes.resize(example.tensors, sizes).values())
        call = partial(module, *inputs)
        answer = attempt(partial(with_same_random_numbers, call))
        if isinstance(answer, Refusal):
            continue  # what the module does not take cannot be compared
        yield inputs, [leaf for leaf in tree_leaves(answer) if isinstance(leaf, torch.Tensor)]


def with_same_random_numbers(work: Callable[[], Result]) -> Result:
    """The result of `work`, which gets equal random numbers each time, as for a dropout on both
    sides; the user's own sequence is not advanced.
    """
    generator = torch.default_generator  # of the CPU; torch.manual_seed would seed all devices

    def run() -> Result:
        before = generator.get_state()

        def seed_and_work() -> Result:
            generator.manual_seed(0)
            return work()

        return restoring(seed_and_work, lambda: generator.set_state(before))

    return exclusively(run)


class _Survey:
    """The values of all nodes of a program, and the operators that have no translation.

    It takes the arguments of `translate`.
    """

    def __init__(
        self,
        program: Any,
        *,
        input_names: Sequence[str | None],
        size_names: Mapping[str, str],
        weight_names: Mapping[int, str],
        limits: Mapping[str, int],
    ) -> None:
        self.importer = Importer(program, input_names, Sizes(size_names), weight_names)
        self.limits = limits
        self.refused: dict[TorchNode, UnsupportedError] = {}
        self.ops: dict[TorchNode, list[str]] = {}
        for node, spec in self.importer.weights:
            try:
                self.importer.env[node] = self.importer.weight(node, spec)
            except UnsupportedOperatorError as error:
                self.importer.env[node] = Opaque(str(error))
        for node in program.graph.nodes:
            if node.op == "call_function":
                self._visit(node)

    def known_tensors(self) -> Iterator[Any]:
        """The weights, in the program's order."""
        for node, _ in self.importer.weights:
            yield self.importer.known[node]

    def _visit(self, node: TorchNode) -> None:
        importer = self.importer
        before = len(importer.writer.ops_since(0))
        try:
            importer.visit(node)
        except UnsupportedError as error:
            self._refuse(node, error)
        if unknown := _unknown_result(node, importer.env.get(node)):
            self._refuse(node, UnsupportedOperatorError(f"{unknown} has no translation"))
        self.ops[node] = importer.writer.ops_since(before)

    def _refuse(self, node: TorchNode, error: UnsupportedError) -> None:
        """Go on with inputs in the place of the results of a node."""
        self.refused[node] = error
        result: Any = node.meta.get("val")
        self.importer.env[node] = (
            [self._stand_in(node, each) for each in result]
            if isinstance(result, list | tuple)
            else self._stand_in(node, result)
        )

    def _stand_in(self, node: TorchNode, result: Any) -> Value | Opaque:
        try:
            return self.importer.writer.input(node.name, self.importer.sizes.type(result))
        except (UnsupportedError, AttributeError):  # another dtype, or no tensor
            return Opaque(f"the result of {where(node)}")


def _unknown_result(node: TorchNode, value: Any) -> str:
    """A result of several that another node reads and that the translation leaves out."""
    for user in node.users:
        if isinstance(value, list) and _is_item(user) and user.users:
            found = value[user.args[1]]  # type: ignore[index]
            if isinstance(found, Opaque):
                return found.meaning
    return ""


def _is_item(node: TorchNode) -> bool:
    return _op_name(node) == "getitem"


class _Support(OperatorSupportBase):
    """What may be in a part: operators with a translation whose results are tensors."""

    def __init__(self, survey: _Survey) -> None:
        self._refused = survey.refused

    def is_node_supported(self, submodules: Mapping[str, torch.nn.Module], node: TorchNode) -> bool:
        if node.op != "call_function" or node in self._refused:
            return False
        if _is_item(node) and node.args[0] in self._refused:
            return False
        result = node.meta.get("val")
        results = result if isinstance(result, list | tuple) else [result]
        return all(isinstance(each, torch.Tensor) for each in results)


class _Parts:
    """Makes submodules of a program of what can be translated, and their graphs."""

    def __init__(self, survey: _Survey, program: Program) -> None:
        self.survey, self.writer = survey, survey.importer.writer
        self.module = program.exported.graph_module
        self.names = set(program.size_names().values())

    def make(self) -> dict[str, Part]:
        """The parts by name; the program calls each with the inputs of its graph alone."""
        graph = self.module.graph
        for node in graph.nodes:
            node.meta[VALUE] = self.survey.importer.env.get(node)
        for node in reversed(graph.nodes):
            if is_check(node):  # it would make what it looks at a result of a part
                graph.erase_node(node)
        partitioner = CapabilityBasedPartitioner(
            self.module, _Support(self.survey), allows_single_node_partition=True
        )
        heavy = [each for each in partitioner.propose_partitions() if self._is_heavy(each)]
        graph = partitioner.fuse_partitions(heavy, prefix="part_").graph
        parts = {
            str(node.target): self._part(node)
            for node in graph.nodes
            if node.op == "call_module" and str(node.target).startswith("part_")
        }
        graph.lint()
        self.module.recompile()
        return parts

    def _is_heavy(self, partition: Partition) -> bool:
        return any(HEAVY & set(self.survey.ops.get(node, ())) for node in partition.nodes)

    def _part(self, node: TorchNode) -> Part:
        submodule: Any = getattr(self.module, str(node.target))
        inputs = self._inputs(node, submodule)
        node.args = tuple(inputs.values())
        answer = submodule.graph.output_node().args[0]
        results = answer if isinstance(answer, tuple) else (answer,)
        values = [each.meta[VALUE] for each in results]
        outputs = list({value.name: value for value in values}.values())
        graph = self.writer.part(list(inputs), outputs, self.survey.limits)
        signature = Signature(
            tuple(Input(name, type.dtype) for name, type in graph.inputs.items()),
            Structure("tuple", parts=(Structure("tensor"),) * len(outputs)),
            tuple(graph.inputs),
        )
        places = [graph.outputs.index(value.name) for value in values]
        return Part(
            Imported(graph, signature, tuple(self.survey.importer.watched)),
            tuple(places) if isinstance(answer, tuple) else places[0],
            tuple(_axis_order(each.meta["val"]) for each in results),
            not any(
                len(value.type.symbols()) > 1 and _is_read_by_others(node, i, len(values))
                for i, value in enumerate(values)
            ),
        )

    def _inputs(self, node: TorchNode, submodule: GraphModule) -> dict[Value, TorchNode]:
        """The inputs of a part's graph, with the nodes that compute them.

        Of sizes the graph only has symbols, so an input of the whole program is added for each that
        is not an axis of another input. Those that tell a size come first.
        """
        placeholders = submodule.graph.find_nodes(op="placeholder")
        found: dict[Value, TorchNode] = {}
        for placeholder, argument in zip(placeholders, node.args, strict=True):
            value = placeholder.meta[VALUE]
            if isinstance(value, Value) and not self.writer.is_constant(value):
                found.setdefault(value, argument)  # type: ignore[arg-type]
        for each in self.module.graph.find_nodes(op="placeholder"):
            value = each.meta[VALUE]
            told = set().union(*map(_told_sizes, found))
            if isinstance(value, Value) and _told_sizes(value) & self.names - told:
                found.setdefault(value, each)
        return dict(sorted(found.items(), key=lambda each: not _told_sizes(each[0])))


def _check_storages(program: Program) -> None:
    """Refuse operators that may read what lies around a view in memory, where a part has nothing.

    Raises:
        UnsupportedError: there is one.
    """
    for node in program.exported.graph_module.graph.nodes:
        if not _op_name(node).startswith("as_strided"):
            continue
        view = node.args[0].meta["val"]
        if _hint(view.numel()) * view.element_size() != _hint(view.untyped_storage().nbytes()):
            raise UnsupportedError(
                f"{where(node)} may read memory outside of the view that it is given: index the "
                "tensor that is viewed, or call .contiguous() first"
            )


def _op_name(node: TorchNode) -> str:
    return str(getattr(node.target, "__name__", ""))


def _axis_order(traced: torch.Tensor) -> tuple[int, ...] | None:
    """The axes of a traced tensor from the outermost in memory to the innermost; None where that
    is their own order.
    """
    strides = [_hint(each) for each in traced.stride()]
    outer = [i for i, size in enumerate(traced.shape) if _hint(size) == 1 or strides[i] == 0]
    rest = [i for i in range(traced.ndim) if i not in outer]
    inner = sorted(rest, key=lambda i: -strides[i])
    if inner == rest:
        return None
    return (*outer, *inner)


def _hint(number: Any) -> int:
    return int(number.node.hint) if isinstance(number, torch.SymInt) else int(number)


def _told_sizes(value: Value) -> set[str]:
    """The symbols that are axes of a value, and not only a part of an axis."""
    return {name for name in value.type.symbols() if symbol(name) in value.shape}


def _is_read_by_others(node: TorchNode, index: int, count: int) -> bool:
    """Whether a result of a part goes to anything but the answer of the program."""
    readers = list(node.users)
    if not all(_is_item(each) for each in readers) or (count == 1 and readers[0].op == "output"):
        return any(each.op != "output" for each in readers)
    items = [each for each in readers if each.args[1] == index]
    return any(user.op != "output" for item in items for user in item.users)
