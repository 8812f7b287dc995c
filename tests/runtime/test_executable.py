"""Bound programs: memory that is shared in time, arrays that are not, and inputs of every kind."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunus.errors import InputError
from prunus.ir import Graph, bind_sizes, evaluate, interpret
from prunus.passes import run_passes
from prunus.runtime.arena import Placement
from prunus.runtime.chains import ALONE, HEAD, LINK, find_chains, find_order
from prunus.runtime.executable import BOUND_SIZES, Executable, _group
from prunus.runtime.program import NativeStep, NumpyStep, Sizes
from tests.graphs import BATCH, Arrays, Case, GraphBuilder, graphs
from tests.native.decisions import Decisions, compiled, decisions, examples, rewritten, run
from tests.native.encoder import VOCABULARY, encoder, sentences

SIZES = ((1, 1), (1, 48), (3, 17), (1, 16), (2, 48), (1, 2), (4, 48), (1, 1), (3, 17))


def check_right(executable: Executable, graph: Graph, inputs: Arrays) -> list[np.ndarray]:
    found = run(executable, inputs)
    for one, wanted in zip(found, interpret(graph, inputs), strict=True):
        np.testing.assert_allclose(one, wanted, rtol=1e-4, atol=1e-5)
    return found


def test_one_arena_serves_sizes_that_grow_and_shrink() -> None:
    graph = encoder()
    executable = compiled(graph, Decisions())
    first: dict[tuple[int, int], bytes] = {}
    for batch, seq in SIZES:
        found = check_right(executable, graph, sentences(batch, seq))
        bits = b"".join(each.tobytes() for each in found)
        assert first.setdefault((batch, seq), bits) == bits
    largest = executable.arena.nbytes
    run(executable, sentences(4, 48))
    run(executable, sentences(1, 1))
    assert executable.arena.nbytes == largest


def test_what_lies_in_the_arena_does_not_matter() -> None:
    """Lanes without a token, and memory of other buffers, reach no result: not even a NaN does."""
    graph = encoder()
    for seq in (1, 17, 48):
        executable, inputs = compiled(graph, Decisions()), sentences(3, seq)
        wanted = run(executable, inputs)
        for arena in (executable.arena, executable._scratch):
            arena._memory[:] = 0xFF  # as floats: NaN
        for one, other in zip(run(executable, inputs), wanted, strict=True):
            assert one.tobytes() == other.tobytes()


def test_answers_are_the_callers_own() -> None:
    executable, inputs = compiled(encoder(), Decisions()), sentences(2, 5)
    first = run(executable, inputs)
    kept = [each.copy() for each in first]
    second = run(executable, sentences(2, 5, seed=9))
    for one, other, copy in zip(first, second, kept, strict=True):
        assert not np.shares_memory(one, other)
        assert (one == copy).all()
        one[:] = 7
    for one, copy in zip(run(executable, inputs), kept, strict=True):
        assert (one == copy).all()


def test_inputs_and_constants_are_answered_by_copies() -> None:
    b = GraphBuilder()
    x = b.input("x", "f32[batch, 6]")
    c = b.constant("c", np.arange(6, dtype=np.float32))
    halves = [b.add("slice", each, axis=-1, start=0, stop=3, step=1) for each in (x, c)]
    wide = b.expand(c, BATCH, 6)
    executable = compiled(b.graph(x, c, *halves, wide), Decisions())
    inputs = {"x": np.ones((2, 6), np.float32)}
    for each in run(executable, inputs):
        each[...] = 9
    again = run(executable, inputs)
    assert (inputs["x"] == 1).all()
    assert (again[1] == np.arange(6)).all()
    assert (again[4] == np.arange(6)).all()


def test_outputs_are_contiguous_and_share_no_memory() -> None:
    """One value that is answered twice, views of it, and views of what is no output."""
    b = GraphBuilder()
    x = b.input("x", "f32[batch, 6]")
    h, other = b.add("add", x, x), b.add("tanh", x)
    views = [
        b.add("slice", each, axis=0, start=0, stop=1, step=1) for each in (h, other, other)
    ] + [b.add("permute", each, axes=(1, 0)) for each in (h, other)]
    wide = b.expand(h, 2, BATCH, 6)
    graph = b.graph(views[0], h, h, *views, wide, wide)
    executable, inputs = compiled(graph, Decisions()), {"x": np.ones((2, 6), np.float32)}
    found, wanted = run(executable, inputs), interpret(graph, inputs)
    for i, (one, expected) in enumerate(zip(found, wanted, strict=True)):
        assert one.flags.carray
        np.testing.assert_allclose(one, expected, rtol=1e-6)
        assert not any(np.shares_memory(one, each) for each in found[:i])


def test_an_output_of_its_own_is_not_copied() -> None:
    b = GraphBuilder()
    x = b.input("x", "f32[batch, 6]")
    h, other = b.add("add", x, x), b.add("tanh", x)
    turned = b.add("reshape", other, shape=(6, BATCH))
    executable = compiled(b.graph(h, turned), Decisions())
    values = {"x": np.ones((2, 6), np.float32)}
    for name in (h, other):
        values[name] = np.zeros((2, 6), np.float32)
    values[turned] = values[other].reshape(6, 2)
    assert [
        np.shares_memory(answer, values[name])
        for answer, name in zip(executable._answers(values), (h, turned), strict=True)
    ] == [True, True]


@pytest.mark.parametrize("wrong", [-1, VOCABULARY, 2**40])
def test_an_id_outside_its_table_never_reaches_native_code(wrong: int) -> None:
    graph = encoder()
    executable, inputs = compiled(graph, Decisions()), sentences(2, 5)
    run(executable, inputs)
    ids = inputs["input_ids"].copy()
    ids[1, 2] = wrong
    message = f"input_ids holds the id {wrong}, but its embedding table has the ids 0 to 29"
    with pytest.raises(InputError, match=message):
        run(executable, {**inputs, "input_ids": ids})
    check_right(executable, graph, inputs)


def strided(array: np.ndarray) -> np.ndarray:
    """The same numbers with gaps between them."""
    spaced = np.full(tuple(2 * side for side in array.shape), 99, array.dtype)
    view = spaced[tuple(slice(None, None, 2) for _ in array.shape)]
    view[...] = array
    return view


FORMS: dict[str, Any] = {
    "strided": strided,
    "Fortran's order": np.asfortranarray,
    "reversed": lambda x: np.ascontiguousarray(x[..., ::-1])[..., ::-1],
    "broadcast": lambda x: np.broadcast_to(x[:1], x.shape),
    "unaligned": lambda x: np.frombuffer(b"1" + x.tobytes(), x.dtype, offset=1).reshape(x.shape),
}


@pytest.mark.parametrize("form", FORMS)
def test_inputs_in_any_memory_order(form: str) -> None:
    graph, inputs = encoder(), sentences(3, 7)
    check_right(compiled(graph, Decisions()), graph, {k: FORMS[form](x) for k, x in inputs.items()})
    b = GraphBuilder()
    x = b.input("x", "f32[batch, seq, 6]")
    w = b.constant("w", np.random.default_rng(0).standard_normal((5, 6)).astype(np.float32))
    plain = b.graph(b.add("linear", x, w, activation="none"))
    array = np.random.default_rng(1).standard_normal((3, 7, 6)).astype(np.float32)
    check_right(compiled(plain, Decisions()), plain, {"x": FORMS[form](array)})


@pytest.mark.parametrize(("outputs", "inputs"), [(0, 3), (3, 0), (0, 0)])
def test_tensors_without_elements(outputs: int, inputs: int) -> None:
    b = GraphBuilder()
    x = b.input("x", f"f32[batch, {inputs}]")
    w = b.constant("w", np.zeros((outputs, inputs), np.float32))
    bias = b.constant("bias", np.arange(outputs, dtype=np.float32))
    y = b.add("gelu", b.add("linear", x, w, bias, activation="none"))
    graph = run_passes(b.graph(y))
    check_right(compiled(graph, Decisions()), graph, {"x": np.zeros((2, inputs), np.float32)})


def test_a_mask_that_a_kernel_makes_is_there_before_attention_reads_it() -> None:
    """Feeds are made before a segment starts, so what makes one must lie in an earlier segment."""
    b, random = GraphBuilder(), np.random.default_rng(0)
    x, m = b.input("x", "f32[batch, 8, 12]"), b.input("m", "f32[batch, 8, 8]")
    w = b.constant("w", random.standard_normal((8, 8)).astype(np.float32))
    mask = b.reshape(b.add("linear", m, w, activation="none"), BATCH, 1, 8, 8)
    y = b.add("attention", x, x, x, mask, heads=2, scale=0.4, causal=False)
    graph = b.graph(y, mask)
    executable = compiled(graph, Decisions())
    assert len(executable.program.numpy_steps) == 0
    assert len(list(_group(executable.program.steps))) == 2
    inputs = {name: random.standard_normal((3, 8, width)).astype(np.float32)
              for name, width in (("x", 12), ("m", 8))}  # fmt: skip
    check_right(executable, graph, inputs)


def test_bindings_are_bounded() -> None:
    b = GraphBuilder()
    executable = compiled(b.graph(b.add("tanh", b.input("x", "f32[batch, 3]"))), Decisions())
    for batch in range(1, BOUND_SIZES + 10):
        run(executable, {"x": np.zeros((batch, 3), np.float32)})
    assert len(executable._bindings) == BOUND_SIZES


def placed(executable: Executable, sizes: Sizes) -> Placement:
    buffers = executable.program.buffers.items()
    tokens = {name: evaluate(buffer.tokens, sizes) for name, buffer in buffers}
    return Placement(executable.program, tokens, chained=True)


def share_memory(placement: Placement, some: frozenset[str], others: frozenset[str]) -> bool:
    spans = [(placement.span(a), placement.span(b)) for a in some for b in others]
    return any(a[0] < b[1] and b[0] < a[1] for a, b in spans)


def groups(executable: Executable) -> list[list[NativeStep]]:
    return [p for p in _group(executable.program.steps) if not isinstance(p, NumpyStep)]


@examples(0.6)
@given(graphs(), decisions(), st.integers(0, 2**16))
def test_records_that_meet_in_memory_are_parted_by_a_barrier(
    case: Case, decided: Decisions, seed: int
) -> None:
    executable = compiled(rewritten(case.graph, decided), decided)
    sizes = executable.program.without_padding(bind_sizes(case.graph.inputs, case.inputs))
    placement = placed(executable, sizes)
    random = np.random.default_rng(seed)
    for steps in groups(executable):
        chains = list(find_chains(steps))
        which = random.integers(0, 3, len(chains))
        parts = [
            (bool(w) and len(c) > 1, w < 2 or len(c) == 1)
            for w, c in zip(which, chains, strict=True)
        ]
        order = find_order(steps, chains, parts, placement.span)
        chain_of = {position: n for n, chain in enumerate(chains) for position in chain}
        for j, late in enumerate(order.steps):
            for i, early in enumerate(order.steps[:j]):
                if chain_of[early] == chain_of[late] and order.kinds[i] != ALONE:
                    continue  # the same claim, or other tiles
                conflict = share_memory(
                    placement, steps[early].writes, steps[late].buffers()
                ) or share_memory(placement, steps[late].writes, steps[early].buffers())
                assert not conflict or any(order.barriers[i + 1 : j + 1]), (early, late)


def test_independent_steps_need_no_barrier() -> None:
    b, random = GraphBuilder(), np.random.default_rng(0)
    x = b.input("x", "f32[batch, 6]")
    weights = [
        b.constant(f"w{i}", random.standard_normal((6, 6)).astype(np.float32)) for i in "abc"
    ]
    executable = compiled(
        b.graph(*(b.add("linear", x, w, activation="none") for w in weights)), Decisions()
    )
    (steps,) = groups(executable)
    placement = placed(executable, {"batch": 3})
    chains = list(find_chains(steps))
    assert len(chains) == 1
    assert [step.op for step in steps[:4]] == ["pack", "linear", "linear", "linear"]
    alone = find_order(steps, chains, [(False, True)], placement.span)
    assert alone.barriers[:4].tolist() == [0, 1, 0, 0]
    together = find_order(steps, chains, [(True, False)], placement.span)
    assert not together.barriers.any()
    assert together.kinds.tolist() == [HEAD, *[LINK] * (len(steps) - 1)]
