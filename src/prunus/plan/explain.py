"""A program as a list of decisions: what runs where, with which kernel, and why."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

from prunus.ir import Graph
from prunus.passes import HeadReport, head_report
from prunus.runtime.packing import PackingRule
from prunus.runtime.program import NativeStep, Program


@dataclass(frozen=True, slots=True)
class Decision:
    """One step, or one weight, of an explanation.

    Attributes:
        name: The value or weight.
        op: The op.
        shape: [outputs, inputs] of the weight, if there is one.
        zeros: The share of zeros of the weight.
        pattern: What was measured of them, as a sentence.
        kernel: The chosen kernel.
        reason: Why, as a sentence.
        work: Its share of all floating-point operations that are left, at batch 1 and 128 tokens.
        skipped: The share of its own operations that its zeros save.
        bytes: Bytes of weights that a pass reads.
        byte_share: Its share of all such bytes.
    """

    name: str
    op: str
    shape: tuple[int, ...] | None
    zeros: float | None
    pattern: str | None
    kernel: str
    reason: str
    work: float
    skipped: float
    bytes: int
    byte_share: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """Every decision of a compiled model; `str` and a notebook show it as a table.

    Attributes:
        model: Its name.
        simulated: What was simulated, or None for real weights.
        target: The processor that code was made for.
        threads: Workers.
        layers: The steps with weights.
        others: The native steps without.
        prologue: Steps on NumPy that prepare the inputs (masks, positions) before the first kernel.
        interpreted: Steps on NumPy among the native ones, for want of a kernel.
        views: Steps on NumPy that only reshape or cut a result.
        heads: The empty heads of every attention.
        padding: Whether padding is left out, and why, as a sentence.
        linear_zeros: Share of zeros of all linear weights.
        model_zeros: Share of zeros of all the model's floating-point weights, embeddings included.
    """

    model: str
    simulated: str | None
    target: str
    threads: int
    layers: tuple[Decision, ...]
    others: tuple[Decision, ...]
    prologue: tuple[Decision, ...]
    interpreted: tuple[Decision, ...]
    views: tuple[Decision, ...]
    heads: tuple[HeadReport, ...]
    padding: str
    linear_zeros: float
    model_zeros: float

    def to_dict(self) -> dict[str, object]:
        """Plain data, for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        from prunus.plan.explain_text import explanation_text

        return explanation_text(self)

    def _repr_html_(self) -> str:
        from prunus.plan.explain_html import explanation_html

        return explanation_html(self)


def explain(
    program: Program, graph: Graph, *, model: str, simulated: str | None, target: str, threads: int
) -> Explanation:
    """The explanation of a program for a graph."""
    native = program.native_steps
    sizes = program.without_padding(_usual_sizes(graph))
    flops = program.flops(sizes) or 1
    size = sum(step.work.bytes for step in native) or 1

    def decide(step: NativeStep) -> Decision:
        constant = graph.constants[step.weight] if step.weight is not None else None
        pattern = constant.pattern if constant is not None else None
        return Decision(
            step.weight or step.name,
            step.op,
            constant.type.sizes({}) if constant is not None else None,
            pattern.zeros if pattern is not None else None,
            pattern.describe() if pattern is not None else None,
            step.label,
            step.reason,
            step.work.flops(sizes) / flops,
            1 - step.work.per_unit / (step.work.dense_per_unit or 1),
            step.work.bytes,
            step.work.bytes / size,
        )

    linear, whole = zeros(program, graph)
    prologue, among, views = _interpreted(program)
    return Explanation(
        model,
        simulated,
        target,
        threads,
        tuple(decide(step) for step in native if step.weight is not None),
        tuple(decide(step) for step in native if step.weight is None),
        prologue,
        among,
        views,
        head_report(graph),
        _padding(program.packing),
        linear,
        whole,
    )


def _padding(packing: PackingRule | str) -> str:
    if isinstance(packing, str):
        return f"computed: {packing}"
    if packing.mask is None:
        return "none: no mask says what would be padding"
    return "left out wherever a call's mask is real tokens and then padding"


def _usual_sizes(graph: Graph) -> dict[str, int]:
    """Batch 1 and 128 tokens, or the model's limit."""
    symbols = {name for type in graph.inputs.values() for name in type.symbols()}
    limits = graph.limits
    return {s: 1 if s == "batch" else min(128, limits.get(s, 128)) for s in symbols}


def _interpreted(
    program: Program,
) -> tuple[tuple[Decision, ...], tuple[Decision, ...], tuple[Decision, ...]]:
    """The steps on NumPy: those before the first kernel, those among the kernels, and views."""
    prologue: list[Decision] = []
    among: list[Decision] = []
    views: list[Decision] = []
    native = {step.name for step in program.native_steps if step.op != "pack"}
    for step in program.numpy_steps:
        node = step.node
        group = among
        if not native & set(node.inputs):
            group = prologue
        else:
            native.add(node.name)
        if step.is_view:
            group = views
        group.append(
            Decision(node.name, node.op, None, None, None, "NumPy", step.reason, 0.0, 0.0, 0, 0.0)
        )
    return tuple(prologue), tuple(among), tuple(views)


def zeros(program: Program, graph: Graph) -> tuple[float, float]:
    """The shares of zeros in linear weights, and in all floating-point constants, with what was
    taken out of the model for having no effect.
    """
    names = {step.weight for step in program.native_steps if step.weight is not None}
    return _share(graph, names), _share(graph, graph.constants)


def _share(graph: Graph, names: Iterable[str]) -> float:
    total, nonzero = graph.removed, 0.0
    for name in names:
        constant = graph.constants[name]
        if not constant.type.is_float:
            continue
        size = 1
        for dim in constant.type.sizes({}):
            size *= dim
        zeros = constant.pattern.zeros if constant.pattern is not None else 0.0
        total, nonzero = total + size, nonzero + size * (1 - zeros)
    return 1 - nonzero / total if total else 0.0
