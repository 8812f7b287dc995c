"""A profile's figures, its groups, its texts, and the trace that is made of it."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest

from prunus.ir import bind_sizes
from prunus.kernels.limits import Limits
from prunus.plan import make_options, make_plan
from prunus.plan.chrome_trace import chrome_trace
from prunus.plan.profile import NO_LAYER, Profile, Tally, layer_of, profile_calls
from prunus.plan.profile_text import header, parts_table, profile_table
from prunus.plan.timeline import Call, trace_calls
from prunus.runtime.executable import Executable
from prunus.runtime.program import NativeStep, Program
from prunus.runtime.trace import Event
from prunus.runtime.weights import Weights
from prunus.sparsity import BlockSparse
from tests.graphs import GraphBuilder
from tests.native.encoder import encoder

LIMITS = Limits(
    "a processor", 2, 2e9, {"L1": 2e9, "L2": 1e9, "memory": 1e8}, {"L1": 1, "L2": 2, "memory": 3}
)
SIZES = {"batch": 2, "seq": 40}
GRAPH = encoder(density=0.1)


@pytest.fixture(scope="module")
def program() -> Program:
    return make_plan(GRAPH, make_options(tune="cost", threads=2))


def made_up_call(program: Program, slower: float = 1.0) -> Call:
    """Step n takes n ms: a whole one of the interpreter's, both workers' of a kernel's."""
    made: list[Event] = []
    clock, awake = 0.0, False
    for number, step in enumerate((*program.steps, None), start=1):
        end = clock + 1e-3 * number * slower
        if isinstance(step, NativeStep):
            made += [Event(step.name, "work", worker, worker, clock, end) for worker in (0, 1)]
            awake = True
            clock = end
            continue
        if awake:
            made += [Event("", "wait", worker, -1, clock, clock) for worker in (0, 1)]
            awake = False
        if step is not None:
            made.append(Event(step.node.name, "numpy", 0, -1, clock, end))
            clock = end
    return Call(tuple(made), clock + 5e-3)


def profiled(program: Program, *calls: Call) -> Profile:
    return profile_calls(
        program, GRAPH, calls, SIZES, LIMITS, model="tiny", simulated="0.9", target="this (AVX)"
    )


@pytest.fixture(scope="module")
def profile(program: Program) -> Profile:
    return profiled(program, made_up_call(program))


def test_each_step_has_its_time(program: Program, profile: Profile) -> None:
    expected = [1e-3 * (number + 1) for number in range(len(program.steps))]
    assert [step.tally.seconds for step in profile.steps] == pytest.approx(expected)
    assert all(step.tally.waiting == step.tally.gaps == 0 for step in profile.steps)


def test_what_was_done_in_that_time_is_counted(program: Program, profile: Profile) -> None:
    assert sum(step.tally.flops for step in profile.steps) == program.flops(SIZES)
    for step, found in zip(program.steps, profile.steps, strict=True):
        tally = found.tally
        if not isinstance(step, NativeStep):
            assert (found.kernel, found.bound, tally.flops, tally.limit) == ("NumPy", "", 0, 0)
            continue
        assert (found.kernel, found.op) == (step.label, step.op)
        assert tally.flop_rate == pytest.approx(tally.flops / tally.seconds)
        assert tally.limit_share == pytest.approx(tally.limit / tally.seconds)
        if step.weight is None:
            assert tally.nonzeros == 0
            continue
        weight = GRAPH.constants[step.weight]
        assert found.name == step.weight
        assert tally.nonzeros == np.count_nonzero(weight.dense())
        assert tally.weight_bytes == 2 * step.work.bytes  # 80 tokens are two tiles
        loads = 1.0 if isinstance(weight.value, BlockSparse) else 1 / step.kernel.rows  # type: ignore[attr-defined]
        assert tally.limit == pytest.approx(max(tally.flops / 2e9, 2 * tally.flops * loads / 2e9))
        assert found.bound == ("loads" if 2 * loads > 1 else "FMAs")
    assert {"loads", "FMAs", ""} >= {step.bound for step in profile.steps} >= {"loads", ""}


@pytest.mark.parametrize("by", ["layer", "kernel", "op"])
def test_groups_hold_every_step_once(profile: Profile, by: Any) -> None:
    groups = profile.groups(by)
    whole = sum(groups.values(), Tally())
    assert whole.steps == len(profile.steps)
    assert whole.seconds == pytest.approx(sum(step.tally.seconds for step in profile.steps))
    assert whole.flops == sum(step.tally.flops for step in profile.steps)
    seconds = [tally.seconds for tally in groups.values()]
    assert seconds == sorted(seconds, reverse=True)
    assert set(groups) == {getattr(step, by) for step in profile.steps}


