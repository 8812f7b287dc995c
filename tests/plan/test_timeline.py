"""The time of a call is accounted for, all of it: on calls that were made up to the microsecond."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunus.ir import Attrs, Node, TensorType
from prunus.kernels.epilogue import Epilogue
from prunus.kernels.row_stream import RowStream
from prunus.plan.timeline import Call, Spent, placed, spent
from prunus.runtime.program import NativeStep, NumpyStep, Step
from prunus.runtime.trace import Event


def native(name: str, op: str = "linear") -> NativeStep:
    return NativeStep(name, op, RowStream(64, 128, Epilogue()), "row stream", None, 1, {})


def numpy_step(name: str) -> NumpyStep:
    return NumpyStep(Node(name, "cast", ("x",), Attrs(), TensorType("f32", (1,))), "")


STEPS: tuple[Step, ...] = (numpy_step("mask"), native("a"), native("b"), native("b", "unpack"))
MASK, A, B, UNPACK, END = range(5)


Kind = Literal["work", "wait", "numpy"]
Row = tuple[str, Kind, int, int, float, float]


def events(*rows: Row) -> tuple[Event, ...]:
    """Of step, kind, worker, unit, begin and end; in the order in which they begin."""
    return tuple(Event(*row) for row in sorted(rows, key=lambda row: row[4]))


CALL = Call(
    events(
        ("mask", "numpy", 0, -1, 1, 3),
        ("a", "work", 0, 0, 4, 10),
        ("a", "work", 0, 1, 11, 13),  # 1 of claiming
        ("a", "work", 1, 2, 6, 9),  # woke up 2 later
        ("b", "wait", 1, -1, 9, 13),
        ("b", "wait", 0, -1, 13, 13),
        ("b", "work", 0, 0, 14, 20),
        ("b", "work", 1, 1, 13, 15),
        ("b", "wait", 1, -1, 15, 20),
        ("b", "wait", 0, -1, 20, 20),
        ("b", "work", 1, 0, 20, 21),
        ("", "wait", 0, -1, 20, 22),
        ("", "wait", 1, -1, 21, 25),  # it slept, and noted its end late
    ),
    30,
)


def test_a_call_of_two_workers() -> None:
    found = spent(CALL, STEPS, 2)
    expected = {MASK: 2, A: (6 + 2 + 3) / 2, B: (6 + 2) / 2, UNPACK: 1 / 2, END: 0}
    assert list(found.work) == list(expected.values())
    assert list(found.waiting) == [0, 0, 4 / 2, 5 / 2, (2 + 1) / 2]
    assert list(found.gaps) == [0, 1 / 2, 1 / 2, 0, 0]
    # In Python 1 + 1 and then 8, of both; and worker 1 was not awake for 2.
    assert found.outside == 1 + 1 + 8 + 2 / 2


def test_a_wait_that_was_noted_too_late_is_none_the_less_one() -> None:
    seen = tuple(e for e in CALL.events if (e.step, e.worker) != ("", 1))
    found = spent(Call(seen, CALL.seconds), STEPS, 2)
    whole = spent(CALL, STEPS, 2)
    assert list(found.waiting) == list(whole.waiting)
    assert found.outside == whole.outside


def test_of_two_steps_of_one_name_the_second_comes_second() -> None:
    found = [(position, e.kind) for position, _, e in placed(CALL.events, STEPS) if e.step == "b"]
    assert found == [
        *[(B, "wait")] * 2, *[(B, "work")] * 2, *[(UNPACK, "wait")] * 2, (UNPACK, "work"),
    ]  # fmt: skip


def test_a_call_in_parts_starts_anew_with_each() -> None:
    first = [e for e in CALL.events if e.kind != "numpy"]
    later = [Event(e.step, e.kind, e.worker, e.unit, e.begin + 30, e.end + 30) for e in first]
    found = spent(Call((*first, *later), 60), STEPS, 2)
    once = spent(Call(tuple(first), 30), STEPS, 2)
    for part in ("work", "waiting", "gaps"):
        np.testing.assert_allclose(getattr(found, part), 2 * getattr(once, part))
    assert found.outside == 2 * once.outside


def test_a_call_without_native_steps() -> None:
    found = spent(Call(events(("mask", "numpy", 0, -1, 1, 3)), 5), STEPS[:1], 2)
    assert (found.work[0], found.outside) == (2, 3)


class MadeUp(NamedTuple):
    """A call that the workers' clocks were moved through, and where the time went."""

    workers: int
    call: Call
    work: list[float]
    waiting: list[float]
    gaps: list[float]
    outside: float


