"""Where a call's time goes: each step's time beside what the processor allows, by layer, kernel and
op.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, replace
from typing import Any, Literal

import numpy as np

from prunus.ir import Graph, evaluate
from prunus.kernels.layout import FLOAT, tiles
from prunus.kernels.limits import Limits
from prunus.plan.timeline import Call, spent
from prunus.records import Cell, Records
from prunus.runtime.program import NativeStep, Program, Sizes, Step
from prunus.sparsity import BlockSparse

By = Literal["layer", "kernel", "op"]

NO_LAYER = "outside the layers"
NUMPY = "NumPy"


@dataclass(frozen=True, slots=True)
class Tally:
    """What a step, or several together, took of a call, and what was done in that time.

    Attributes:
        steps: How many.
        seconds: Time at work: that of all workers, divided by their number.
        waiting: Time at the barriers in front, likewise.
        gaps: Time in front that passed with claiming units and noting events, likewise.
        nonzeros: Of the weights.
        flops: Floating-point operations, without those that zeros save.
        weight_bytes: Bytes of weights that were read: a weight is read once for each token tile.
        limit: Seconds below which the processor cannot do it; 0 where no operations are counted.
    """

    steps: int = 0
    seconds: float = 0.0
    waiting: float = 0.0
    gaps: float = 0.0
    nonzeros: int = 0
    flops: int = 0
    weight_bytes: int = 0
    limit: float = 0.0

    def __add__(self, other: Tally) -> Tally:
        return Tally(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    @property
    def flop_rate(self) -> float:
        """Floating-point operations a second."""
        return self._per_second(self.flops)

    @property
    def weight_rate(self) -> float:
        """Bytes of weights a second."""
        return self._per_second(self.weight_bytes)

    @property
    def limit_share(self) -> float:
        """The share that it reached of what the processor allows."""
        return self._per_second(self.limit)

    def _per_second(self, amount: float) -> float:
        return amount / self.seconds if self.seconds else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {
            **asdict(self),
            "flops_per_second": self.flop_rate,
            "weight_bytes_per_second": self.weight_rate,
            "share_of_limit": self.limit_share,
        }


@dataclass(frozen=True, slots=True)
class ProfiledStep:
    """One step of a program.

    Attributes:
        name: Its weight, or the value that it computes.
        layer: The front of the name, up to the number of the layer.
        kernel: Its kernel, or NumPy.
        op: The op of the graph.
        bound: What its limit is set by: FMAs, loads, or "" where there is none.
        tally: What it took, and what it did.
    """

    name: str
    layer: str
    kernel: str
    op: str
    bound: str
    tally: Tally


@dataclass(frozen=True, slots=True)
class Profile(Records):
    """Where the time of a call goes; `str` shows it by kernel, by layer and by op.

    Times are medians over several calls, taken for each part alone.

    Attributes:
        model: Its name.
        simulated: What was simulated, or None for real weights.
        target: The processor that code was made for.
        sizes: Of the inputs, by symbol.
        limits: What the processor was measured to reach with the model's threads.
        calls: How many were traced.
        seconds: The wall time of a call.
        steps: In the order of the program.
        finish: Time that workers waited for the last of them at the end, with the gaps before.
        outside: Time before the workers start, between wake-ups, and after: Python, and waking up.
        typical: The call with the median time.
    """

    model: str
    simulated: str | None
    target: str
    sizes: Mapping[str, int]
    limits: Limits
    calls: int
    seconds: float
    steps: tuple[ProfiledStep, ...]
    finish: float
    outside: float
    typical: Call

    def groups(self, by: By) -> dict[str, Tally]:
        """The steps together that share a layer, a kernel or an op; the longest time first."""
        groups: dict[str, Tally] = {}
        for step in self.steps:
            name = getattr(step, by)
            groups[name] = groups.get(name, Tally()) + step.tally
        return dict(sorted(groups.items(), key=lambda item: -item[1].seconds))

    def parts(self) -> dict[str, float]:
        """The seconds of a call by what they went into; their sum is that of the call.

        "unsteady" is what the medians of the parts leave of the median call: time that comes and
        goes, now here, now there. It can be below zero.
        """
        whole = sum((step.tally for step in self.steps), Tally())
        numpy = sum(step.tally.seconds for step in self.steps if step.kernel == NUMPY)
        parts = {
            "kernels": whole.seconds - numpy,
            "interpreter": numpy,
            "waiting": whole.waiting + self.finish,
            "gaps": whole.gaps,
            "outside": self.outside,
        }
        return {**parts, "unsteady": self.seconds - sum(parts.values())}

    def records(self, by: By | Literal["step"] = "step") -> list[dict[str, Cell]]:
        """A row for each step in the order of the program, or for each group of steps."""
        if by == "step":
            return [{**_names(each), **self._cells(each.tally)} for each in self.steps]
        return [{by: name, **self._cells(each)} for name, each in self.groups(by).items()]

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON: times in seconds."""
        data = {
            "model": self.model,
            "simulated": self.simulated,
            "target": self.target,
            "threads": self.limits.threads,
            "sizes": dict(self.sizes),
            "limits": asdict(self.limits),
            "calls": self.calls,
            "seconds": self.seconds,
            "parts": self.parts(),
            "steps": self.records(),
        }
        ways: tuple[By, ...] = ("layer", "kernel", "op")
        for by in ways:
            data[f"by_{by}"] = {name: self._cells(t) for name, t in self.groups(by).items()}
        return data

    def _cells(self, tally: Tally) -> dict[str, Cell]:
        share = tally.seconds / self.seconds if self.seconds else 0.0
        return {**tally.to_dict(), "share_of_call": share}

    def __str__(self) -> str:
        from prunus.plan.profile_text import profile_text

        return profile_text(self)


