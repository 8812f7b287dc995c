"""One mutated graph: through the verifier, its text, the interpreter and native code."""

from __future__ import annotations

import random
import traceback
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np

from prunus.errors import GraphError, InputError, PrunusError
from prunus.ir import DTYPES, Graph, bind_sizes, interpret, parse_graph, print_graph, verify
from prunus.passes import run_passes
from prunus.plan import make_options
from prunus.runtime.packing import PackingRule
from prunus.runtime.program import Program
from tests.graphs import Arrays
from tests.mutation.mutate import mutated
from tests.mutation.seeds import random_array, seed_graph
from tests.planned import planned

Stage = Literal["refused", "not computable", "interpreted", "native", "failed"]

JUMPS = frozenset({
    "floor", "ceil", "sign", "argmax", "max", "cast", "equal", "not_equal", "less", "less_equal",
    "greater", "greater_equal", "and", "or", "not", "where", "index", "gather", "embedding",
    "minimum", "maximum", "relu", "abs", "power", "divide", "rsqrt", "log", "sqrt",
})  # fmt: skip
"""Ops whose results can differ much where their operands differ in the last digit. Behind one of
them only what all of NumPy's float32, float64 and rounding agree on is compared."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a seed's graph.

    Attributes:
        seed: The seed.
        stage: How far it came.
        ops: The ops of the verified graph.
        native: The ops that ran as native steps.
        compared: The elements that were compared with the interpreter's.
        error: What went wrong, with the graph; empty unless `stage` is "failed".
    """

    seed: int
    stage: Stage
    ops: dict[str, int] = field(default_factory=dict)
    native: dict[str, int] = field(default_factory=dict)
    compared: int = 0
    error: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class Mismatch(AssertionError):
    """Native code and the interpreter disagree."""


def run_trial(seed: int, *, native: bool) -> Outcome:
    """Mutate the graph of a seed and run it; only `PrunusError`s are expected on the way."""
    source = random.Random(seed)
    graph = mutated(seed_graph(source), source)
    try:
        return _run(seed, graph, source, native)
    except Exception:
        try:
            text = print_graph(graph)
        except Exception as error:
            text = f"{error!r} for {graph!r:.4000}"
        return Outcome(seed, "failed", error=f"{traceback.format_exc(limit=-6)}\n{text:.6000}")


def _run(seed: int, graph: Graph, source: random.Random, native: bool) -> Outcome:
    try:
        verify(graph)
    except GraphError:
        return Outcome(seed, "refused")
    ops = dict(Counter(node.op for node in graph.nodes))
    text = print_graph(graph)
    if print_graph(parse_graph(text, graph.constants)) != text:
        raise Mismatch("the graph's text reads back as another one")
    inputs = random_inputs(graph, source)
    try:
        sizes = bind_sizes(graph.inputs, inputs)
        _check_size(graph, sizes)
        answers = interpret(graph, inputs), interpret(graph, inputs, precise=True)
        roomy = bool(JUMPS & ops.keys())
        promised = _is_promised(graph, inputs)
    except PrunusError:
        answers = None
    if not native:
        return Outcome(seed, "not computable" if answers is None else "interpreted", ops)
    try:
        program, found = _run_native(graph, inputs, threads=source.choice((1, 2)))
    except PrunusError as error:
        if answers is not None and not _is_allowed(error):
            raise Mismatch(f"the interpreter computes it, but: {error}") from error
        return Outcome(seed, "not computable", ops)
    steps = dict(Counter(step.op for step in program.native_steps))
    compared = 0
    if answers is not None and promised:
        for array, plain, precise in zip(found, *answers, strict=True):
            if isinstance(program.packing, PackingRule):
                # Tokens that are padding are not computed: 0 stands in their place.
                array = np.where(array == 0, plain, array).astype(plain.dtype)
            compared += compare(array, plain, precise, roomy=roomy)
    return Outcome(seed, "native" if steps else "interpreted", ops, steps, compared)


