"""How far two engines' outputs lie apart."""

from __future__ import annotations

import numpy as np

from prunus.bench.engines.contract import Arrays
from prunus.errors import InputError


def largest_difference(outputs: Arrays, reference: Arrays, inputs: Arrays) -> float:
    """The largest absolute difference of any output, NaN where either has one.

    An output of ``[batch, sequence, …]`` is compared only where ``attention_mask`` is 1. Raises
    `InputError` when the outputs differ in name or shape.
    """
    shapes = {name: value.shape for name, value in outputs.items()}
    expected = {name: value.shape for name, value in reference.items()}
    if shapes != expected:
        raise InputError(f"outputs {shapes} cannot be compared with {expected}")
    kept = inputs.get("attention_mask")
    largest = 0.0
    for name, value in outputs.items():
        apart = np.abs(value.astype(np.float64) - reference[name])
        if kept is not None and kept.ndim == 2 and apart.shape[:2] == kept.shape:
            apart = apart[kept != 0]
        if apart.size:
            # np.fmax would hide a NaN, np.maximum keeps it.
            largest = float(np.maximum(largest, apart.max()))
    return largest
