"""Whether the answers are right: against the module, or where there is none, the dense plan."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from prunus.bench.difference import largest_difference
from prunus.bench.engines.contract import float_arrays
from prunus.check.cases import Calls
from prunus.check.parity import BAR, Comparison, ParityReport, check_parity
from prunus.model import CompiledModel

LENGTHS = (1, 17, 65)
"""A token, beyond the edge of a vector, and beyond that of a tile."""

BATCHES = (1, 2)


def measure_parity(
    model: CompiledModel, dense: CompiledModel, module: Any, progress: Callable[[str], None]
) -> ParityReport:
    """Compare answers over lengths, batches and masks.

    Args:
        model: The compiled model.
        dense: Its dense plan, which stands in for a module that is not there.
        module: The `torch.nn.Module`, or None.
        progress: Told what is being done.

    Raises:
        InputError: the module is of another model.
    """
    type = model.graph.inputs["input_ids"]
    batches = None if isinstance(type.shape[0], int) else BATCHES
    lengths = None
    if not isinstance(type.shape[-1], int):
        lengths = [n for n in LENGTHS if n <= (model.longest or n)]
    if module is not None:
        return check_parity(model, module, lengths=lengths, batches=batches, progress=progress)
    progress("comparing with the dense plan")
    calls = Calls(model)
    return ParityReport(
        tuple(_compare(calls, case, model, dense) for case in calls.cases(lengths, batches))
    )


def _compare(calls: Calls, case: Any, model: CompiledModel, dense: CompiledModel) -> Comparison:
    inputs = calls.inputs(case)
    found, expected = float_arrays(model(**inputs)), float_arrays(dense(**inputs))
    largest = max((float(np.abs(each).max(initial=0.0)) for each in expected.values()), default=0.0)
    difference = largest_difference(found, expected, inputs)
    return Comparison(case, "all outputs", difference, BAR * max(1.0, largest))