def test_names_belong_to_layers() -> None:
    assert layer_of("bert.encoder.layer.3.output.dense.weight") == "bert.encoder.layer.3"
    assert layer_of("groups.0.layers.1.ffn") == "groups.0"
    assert layer_of("0.weight") == "0"
    assert layer_of("qa_outputs.weight") == NO_LAYER
    assert layer_of("layer.3") == NO_LAYER  # the number of a value, not of a layer
    assert layer_of("conv1d.weight") == NO_LAYER


def test_the_parts_are_the_call(program: Program, profile: Profile) -> None:
    parts = profile.parts()
    assert sum(parts.values()) == pytest.approx(profile.seconds)
    assert parts["outside"] == pytest.approx(5e-3)
    assert parts["waiting"] == parts["gaps"] == 0
    assert parts["unsteady"] == pytest.approx(0, abs=1e-9)
    numpy = [s.tally.seconds for s in profile.steps if s.kernel == "NumPy"]
    assert parts["interpreter"] == pytest.approx(sum(numpy)) and numpy


def test_of_several_calls_each_part_has_its_median(program: Program) -> None:
    calls = [made_up_call(program, slower) for slower in (1, 9, 2)]
    found = profiled(program, *calls)
    assert found.typical is calls[2]
    assert found.seconds == pytest.approx(calls[2].seconds)
    assert found.steps[3].tally.seconds == pytest.approx(8e-3)
    assert found.calls == 3
    assert found.parts()["unsteady"] == pytest.approx(0, abs=1e-9)


def test_time_that_the_medians_leave_is_named(program: Program) -> None:
    """Each call is disturbed in another step, so no median shows it."""
    calls = []
    for hit in range(3):
        call = made_up_call(program)
        at = sorted({event.begin for event in call.events})[hit + 1]
        moved = tuple(
            Event(
                e.step,
                e.kind,
                e.worker,
                e.unit,
                e.begin + 0.1 * (e.begin > at),
                e.end + 0.1 * (e.end > at),
            )
            for e in call.events
        )
        calls.append(Call(moved, call.seconds + 0.1))
    found = profiled(program, *calls)
    assert found.parts()["unsteady"] == pytest.approx(0.1)
    assert sum(found.parts().values()) == pytest.approx(found.seconds)


def test_a_real_call_adds_up(program: Program) -> None:
    options = make_options(tune="cost", threads=2)
    executable = Executable(program, Weights(GRAPH.constants), target=options.target, threads=2)
    inputs = {"input_ids": np.ones((2, 40), np.int64), "attention_mask": np.ones((2, 40), np.int64)}
    sizes = bind_sizes(program.inputs, inputs)
    calls = trace_calls(lambda recorder: executable.run(dict(inputs), sizes, recorder), 3)
    assert len(calls) == 3
    assert all(event.end <= c.seconds for c in calls for event in c.events if event.worker == 0)
    found = profiled(program, *calls)
    assert sum(found.parts().values()) == pytest.approx(found.seconds)
    assert all(step.tally.seconds > 0 for step in found.steps)


def test_plain_data_for_json(profile: Profile) -> None:
    data = json.loads(json.dumps(profile.to_dict()))
    assert data["seconds"] == profile.seconds
    assert sum(data["parts"].values()) == pytest.approx(profile.seconds)
    assert sum(step["share_of_call"] for step in data["steps"]) == pytest.approx(
        1 - 5e-3 / profile.seconds
    )
    assert data["by_op"]["linear"]["steps"] == sum(s["op"] == "linear" for s in data["steps"])
    assert data["limits"]["loads"]["L2"] == 1e9
    assert data["threads"] == 2 and data["sizes"] == SIZES


def test_the_text(profile: Profile) -> None:
    text = str(profile)
    assert text.startswith("tiny: this (AVX), 2 threads, batch 2, seq 40, median of 1 call\n")
    assert "SIMULATED zeros, not a trained model: 0.9" in text
    assert "FMA peak 2 GFLOP/s, loads 2 GB/s from L1, 1 GB/s from L2, 0 GB/s from memory" in text
    for title in ("kernel ", "layer ", "op "):
        assert f"\n{title}" in text
    assert "outside the workers" in text and "layer.0" in text


