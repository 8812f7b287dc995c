"""Times one linear layer as a model would run it: on the model's workers, at its tokens, with as
many weights in turn as a whole model reads before it comes back to one.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from prunus.bench import turn_of
from prunus.errors import InputError
from prunus.ir import Attrs, Constant, Graph, Node, TensorType, symbol
from prunus.plan import Options, make_plan
from prunus.prediction.predictor import Layer
from prunus.prediction.pruned import pruned_weight
from prunus.runtime.executable import Executable
from prunus.runtime.program import NativeStep, Program, Stored
from prunus.runtime.weights import Weights
from prunus.sparsity import SparsityRecipe, layer_seed

Clock = Callable[[], float]

Call = Callable[[], object]

LONGEST_CALL = 0.03
"""Seconds of a timed call, about, at which no further copies of the weight are added: where a call
is long, its many tokens share what is read from memory."""

FEWEST_COPIES, MOST_COPIES = 2, 400

LEAST_PAIRS, MOST_PAIRS = 3, 40
SECONDS = 0.1
"""Time to spend on the calls of one measurement, within so many pairs of them."""

WEIGHT = "weight"

GAUGE = Layer("gauge", 512, 512)
GAUGE_TOKENS, GAUGE_CALLS = 256, 5


@dataclass(frozen=True, slots=True)
class Probe:
    """A layer to time.

    Attributes:
        layer: Its size and epilogue matter, not its name.
        recipe: Its zeros, or None for the dense kernel.
        tokens: At a call.
        footprint: Bytes of weights that pass through the caches between two uses of one.
    """

    layer: Layer
    recipe: SparsityRecipe | None
    tokens: int
    footprint: int

    @property
    def name(self) -> str:
        """What it is remembered under: all that its time depends on."""
        layer = self.layer
        return json.dumps(
            [layer.outputs, layer.inputs, layer.epilogue, str(self.recipe), self.tokens,
             self.footprint]
        )  # fmt: skip

    def __str__(self) -> str:
        recipe = "dense" if self.recipe is None else str(self.recipe)
        return f"{self.layer.outputs}×{self.layer.inputs} {recipe}, {self.tokens} tokens"


def time_probe(probe: Probe, options: Options, clock: Clock = time.perf_counter) -> float:
    """Seconds of one layer: the difference of two programs that have one layer, and several.

    The best sparse kernel is timed even where the dense one is faster.
    """
    one, many, copies = probe_calls(probe, options, clock)
    pairs = _pairs(one, many, clock)
    # Nothing takes no time: on a disturbed machine the difference of medians may fall below that.
    least = 0.2 * statistics.median(second for _, second in pairs) / copies
    difference = statistics.median(second - first for first, second in pairs)
    return max(difference / (copies - 1), least)


def probe_calls(
    probe: Probe, options: Options, clock: Clock = time.perf_counter
) -> tuple[Call, Call, int]:
    """A call with the layer once, one with it several times, and how often; both have run."""
    planned = _sparse(probe, options) if probe.recipe else _planned(probe, options, None)
    run = partial(_call, probe, options)
    one = run(planned)
    one()  # binds
    (single,) = turn_of(one, clock)(1)
    copies = _copies(probe, planned, single)
    many = run(_repeated(planned, copies))
    many()
    return one, many, copies


def make_gauge(options: Options, clock: Clock = time.perf_counter) -> Callable[[], float]:
    """Work for all workers that is the same each time, and the seconds that it takes: on a quiet
    machine always nearly the same.
    """
    probe = Probe(GAUGE, None, GAUGE_TOKENS, 0)
    call = _call(probe, options, _planned(probe, options, None))
    call()
    turn = turn_of(call, clock)
    return lambda: statistics.median(turn(GAUGE_CALLS))


def _pairs(
    one: Callable[[], object], many: Callable[[], object], clock: Clock
) -> list[tuple[float, float]]:
    """Seconds of both, in turn."""
    turns = turn_of(one, clock), turn_of(many, clock)
    pairs: list[tuple[float, float]] = []
    begin = clock()
    while len(pairs) < LEAST_PAIRS or (len(pairs) < MOST_PAIRS and clock() - begin < SECONDS):
        (first,), (second,) = (turn(1) for turn in turns)
        pairs.append((first, second))
    return pairs


@dataclass(frozen=True, slots=True)
class _Planned:
    """A program and the weights that it names."""

    program: Program
    weights: Weights

    @property
    def step(self) -> NativeStep:
        """Its linear layer."""
        found = [step for step in self.program.native_steps if step.weight == WEIGHT]
        if len(found) != 1:
            raise InputError(
                f"a linear layer became {len(found)} steps, expected a kernel of its own"
            )
        return found[0]


def _copies(probe: Probe, planned: _Planned, single: float) -> int:
    wanted = -(-probe.footprint // max(planned.step.work.bytes, 1))
    affordable = int(LONGEST_CALL / max(single, 1e-9))
    return max(FEWEST_COPIES, min(wanted, affordable, MOST_COPIES))


def _sparse(probe: Probe, options: Options) -> _Planned:
    assert probe.recipe is not None
    layer = probe.layer
    shape = Constant(np.broadcast_to(np.float32(0), (layer.outputs, layer.inputs)))
    weight = pruned_weight(shape, probe.recipe, "random", layer_seed(0, str(probe.recipe)))
    planned = _planned(probe, options, weight)
    if planned.step.work.per_unit < planned.step.work.dense_per_unit:
        return planned
    return _planned(probe, replace(options, threshold=0.0), weight)


def _planned(probe: Probe, options: Options, weight: Constant | None) -> _Planned:
    """A linear layer alone, of an input in plain form."""
    layer = probe.layer
    if weight is None:
        generator = np.random.default_rng(0)
        values = generator.standard_normal((layer.outputs, layer.inputs), np.float32)
        weight, options = Constant(values), replace(options, sparse=False)
    tokens = symbol("count")
    inputs = {"x": TensorType("f32", (tokens, layer.inputs))}
    constants = {WEIGHT: weight, "bias": Constant(np.zeros(layer.outputs, np.float32))}
    operands: tuple[str, ...] = ("x", WEIGHT, "bias")
    if layer.residual:
        inputs["residual"] = TensorType("f32", (tokens, layer.outputs))
        operands = (*operands, "residual")
    type = TensorType("f32", (tokens, layer.outputs))
    node = Node("y", "linear", operands, Attrs(activation=layer.activation), type)
    graph, weights = Graph(inputs, constants, (node,), ("y",)), Weights(constants)
    return _Planned(make_plan(graph, options, weights), weights)


def _repeated(planned: _Planned, copies: int) -> _Planned:
    """The program with its linear layer so many times, each with weights of its own in memory."""
    program, step = planned.program, planned.step
    stored = {
        name: each
        for name, each in step.arguments.items()
        if isinstance(each, Stored) and each.constant == WEIGHT
    }
    (form,) = {each.form for each in stored.values()}
    steps: list[NativeStep] = []
    for number in range(copies):
        own = f"{WEIGHT} {number}"
        planned.weights.enter(own, form, deepcopy(planned.weights.packed(WEIGHT, form)))
        copied = {name: replace(each, constant=own) for name, each in stored.items()}
        arguments = {**step.arguments, **copied}
        steps.append(replace(step, name=f"{step.name} {number}", arguments=arguments))
    position = program.steps.index(step)
    # The last keeps the name, since what follows reads it.
    steps[-1] = replace(steps[-1], name=step.name)
    repeated = (*program.steps[:position], *steps, *program.steps[position + 1 :])
    return replace(planned, program=replace(program, steps=repeated))


def _call(probe: Probe, options: Options, planned: _Planned) -> Callable[[], object]:
    """A call of the program on random tokens."""
    program = planned.program
    executable = Executable(
        program, planned.weights, target=options.target, threads=options.threads
    )
    generator = np.random.default_rng(0)
    values = {
        name: generator.standard_normal((probe.tokens, int(type.shape[-1])), np.float32)
        for name, type in program.inputs.items()
        if isinstance(type.shape[-1], int)
    }
    sizes = {"count": probe.tokens}
    return lambda: executable.run(values, sizes)