def profile_calls(
    program: Program,
    graph: Graph,
    calls: Sequence[Call],
    sizes: Sizes,
    limits: Limits,
    *,
    model: str,
    simulated: str | None,
    target: str,
) -> Profile:
    """The profile of traced calls, at least one, with inputs of these sizes."""
    every = [spent(call, program.steps, limits.threads) for call in calls]
    work, waiting, gaps = (
        np.median(np.stack(rows), axis=0)
        for rows in zip(*((each.work, each.waiting, each.gaps) for each in every), strict=True)
    )
    steps = []
    for step, *times in zip(program.steps, work[:-1], waiting[:-1], gaps[:-1], strict=True):
        seconds, waited, between = map(float, times)
        counted = _counted(program, graph, step, sizes, limits)
        taken = Tally(seconds=seconds, waiting=waited, gaps=between)
        steps.append(replace(counted, tally=counted.tally + taken))
    by_time = sorted(calls, key=lambda call: call.seconds)
    return Profile(
        model,
        simulated,
        target,
        sizes,
        limits,
        len(calls),
        float(np.median([call.seconds for call in calls])),
        tuple(steps),
        float(waiting[-1] + gaps[-1]),
        float(np.median([each.outside for each in every])),
        by_time[len(calls) // 2],
    )


def _names(step: ProfiledStep) -> dict[str, Cell]:
    return {"name": step.name, "layer": step.layer, "kernel": step.kernel, "op": step.op,
            "bound": step.bound}  # fmt: skip


def _counted(
    program: Program, graph: Graph, step: Step, sizes: Sizes, limits: Limits
) -> ProfiledStep:
    """One step with all that is known of it before it runs."""
    if not isinstance(step, NativeStep):
        name = step.node.name
        return ProfiledStep(name, layer_of(name), NUMPY, step.node.op, "", Tally(steps=1))
    sizes = program.without_padding(sizes)
    flops = step.work.flops(sizes)
    # An FMA is two operations of each lane; what it loads is a float for each lane.
    loaded = flops / 2 * FLOAT * step.kernel.loads_per_fma
    bounds = {"FMAs": flops / limits.fma, "loads": loaded / limits.loads["L1"]}
    bound = max(bounds, key=lambda each: bounds[each]) if flops else ""
    passes = 1 if step.tokens is None else tiles(evaluate(step.tokens, sizes))
    tally = Tally(
        steps=1,
        nonzeros=_nonzeros(graph, step),
        flops=flops,
        weight_bytes=passes * step.work.bytes,
        limit=bounds.get(bound, 0.0),
    )
    name = step.weight or step.name
    return ProfiledStep(name, layer_of(name), step.label, step.op, bound, tally)


def _nonzeros(graph: Graph, step: NativeStep) -> int:
    """Of the weight that the step is about, if any."""
    if step.weight is None:
        return 0
    value = graph.constants[step.weight].value
    return value.nnz if isinstance(value, BlockSparse) else int(np.count_nonzero(value))


def layer_of(name: str) -> str:
    """The front of a name up to its first number: `encoder.layer.3` of `encoder.layer.3.output`."""
    found = re.match(r"(?:[^.]+\.)*?\d+(?=\.)", name)
    return found.group() if found else NO_LAYER