def _is_promised(graph: Graph, inputs: Arrays) -> bool:
    """Whether prunus promises the interpreter's output: not where float32 overflows in one order of
    adding if not in another, nor where a query may see no key at all, as then nothing is known of a
    head that was removed (docs/architecture.md, `drop_empty`).
    """
    everything = replace(graph, outputs=tuple(node.name for node in graph.nodes))
    values = dict(zip(everything.outputs, interpret(everything, inputs, precise=True), strict=True))
    if any(each.dtype.kind == "f" and not each.max(initial=0) < 1e25 for each in values.values()):
        return False
    values |= inputs | {name: each.dense() for name, each in graph.constants.items()}
    for node in graph.nodes:
        if node.op == "attention" and len(node.inputs) > 3 and node.inputs[3] is not None:
            mask = values[node.inputs[3]]
            if not _sees(mask, -1).all():
                return False
        if node.op == "softmax" and not _sees(values[str(node.inputs[0])], node.attrs.axis).all():
            return False
    return True


def _sees(mask: np.ndarray, axis: int) -> np.ndarray:
    """Whether some key is seen."""
    seen = mask if mask.dtype == bool else mask > -1e25
    return np.asarray(seen.any(axis=axis) if mask.ndim else seen)


MAX_ELEMENTS = 1 << 22
"""Of a value: a graph that makes larger ones would only keep the machine busy."""


def _check_size(graph: Graph, sizes: dict[str, int]) -> None:
    for node in graph.nodes:
        shape = node.type.sizes(sizes)
        if min(shape, default=0) >= 0 and np.prod([float(size) for size in shape]) > MAX_ELEMENTS:
            raise InputError(f"{node.name} has the shape {shape}")


def _is_allowed(error: PrunusError) -> bool:
    """What prunus refuses though the interpreter can compute it: weights that are not finite."""
    return "NaN" in str(error) or "infin" in str(error)


def _run_native(graph: Graph, inputs: Arrays, threads: int) -> tuple[Program, list[np.ndarray]]:
    options = make_options(threads=threads, tune="cost")
    after = run_passes(graph)
    sizes = bind_sizes(after.inputs, inputs)
    _check_size(after, sizes)
    executable = planned(after, options)
    first = executable.run(dict(inputs), sizes)
    second = executable.run(dict(inputs), sizes)
    for one, other in zip(first, second, strict=True):
        if one.tobytes() != other.tobytes():
            raise Mismatch("two calls with the same inputs differ")
    return executable.program, second


def random_inputs(graph: Graph, source: random.Random) -> Arrays:
    """Inputs of small sizes, some with indices outside their tables."""
    symbols = sorted({name for type in graph.inputs.values() for name in type.symbols()})
    sizes = {name: source.choice((1, 2, 3, 5, 16, 17, 33)) for name in symbols}
    arrays: Arrays = {}
    for name, type in graph.inputs.items():
        shape = tuple(min(max(size, 0), 1 << 12) for size in type.sizes(sizes))
        if np.prod([float(size) for size in shape]) > MAX_ELEMENTS:
            shape = tuple(min(size, 8) for size in shape)
        arrays[name] = random_array(shape, type, source)
        if DTYPES[type.dtype].kind in "iu" and arrays[name].size and source.random() < 0.1:
            arrays[name].reshape(-1)[-1] = source.choice((100, 7, 200))
    return arrays


def compare(found: np.ndarray, plain: np.ndarray, precise: np.ndarray, *, roomy: bool) -> int:
    """Check an output against the interpreter's, and return how many elements were compared.

    An element is compared where both of the interpreter's are finite and near each other. What is
    wrong by less than 1 % of the largest, or by a hundred times what float32 is from float64, is
    rounding; a wrong index or size is never so small everywhere.
    """
    if found.shape != plain.shape or found.dtype != plain.dtype:
        raise Mismatch(f"{found.dtype}{found.shape} in place of {plain.dtype}{plain.shape}")
    with np.errstate(all="ignore"):
        a, b, c = (np.asarray(each, np.float64) for each in (found, plain, precise))
        noise = np.abs(b - c)
        sound = np.isfinite(b) & np.isfinite(c) & (np.abs(c) < 1e25)
        largest = float(np.abs(np.where(sound, c, 0)).max(initial=0.0))
        sound &= noise <= 1e-3 * largest + 1e-6
        error = np.abs(a - c)
        wrong = sound & ~(error <= 1e-2 * largest + 100 * noise + 1e-5)
    share = wrong.sum() / max(1, sound.sum())
    if share > (0.05 if roomy else 0):
        at = tuple(int(each[0]) for each in np.nonzero(wrong))
        raise Mismatch(
            f"{wrong.sum()} of {sound.sum()} elements differ, the first at {at}: "
            f"found {found[at]}, expected {plain[at]}"
        )
    return int(sound.sum())