@st.composite
def made_up_calls(draw: st.DrawFn) -> MadeUp:
    """Workers that wake up, claim, work, meet, and sleep for any times."""
    workers = draw(st.integers(1, 4))
    names = ["a", "b", "c"]
    work, waiting, gaps = ([0.0] * (len(names) + 2) for _ in range(3))
    times = st.integers(0, 50)
    rows: list[Row] = []
    outside = 0.0  # of all workers together, as is everything else

    clock = draw(times)
    spell = draw(st.integers(1, 50))
    rows.append(("mask", "numpy", 0, -1, clock, clock + spell))
    work[0] += spell * workers
    outside += clock * workers
    clock += spell + 1
    outside += workers

    clocks = []
    for _ in range(workers):
        late = draw(times)
        outside += late
        clocks.append(clock + late)
    idle = [True] * workers  # before its first event, a worker is outside

    def pause(worker: int, position: int) -> int:
        """The time between two events of a worker, or of its waking up."""
        nonlocal outside
        between = draw(st.integers(0, 3))
        clocks[worker] += between
        if idle[worker]:
            idle[worker] = False
            outside += between
            return 0
        gaps[position] += between
        return between

    def meet(name: str, position: int) -> list[int]:
        """All come to a barrier; the times that passed in front of it."""
        before = [pause(worker, position) for worker in range(workers)]
        opened = max(clocks)
        for worker, arrived in enumerate(clocks):
            awake = opened + draw(times) * (arrived != opened)
            rows.append((name, "wait", worker, -1, arrived, awake))
            waiting[position] += awake - arrived
            clocks[worker] = awake
        return before

    for position, name in enumerate(names, start=1):
        if draw(st.booleans()):
            meet(name, position)
        for unit in range(draw(st.integers(0, 6))):
            worker = draw(st.integers(0, workers - 1))
            pause(worker, position)
            spell = draw(st.integers(1, 50))
            rows.append((name, "work", worker, unit, clocks[worker], clocks[worker] + spell))
            work[position] += spell
            clocks[worker] += spell
    asleep = list(idle)
    before = meet("", len(names) + 1)
    end = clocks[0]  # when the caller goes on, and what the others do is of no interest
    for worker in range(1, workers):
        waiting[-1] += end - clocks[worker]
        if clocks[worker] > end and not asleep[worker] and draw(st.booleans()):
            # Noted too late to be seen: it seems to have waited since it last worked.
            rows = [row for row in rows if (row[0], row[2]) != ("", worker)]
            gaps[-1] -= before[worker]
            waiting[-1] += before[worker]
    rest = draw(times)
    outside += rest * workers
    return MadeUp(workers, Call(events(*rows), end + rest), work, waiting, gaps, outside)


@given(made_up_calls())
def test_every_moment_is_counted_once_and_in_its_place(made_up: MadeUp) -> None:
    steps = (numpy_step("mask"), native("a"), native("b"), native("c"))
    found = spent(made_up.call, steps, made_up.workers)
    expect(found.work, made_up.work, made_up.workers)
    expect(found.waiting, made_up.waiting, made_up.workers)
    expect(found.gaps, made_up.gaps, made_up.workers)
    assert found.outside == pytest.approx(made_up.outside / made_up.workers)
    assert whole(found) == pytest.approx(made_up.call.seconds)


def expect(found: np.ndarray, seconds: Sequence[float], workers: int) -> None:
    np.testing.assert_allclose(found, np.array(seconds) / workers)


def whole(found: Spent) -> float:
    return float(found.work.sum() + found.waiting.sum() + found.gaps.sum()) + found.outside
