"""Limits of the processor that are measured in no time, and are worth nothing."""

import pytest

from prunus.kernels import peak


def measure_limits_quickly(patch: pytest.MonkeyPatch, *, rounds: int = 1) -> None:
    """Until the patch is undone, for tests to which the limits' values do not matter."""
    quick = {"ROUNDS": rounds, "TRIAL_ROUNDS": 1, "ROUND_SECONDS": 1e-4, "PAUSE": 0}
    for name, value in {**quick, "REPEATS": 1000}.items():
        patch.setattr(peak, name, value)