def test_tables_have_figures_for_every_row(profile: Profile) -> None:
    table = profile_table(profile, "step")
    assert len(table.rows) == len(profile.steps)
    assert all(len(row) == len(table.titles) for row in table.rows)
    milliseconds = [float(row[table.titles.index("ms")]) for row in table.rows]
    assert milliseconds == sorted(milliseconds, reverse=True)
    parts = parts_table(profile)
    shares = [float(row[-1].split()[0]) for row in parts.rows]
    assert shares[-1] == 100 and sum(shares[:-1]) == pytest.approx(100, abs=0.5)


def test_limits_from_an_earlier_run_and_assumed_caches_are_said() -> None:
    b = GraphBuilder()
    x = b.input("x", "f32[batch, 8]")
    graph = b.graph(
        b.add("linear", x, b.constant("w", np.ones((4, 8), np.float32)), activation="none")
    )
    program = make_plan(graph, make_options(tune="cost", threads=2))
    call = made_up_call(program)
    limits = Limits("p", 2, 1e9, LIMITS.loads, LIMITS.buffers, ("L2", "L3"), True)
    found = profile_calls(
        program, graph, [call], {"batch": 2}, limits, model="m", simulated=None, target="t"
    )
    _, last = header(found)
    assert last.startswith("p, limits measured earlier (prunus env --measure does it anew): FMA")
    assert "sizes of L2, L3 assumed" in last


# The trace, checked against the format by hand: developer documentation "Trace Event Format",
# sections "JSON Object Format", "Complete Events" and "Metadata Events".


@pytest.fixture(scope="module")
def trace(program: Program) -> dict[str, Any]:
    call = made_up_call(program)
    found = profiled(program, call)
    return json.loads(json.dumps(chrome_trace(found, program), allow_nan=False))  # type: ignore[no-any-return]


def slices(trace: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    return (event for event in trace["traceEvents"] if event["ph"] == "X")


def test_a_trace_has_the_form_that_perfetto_reads(trace: dict[str, Any]) -> None:
    assert trace["displayTimeUnit"] in ("ms", "ns")
    lanes = set()
    for event in trace["traceEvents"]:
        assert {"ph", "name", "pid", "tid", "args"} <= event.keys()
        assert isinstance(event["name"], str) and isinstance(event["args"], dict)
        assert all(type(event[key]) is int and event[key] > 0 for key in ("pid", "tid"))
        if event["ph"] == "M":
            assert event["name"] in ("process_name", "thread_name")
            assert isinstance(event["args"]["name"], str)
            lanes.add(event["tid"])
        else:
            assert event["ph"] == "X"
            assert event["cat"] in ("call", "work", "wait", "numpy")
            assert event["ts"] >= 0 and event["dur"] >= 0
    assert {event["tid"] for event in slices(trace)} == lanes == {1, 2}
    names = [e["args"]["name"] for e in trace["traceEvents"] if e["name"] == "thread_name"]
    assert names == ["worker 0 (the calling thread)", "worker 1"]


def test_a_trace_shows_every_event_in_microseconds(
    trace: dict[str, Any], program: Program, profile: Profile
) -> None:
    call, *rest = slices(trace)
    assert (call["name"], call["ts"], call["tid"]) == ("call", 0, 1)
    assert call["dur"] == pytest.approx(1e6 * profile.seconds)
    assert len(rest) == len(profile.typical.events)
    for event, made in zip(rest, profile.typical.events, strict=True):
        assert event["ts"] == pytest.approx(1e6 * made.begin, abs=1e-3)
        assert event["dur"] == pytest.approx(1e6 * made.seconds, abs=1e-3)
        assert event["cat"] == made.kind and event["tid"] == made.worker + 1
    work = [event for event in rest if event["cat"] == "work"]
    assert {event["args"]["unit"] for event in work} == {0, 1}
    linear = next(event for event in work if event["args"]["op"] == "linear")
    step = next(step for step in profile.steps if step.op == "linear")
    assert linear["name"] == step.name
    assert linear["args"]["kernel"] == step.kernel
    assert linear["args"]["nonzeros"] == step.tally.nonzeros > 0
    assert linear["args"]["GFLOP/s"] == pytest.approx(step.tally.flop_rate / 1e9)
    assert {event["name"] for event in rest if event["cat"] == "wait"} == {"wait for the end"}
