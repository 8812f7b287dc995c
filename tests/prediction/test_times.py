"""What is measured once and remembered, also of a run that was interrupted or disturbed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from types import SimpleNamespace

import pytest

from prunus import cache
from prunus.plan import make_options
from prunus.prediction import times as module
from prunus.prediction.probe import make_gauge
from prunus.prediction.times import DISTURBED, Job, Times

OPTIONS = make_options(threads=1)
NAMES = ("a", "b", "c")


class Machine:
    """One on which work takes as long as is said, and longer at some moments."""

    def __init__(self, slow: Iterator[float] | None = None) -> None:
        self.measured: list[str] = []
        self.told: list[str] = []
        self._slow = itertools.repeat(1.0) if slow is None else slow
        self.now = 1.0

    def jobs(self) -> list[Job]:
        """Of 1, 2 and 3 s."""
        return [Job(name, f"layer {name}", self._job(name)) for name in NAMES]

    def take(self, times: Times) -> int:
        return times.take(self.jobs(), lambda: self._gauge, lambda *of: self.told.append(of[2]))

    def _job(self, name: str) -> Callable[[], float]:
        def measure() -> float:
            self.measured.append(name)
            self.now = next(self._slow)
            return (NAMES.index(name) + 1) * self.now

        return measure

    def _gauge(self) -> float:
        return 0.01 * self.now


def test_each_is_measured_once_and_remembered_by_the_next_process() -> None:
    machine, times = Machine(), Times(OPTIONS)
    assert machine.take(times) == 0
    assert [times[name] for name in NAMES] == [1, 2, 3]
    assert machine.take(Times(OPTIONS)) == 0
    assert machine.measured == ["a", "b", "c"]
    assert machine.told == ["timing layer a", "timing layer b", "timing layer c"]
    machine.take(Times(OPTIONS, anew=True))
    assert machine.measured == ["a", "b", "c"] * 2
    assert "a" not in Times(make_options(threads=2))


def test_nothing_is_prepared_where_all_is_known() -> None:
    Machine().take(Times(OPTIONS))

    def gauge() -> Callable[[], float]:
        raise AssertionError("a gauge was made")

    assert Times(OPTIONS).take(Machine().jobs(), gauge, lambda *_: None) == 0


def test_an_interrupted_run_keeps_what_it_measured() -> None:
    def interrupted() -> Iterator[float]:
        yield from (1.0, 1.0)
        raise KeyboardInterrupt

    machine = Machine(interrupted())
    with pytest.raises(KeyboardInterrupt):
        machine.take(Times(OPTIONS))
    machine = Machine()
    machine.take(Times(OPTIONS))
    assert machine.measured == ["c"]


def test_an_interrupted_run_scales_what_was_disturbed() -> None:
    def interrupted() -> Iterator[float]:
        yield from (1.0, 4.0)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Machine(interrupted()).take(Times(OPTIONS))
    assert [name in Times(OPTIONS) for name in NAMES] == [True, True, False]
    machine = Machine()
    machine.take(Times(OPTIONS))
    assert machine.measured == ["c", "b"], "first what is not known at all"


def test_what_was_disturbed_is_measured_again() -> None:
    machine = Machine(iter((1.0, 5.0, 1.0, 1.0, 1.0)))
    times = Times(OPTIONS)
    assert machine.take(times) == 0
    assert machine.measured == ["a", "b", "c", "b", "c"], "the gauge was slow before c and after b"
    assert [times[name] for name in NAMES] == [1, 2, 3]
    assert machine.told[3] == "timing again, as it was disturbed: layer b"
    assert all(name in Times(OPTIONS) for name in NAMES)


def test_what_is_disturbed_twice_is_scaled_until_it_is_measured_again() -> None:
    machine = Machine(itertools.chain([1.0], itertools.repeat(4.0)))
    times = Times(OPTIONS)
    assert machine.take(times) == 2
    # b's second time has a slow gauge on both sides, so it is scaled to what it takes when quiet.
    assert [times[name] for name in NAMES] == [1, 2, 3]
    remembered = Times(OPTIONS)
    assert [remembered[name] for name in NAMES] == [1, 2, 3]
    machine = Machine()
    assert machine.take(remembered) == 0
    assert machine.measured == ["b", "c"]
    machine = Machine()
    assert machine.take(Times(OPTIONS)) == 0
    assert not machine.measured


def test_what_is_scaled_is_forgotten_on_the_next_day(monkeypatch: pytest.MonkeyPatch) -> None:
    tomorrow = date.today() + timedelta(1)
    Machine(itertools.chain([1.0], itertools.repeat(4.0))).take(Times(OPTIONS))
    monkeypatch.setattr(module, "date", SimpleNamespace(today=lambda: tomorrow))
    assert [name in Times(OPTIONS) for name in NAMES] == [True, False, False]


def test_measuring_again_does_not_take_long() -> None:
    now = itertools.count()  # every look at the clock takes a second
    machine = Machine(itertools.chain([1.0], itertools.repeat(4.0)))
    times = Times(OPTIONS, clock=lambda: float(next(now)))
    assert machine.take(times) == 2
    assert machine.measured == ["a", "b", "c", "b"], "there was no time for c"
    machine = Machine()
    assert machine.take(Times(OPTIONS, clock=lambda: 4.0 * next(now))) == 2
    assert not machine.measured, "what is scaled does for now"


def test_a_machine_that_was_busy_from_the_start_is_found_out_later() -> None:
    machine = Machine(itertools.chain([3.0], itertools.repeat(1.0)))
    machine.now = 3.0
    assert machine.take(Times(OPTIONS)) == 0
    assert machine.measured == ["a", "b", "c", "a", "b"]


def test_what_was_written_before_the_machine_was_faster_is_taken_back() -> None:
    machine = Machine(iter([2.0, 1.0, 1.0, 2.0, 2.0]))
    machine.now = 2.0
    times = Times(OPTIONS)
    assert machine.take(times) == 2
    assert machine.measured == ["a", "b", "c", "a", "b"]
    assert [times[name] for name in NAMES] == [pytest.approx(4 / 3), 2, 3]
    machine = Machine()
    assert machine.take(Times(OPTIONS)) == 0
    assert machine.measured == ["a", "b"]


def test_a_machine_that_is_busy_all_the_time_is_found_out_by_what_it_was_today() -> None:
    Machine().take(Times(OPTIONS))
    busy = Machine(itertools.repeat(3.0))
    busy.now = 3.0
    times = Times(OPTIONS)
    jobs = [Job("d", "layer d", busy._job("c"))]
    assert times.take(jobs, lambda: busy._gauge, lambda *_: None) == 1
    assert times["d"] == pytest.approx(3.0), "scaled by the gauge"
    assert Times(OPTIONS).take(jobs, lambda: busy._gauge, lambda *_: None) == 1


def test_what_is_measured_as_a_whole_is_repeated_until_it_is_quiet() -> None:
    times = Times(OPTIONS)
    assert times.undisturbed(lambda: ("quiet", 1.0)) == ("quiet", 1.0)

    def tries(*readings: float) -> tuple[str, float]:
        left = iter(readings)
        answer = times.undisturbed(lambda: (f"{(reading := next(left))}", reading))
        assert next(left, None) is None, "it was measured as often as that"
        return answer

    assert tries(3.0, 1.1) == ("1.1", 1.0)
    assert tries(4.0, 2.0, 3.0) == ("2.0", 2.0)
    assert tries(0.5) == ("0.5", 1.0)
    result, slowed = tries(1.1, 0.9, 0.7)
    assert (result, slowed) == ("0.7", 0.7 / 0.5), "it was faster than that"


def test_another_process_loses_nothing() -> None:
    one, two = Times(OPTIONS), Times(OPTIONS)
    Machine().take(one)
    two.take([Job("d", "layer d", lambda: 4.0)], lambda: lambda: 0.01, lambda *_: None)
    assert [Times(OPTIONS)[name] for name in (*NAMES, "d")] == [1, 2, 3, 4]


@pytest.mark.parametrize("content", [b"[1]", b'{"a": "long"}', b'{"a": -1}', b'{"a": Infinity}'])
def test_what_is_no_memory_of_times_is_made_anew(content: bytes) -> None:
    times = Times(OPTIONS)
    cache.write(module.KIND, times._key, content)
    assert "a" not in Times(OPTIONS)


def test_a_damaged_memory_is_made_anew_and_said() -> None:
    Machine().take(Times(OPTIONS))
    folder = cache.cache_folder()
    assert folder is not None
    (entry,) = (folder / module.KIND).iterdir()
    entry.write_bytes(entry.read_bytes()[:-5])
    cache._said.discard("damaged")
    with pytest.warns(cache.CacheWarning, match="is damaged, so it is made again"):
        times = Times(OPTIONS)
    machine = Machine()
    machine.take(times)
    assert machine.measured == list(NAMES)


def test_a_real_gauge_takes_some_time() -> None:
    assert 0 < make_gauge(OPTIONS)() < 1
    assert DISTURBED > 1
