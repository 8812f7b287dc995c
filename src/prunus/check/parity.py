"""Parity: the same calls to prunus and to the module, and how far the answers lie apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from prunus.check.cases import Calls, Case
from prunus.check.engines import (
    Arrays,
    Engine,
    check_alike,
    module_engine,
    output_types,
    prunus_engine,
)
from prunus.check.progress import Bar, Say, silent

if TYPE_CHECKING:
    import torch

    from prunus.model import CompiledModel

BAR = 1e-4
"""The largest difference that counts as the same answer, in float32, for outputs up to 1; for
larger ones it grows with the largest of them."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One call, by the output that came nearest to its bar or went farthest beyond.

    Attributes:
        case: The call.
        output: The name of the output.
        difference: The largest absolute difference where something is compared.
        bar: The largest that is allowed.
    """

    case: Case
    output: str
    difference: float
    bar: float

    @property
    def same(self) -> bool:
        """Whether the answers are the same; they are not where either holds a NaN."""
        return math.isfinite(self.difference) and self.difference <= self.bar

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {
            **asdict(self.case),
            "output": self.output,
            "difference": self.difference,
            "bar": self.bar,
            "same": self.same,
        }


@dataclass(frozen=True, slots=True)
class ParityReport:
    """All calls that were compared."""

    comparisons: tuple[Comparison, ...]

    @property
    def failures(self) -> tuple[Comparison, ...]:
        """The calls whose answers differ."""
        return tuple(each for each in self.comparisons if not each.same)

    @property
    def same(self) -> bool:
        """Whether no answer differs."""
        return not self.failures

    @property
    def worst(self) -> Comparison:
        """The call that came nearest to its bar or went farthest beyond."""
        return max(self.comparisons, key=_excess)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {
            "same": self.same,
            "failures": len(self.failures),
            "worst": self.worst.to_dict(),
            "calls": [each.to_dict() for each in self.comparisons],
        }


def check_parity(
    model: CompiledModel,
    module: torch.nn.Module,
    *,
    lengths: Sequence[int] | None = None,
    batches: Sequence[int] | None = None,
    seed: int = 0,
    progress: Say = silent,
) -> ParityReport:
    """Compare a compiled model with the module that it was made from, on random inputs.

    A text encoder is asked at every length with every mask (see `cases.MASKS`), a vision model with
    batches of random images. Answers at masked tokens are not compared, as the module computes
    something there that means nothing, and prunus may leave it out.

    Args:
        model: The compiled model.
        module: The module; it is not changed.
        lengths: In tokens; those around the edges of a tile up to the model's limit unless given.
        batches: Batch sizes, which take turns; `cases.BATCHES` unless given.
        seed: Of the random numbers.
        progress: Told in a few words what is being done.

    Raises:
        InputError: sizes that cannot be used, inputs that cannot be made up, or a module of another
            model.
    """
    calls = Calls(model, getattr(module, "config", None), seed)
    cases = calls.cases(lengths, batches)
    shared = _axes_shared_with_mask(model)
    ours, theirs = prunus_engine(model), module_engine(module, model)
    compared: list[Comparison] = []
    bar = Bar(progress, "comparing calls")
    for case in cases:
        bar.show(len(compared), len(cases))
        compared.append(_compare(case, calls.inputs(case), ours, theirs, shared))
    return ParityReport(tuple(compared))


def _compare(
    case: Case, inputs: Arrays, ours: Engine, theirs: Engine, shared: dict[str, int]
) -> Comparison:
    found, expected = ours(inputs), theirs(inputs)
    check_alike(found, expected)
    mask = inputs.get("attention_mask")
    apart = []
    for name, value in found.items():
        reference = _visible(expected[name], mask, shared[name]).astype(np.float64)
        difference = np.abs(_visible(value, mask, shared[name]) - reference)
        bar = BAR * max(1.0, _largest(np.abs(reference)))
        apart.append(Comparison(case, name, _largest(difference), bar))
    return max(apart, key=_excess)


def _axes_shared_with_mask(model: CompiledModel) -> dict[str, int]:
    """How many of the mask's axes each output begins with. Sizes would not tell: two tokens may
    meet two labels.
    """
    mask = model.graph.inputs.get("attention_mask")
    axes = () if mask is None else mask.shape
    return {
        name: next(n for n in range(len(axes), -1, -1) if type.shape[:n] == axes[:n])
        for name, type in output_types(model).items()
    }


def _visible(value: NDArray[Any], mask: NDArray[Any] | None, shared: int) -> NDArray[Any]:
    """What the mask keeps: tokens, or rows of which it keeps any token."""
    if mask is None or shared == 0:
        return value
    kept = (mask != 0).reshape(*mask.shape[:shared], -1).any(-1)
    visible: NDArray[Any] = value[kept]
    return visible


def _largest(values: NDArray[Any]) -> float:
    """The largest value, NaN where there is one, 0 for none."""
    return float(values.max()) if values.size else 0.0


def _excess(comparison: Comparison) -> float:
    """How often the difference exceeds its bar; without end where it cannot be told."""
    excess = comparison.difference / comparison.bar
    return math.inf if math.isnan(excess) else excess
