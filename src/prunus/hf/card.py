"""The card of a compiled model on the hub: what it is, its zeros, and what they buy."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from prunus import __version__
from prunus.kernels.processor import processor_name

if TYPE_CHECKING:
    from prunus.hf.models import PrunusModel
    from prunus.model import CompiledModel
    from prunus.plan.explain import Explanation
    from prunus.sparsity.measure import Pattern

SHAPES = ((1, 32), (1, 128), (8, 128))
"""Sequences and tokens of each, at which a card says the time."""

REPEAT, NUMBER = 5, 3


@dataclass(frozen=True, slots=True)
class Timing:
    """The times of one shape of inputs, in seconds: medians of means."""

    batch: int
    tokens: int
    sparse: float
    dense: float

    def row(self) -> str:
        """As a row of the card's table."""
        times = f"{1e3 * self.sparse:.2f} ms | {1e3 * self.dense:.2f} ms"
        return f"| {self.batch} × {self.tokens} | {times} | {self.dense / self.sparse:.1f}× |"


def measure(
    compiled: CompiledModel, shapes: Sequence[tuple[int, int]] = SHAPES
) -> tuple[Timing, ...]:
    """Time a text model with random ids, skipping zeros and with dense kernels only; shapes beyond
    its limit are left out, and so is a model that takes no ids.
    """
    if compiled.vocabulary is None:
        return ()
    dense = compiled.recompile(sparse=False)
    longest, random = compiled.longest, np.random.default_rng(0)
    timings = []
    for batch, tokens in shapes:
        if longest is None or tokens <= longest:
            ids = random.integers(0, compiled.vocabulary, (batch, tokens))
            seconds = [
                model.benchmark({"input_ids": ids}, repeat=REPEAT, number=NUMBER).median
                for model in (compiled, dense)
            ]
            timings.append(Timing(batch, tokens, *seconds))
    return tuple(timings)


def model_card(model: PrunusModel, repo_id: str, timings: Sequence[Timing]) -> str:
    """The text of README.md, with the fields that the hub reads at its top.

    Args:
        model: The model.
        repo_id: Where it will lie, `owner/name`.
        timings: What was measured; without any, the card has no table of times.
    """
    explanation = model.compiled.explain()
    sections = [
        _front(model),
        f"# {repo_id.rpartition('/')[2]}\n\n{_opening(model)}",
        f"## Use\n\n```python\n{_program(model, repo_id)}\n```",
        f"## Zeros\n\n{_zeros(model.compiled, explanation)}",
    ]
    if timings:
        sections.append(f"## Speed\n\n{_speed(explanation, timings)}")
    return "\n\n".join(sections) + "\n"


def _front(model: PrunusModel) -> str:
    from huggingface_hub import ModelCardData

    data = ModelCardData(
        base_model=_hub_name(model.compiled.source.name),
        library_name="prunus",
        pipeline_tag=model.task.name,
        tags=["prunus", "pruned", "sparse", str(model.config.model_type)],
    )
    return f"---\n{data.to_yaml()}\n---"


def _hub_name(source: str) -> str | None:
    """The model on the hub that this one was made from, if it was one."""
    return source if source.count("/") == 1 and not Path(source).exists() else None


def _opening(model: PrunusModel) -> str:
    source, simulated = model.compiled.source.name, model.compiled.simulated
    text = (
        f"A {model.config.model_type} model for {model.task.name}, compiled from {_shown(source)} "
        "by prunus, which runs pruned transformers on processors as fast as their zeros allow."
    )
    return f"{text}\n\n**Simulated, not a trained model:** {simulated}." if simulated else text


def _shown(source: str) -> str:
    return f"`{source if _hub_name(source) else Path(source).name}`"


def _program(model: PrunusModel, repo_id: str) -> str:
    name = type(model).__name__
    return (
        f"from prunus.hf import {name}\n\n"
        f'model = {name}.from_pretrained("{repo_id}")\n'
        "answer = model(**inputs)  # as the model of transformers"
    )


def _zeros(compiled: CompiledModel, explanation: Explanation) -> str:
    """The density, and the patterns that were measured in the linear layers."""
    graph = compiled.graph
    groups: dict[str, list[Pattern]] = defaultdict(list)
    for step in compiled.program.native_steps:
        pattern = graph.constants[step.weight].pattern if step.weight is not None else None
        if pattern is not None:
            groups[_kind(pattern)].append(pattern)
    return "\n".join(
        [
            f"Density: {100 * (1 - explanation.linear_zeros):.1f} % of the weights of the linear "
            f"layers are not zero, {100 * (1 - explanation.model_zeros):.1f} % of all weights with "
            "the embeddings.",
            "",
            "| pattern | linear layers | zeros |",
            "|---|---|---|",
            *(
                f"| {kind} | {len(group)} | {100 * _share_of_zeros(group):.1f} % |"
                for kind, group in groups.items()
            ),
        ]
    )


def _kind(pattern: Pattern) -> str:
    if pattern.block is not None:
        return f"{pattern.block[0]}×{pattern.block[1]} blocks"
    if pattern.kind == "n:m" and pattern.n_of_m is not None:
        return f"{pattern.n_of_m[0]}:{pattern.n_of_m[1]}"
    return pattern.kind


def _share_of_zeros(patterns: Sequence[Pattern]) -> float:
    sizes = [rows * columns for rows, columns in (each.shape for each in patterns)]
    return float(np.average([each.zeros for each in patterns], weights=sizes))


def _speed(explanation: Explanation, timings: Sequence[Timing]) -> str:
    threads = f"{explanation.threads} thread{'s' * (explanation.threads != 1)}"
    return "\n".join(
        [
            f"Measured on {processor_name()}, {explanation.target}, with {threads} by prunus "
            f"{__version__}, which once skips the zeros and once computes them.",
            "",
            "| batch × tokens | zeros skipped | dense kernels | ratio |",
            "|---|---|---|---|",
            *(timing.row() for timing in timings),
        ]
    )
