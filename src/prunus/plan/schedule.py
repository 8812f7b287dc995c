"""The order of steps: NumPy's as early as they can run, so that native ones form few long
segments.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from prunus.runtime.program import NativeStep, NumpyStep, Step


def schedule(steps: Sequence[Step], available: Iterable[str]) -> tuple[Step, ...]:
    """`steps` reordered; the native ones keep their order among themselves.

    `available` names the plain values that are there from the start.
    """
    ready = set(available)
    native = [step for step in steps if isinstance(step, NativeStep)]
    numpy = [step for step in steps if isinstance(step, NumpyStep)]
    ordered: list[Step] = []
    while native or numpy:
        before = len(ordered)
        waiting = []
        for step in numpy:  # in one sweep: they come in an order in which they can run
            if _operands(step) <= ready:
                ready.add(step.node.name)
                ordered.append(step)
            else:
                waiting.append(step)
        numpy = waiting
        while native and native[0].reads_plain() <= ready:
            ready |= native[0].makes_plain()
            ordered.append(native.pop(0))
        assert len(ordered) > before, "the steps come in an order in which they can run"
    return tuple(ordered)


def _operands(step: NumpyStep) -> set[str]:
    return {name for name in step.node.inputs if name is not None}
