"""What a call takes besides its linear layers: attention, normalisations, waiting, Python."""

from __future__ import annotations

import hashlib
import statistics
from collections.abc import Collection
from functools import partial

from prunus.bench import calls_within, turn_of
from prunus.bench.engines.contract import Arrays
from prunus.ir import Graph
from prunus.model import CompiledModel

FEWEST_CALLS, MOST_CALLS = 4, 12
SECONDS = 1.0
"""Time to spend on calls without a trace, within so many, and again on as many traced ones."""


def rest_of(model: CompiledModel, inputs: Arrays, layers: Collection[str]) -> float:
    """Seconds of a call outside these layers: their share is taken from traced calls, the whole
    from calls without a trace.

    Asked of a sparse model: beside what dense layers take, the rest would drown in their noise.
    """
    turn = turn_of(partial(model, **inputs))
    _, second = turn(2)  # the first binds
    calls = calls_within(SECONDS, second, FEWEST_CALLS, MOST_CALLS)
    whole = statistics.median(turn(calls))
    profile = model.profile(inputs, calls)
    within = sum(step.tally.seconds for step in profile.steps if step.name in layers)
    return whole * max(1 - within / profile.seconds, 0.0)


def structure(graph: Graph) -> str:
    """A digest of everything that decides the rest: the graph without its weights' values."""
    lines = [f"{name}: {type}" for name, type in graph.types().items()]
    lines += [f"{node.name} {node.op} {node.inputs} {node.attrs}" for node in graph.nodes]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
