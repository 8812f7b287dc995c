"""Unions of intervals against sets of integers."""

from hypothesis import given
from hypothesis import strategies as st

from prunus.runtime.intervals import Interval, Intervals

INTERVAL = st.tuples(st.integers(0, 30), st.integers(0, 6)).map(lambda pair: (pair[0], sum(pair)))


@given(st.lists(INTERVAL), INTERVAL)
def test_intervals_meet_where_a_byte_is_in_both(added: list[Interval], other: Interval) -> None:
    intervals, covered = Intervals(), set[int]()
    for interval in added:
        intervals.add([interval])
        covered |= set(range(*interval))
    assert intervals.meets([other]) == any(byte in covered for byte in range(*other))
