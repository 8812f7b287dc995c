"""Memory of activations: placement by lifetime, alignment, growth."""

import time

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from prunus.kernels.layout import FLOAT, LINE, padded
from prunus.runtime.arena import (
    GUARD,
    Arena,
    Life,
    Placement,
    aligned_words,
    buffer_bytes,
    lifetimes,
    place,
)
from prunus.runtime.program import Buffer
from tests.native.decisions import Decisions, compiled
from tests.native.encoder import encoder

Spans = dict[str, tuple[int, int]]


def lives(spans: Spans) -> dict[str, Life]:
    """Lifetimes of buffers none of which may follow another by tile."""
    return {name: Life(span, span, name) for name, span in spans.items()}


@st.composite
def buffers(draw: st.DrawFn) -> tuple[dict[str, int], Spans]:
    """Sizes and lifetimes of some buffers."""
    names = [f"b{i}" for i in range(draw(st.integers(0, 12)))]
    sizes = {name: 64 * draw(st.integers(1, 6)) for name in names}
    spans: Spans = {}
    for name in names:
        begin = draw(st.integers(0, 8))
        spans[name] = (begin, begin + draw(st.integers(0, 5)))
    return sizes, spans


def overlap(a: tuple[int, int], b: tuple[int, int]) -> bool:
    """Whether two closed intervals meet."""
    return a[0] <= b[1] and b[0] <= a[1]


@given(buffers())
def test_buffers_that_live_together_never_share_memory(
    drawn: tuple[dict[str, int], Spans],
) -> None:
    sizes, spans = drawn
    offsets, whole = place(sizes, lives(spans))
    assert offsets.keys() == sizes.keys()
    for a in sizes:
        assert 0 <= offsets[a] <= offsets[a] + sizes[a] <= whole
        assert offsets[a] % LINE == 0
        for b in sizes:
            if a < b and overlap(spans[a], spans[b]):
                first, second = sorted((a, b), key=lambda n: offsets[n])
                assert offsets[first] + sizes[first] <= offsets[second]


@given(buffers())
def test_placement_wastes_no_more_than_no_sharing_would(
    drawn: tuple[dict[str, int], Spans],
) -> None:
    sizes, spans = drawn
    _, whole = place(sizes, lives(spans))
    steps = range(20)
    alive = (sum(sizes[n] for n, (b, e) in spans.items() if b <= step <= e) for step in steps)
    assert max(alive) <= whole <= sum(sizes.values())


def test_a_chain_of_steps_needs_two_buffers() -> None:
    sizes = {str(i): 64 for i in range(10)}
    assert place(sizes, lives({str(i): (i, i + 1) for i in range(10)}))[1] == 128


def test_in_a_chain_only_buffers_of_one_shape_follow_each_other() -> None:
    sizes = {"a": 64, "b": 64, "c": 64, "d": 64}
    chain = (0, 0)
    spans = {"a": (0, 1), "b": (1, 2), "c": (2, 3), "d": (2, 3)}
    shapes = {"a": 1, "b": 1, "c": 1, "d": 2}
    offsets, whole = place(sizes, {n: Life(spans[n], chain, shapes[n]) for n in sizes})
    assert offsets["a"] == offsets["c"]
    assert len(set(offsets.values())) == 3
    assert whole == 3 * 64


def test_buffers_of_thousands_of_live_values_are_placed_soon() -> None:
    # All live twice at once in one chain, in places that others have taken since: each of the last
    # has every one of the first as a candidate, none of which is free.
    count, chain = 700, (0, 0)
    phases = [((0, 1), "A"), ((2, 5), "B"), ((4, 5), "A")]
    made = {f"{p}{i}": Life(steps, chain, shape) for p, (steps, shape) in enumerate(phases)
            for i in range(count)}  # fmt: skip
    sizes = dict.fromkeys(made, 64)
    begin = time.monotonic()
    offsets, whole = place(sizes, made)
    assert time.monotonic() - begin < 5
    assert whole == 64 * 2 * count
    assert {offsets[f"2{i}"] for i in range(count)} == {offsets[f"0{i}"] for i in range(count)}


@given(
    st.lists(
        st.tuples(
            st.integers(0, 8), st.integers(0, 4), st.integers(0, 1), st.integers(1, 3)
        ),
        max_size=14,
    )
)  # fmt: skip
def test_buffers_in_one_chain_share_a_place_wholly_or_not_at_all(
    drawn: list[tuple[int, int, int, int]],
) -> None:
    made = {f"b{i}": Life((a, a + n), (c, c), size) for i, (a, n, c, size) in enumerate(drawn)}
    sizes = {f"b{i}": 64 * each[-1] for i, each in enumerate(drawn)}
    offsets, _ = place(sizes, made)
    for a, one in made.items():
        for b, other in made.items():
            apart = offsets[a] + sizes[a] <= offsets[b] or offsets[b] + sizes[b] <= offsets[a]
            if a < b and not apart and one.chains == other.chains:
                assert offsets[a] == offsets[b]
                assert one.shape == other.shape
                assert not overlap(one.steps, other.steps)


def test_a_buffer_holds_its_tiles_and_what_a_copy_may_read_behind_them() -> None:
    for tokens in (1, 16, 17, 64, 65, 1000):
        size = buffer_bytes(Buffer("b", 7, tokens), tokens)
        assert size % LINE == 0
        assert size >= 7 * padded(tokens) * FLOAT + GUARD


def test_the_memory_of_an_encoder_does_not_grow_with_its_layers() -> None:
    sizes = []
    for layers in (2, 6):
        program = compiled(encoder(layers=layers), Decisions()).program
        tokens = dict.fromkeys(program.buffers, 64)
        assert lifetimes(program, chained=True).keys() == program.buffers.keys()
        sizes.append([Placement(program, tokens, chained=c).nbytes for c in (False, True)])
    assert sizes[0] == sizes[1]


def test_an_arena_grows_to_the_largest_request_and_stays() -> None:
    arena = Arena()
    first = arena.reserve(1000)
    assert first % LINE == 0
    assert (arena.generation, arena.reserve(500), arena.reserve(1000)) == (1, first, first)
    assert arena.reserve(5000) % LINE == 0
    assert arena.generation == 2
    assert 5000 <= arena.nbytes <= 5000 + LINE
    assert arena.reserve(100) % LINE == 0
    assert arena.generation == 2


@given(st.integers(0, 100))
def test_aligned_words(count: int) -> None:
    words = aligned_words(count)
    assert len(words) == count
    assert words.dtype == np.int64
    assert words.ctypes.data % LINE == 0 or count == 0
    assert not words.any()
