"""Measures a model for a report: benchmark, profiles, zeros, growth, parity."""

from __future__ import annotations

import functools
import importlib.util
import json
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from prunus import __version__
from prunus.bench import (
    Report,
    calls_within,
    check_engines,
    read_report,
    run_bench,
    save_report,
    turn_of,
)
from prunus.bench.engines import Arrays
from prunus.bench.inputs import random_inputs
from prunus.bench.machine import this_machine
from prunus.bench.shapes import Shape, check_shape
from prunus.cache import cache_folder
from prunus.errors import InputError
from prunus.model import CompiledModel
from prunus.plan.profile import Profile
from prunus.reporting.findings import Findings
from prunus.reporting.growth import (
    GrowthPoint,
    growth_shapes,
    measure_growth,
    read_growth,
    save_growth,
)
from prunus.reporting.matrices import attention_heads, linear_matrices
from prunus.reporting.parity import measure_parity
from prunus.reporting.stages import Stages
from prunus.runtime.saved_reference import content_digest
from prunus.versions import package_versions

OURS = ("prunus", "prunus-dense")
OPTIONAL = ("onnxruntime", "openvino")
PACKAGES = ("prunus", "llvmlite", "numpy", "torch", "transformers", *OPTIONAL)
"""Rivals that take part where they are installed."""

LEAST_PROFILED, MOST_PROFILED = 4, 12
PROFILED_SECONDS = 1.0
"""Time to spend on the traced calls of a plan, within so many."""

Loader = Callable[[], Any]
Progress = Callable[[str], None]


def report(
    model: CompiledModel,
    *,
    load_module: Loader | None = None,
    batch: int = 1,
    sequence: int = 128,
    engines: Sequence[str] | None = None,
    rounds: int = 5,
    seconds: float = 0.3,
    commands: Sequence[str] = (),
    progress: Progress | None = None,
) -> Findings:
    """Measure all that a report says of a model.

    What takes long is kept in the cache until the report is complete: after an interruption, the
    next run with the same arguments goes on from there.

    Args:
        model: Compiled with its zeros skipped.
        load_module: Makes the `torch.nn.Module` that the model was compiled from, for the rivals
            and as the reference of all answers; without one the dense plan is the reference.
        batch: Texts of a call.
        sequence: Length of each in tokens.
        engines: Names as in `prunus.bench`, with "prunus" among them; `default_engines` unless
            given.
        rounds: Turns that every engine has.
        seconds: Length of a turn.
        commands: Command lines that measure the same again, for the page.
        progress: Told in a few words what is being done.

    Raises:
        InputError: a model without linear layers, without `input_ids`, or compiled densely; a shape
            that it does not take; engines that cannot be timed.
    """
    say = progress or _silent
    shape = (batch, sequence)
    names = tuple(default_engines(load_module is not None) if engines is None else engines)
    _check(model, names, shape)
    inputs = random_inputs(model.input_names, shape, model.vocabulary)
    model(**inputs)  # a shape that it does not take is told now
    load = _nothing if load_module is None else functools.cache(load_module)

    stages = Stages(_key(model, names, shape, rounds, seconds), say)
    timed = stages.take(
        "benchmark",
        lambda: run_bench(
            {model.source.name: model},
            module_loader=load_module,
            engines=names,
            shapes=(shape,),
            rounds=rounds,
            seconds=seconds,
            least_calls=1,
            density={model.source.name: model.density},
            cache=cache_folder(),
            meanwhile=load,
            progress=say,
        ),
        save_report,
        read_report,
    )
    dense = model.recompile(sparse=False)
    growth = stages.take(
        "growth",
        lambda: measure_growth(
            model, dense, growth_shapes(model, shape), say, _known(timed, shape)
        ),
        save_growth,
        read_growth,
    )
    say("profiling")
    profile, dense_profile = (_profile(each, inputs) for each in (model, dense))
    say("measuring zeros")
    module = load()
    matrices, heads = linear_matrices(model, module), attention_heads(model, module)
    parity = measure_parity(model, dense, module, say)
    stages.finish()
    return Findings(
        model=model.source.name,
        simulated=model.simulated,
        made=datetime.now().astimezone().isoformat(timespec="minutes"),
        version=__version__,
        shape=shape,
        bench=timed,
        sparse=profile,
        dense=dense_profile,
        explanation=model.explain(),
        matrices=matrices,
        heads=heads,
        growth=growth,
        parity=parity,
        reference="PyTorch" if module is not None else "prunus-dense",
        commands=tuple(commands),
    )


def default_engines(has_module: bool) -> tuple[str, ...]:
    """Both plans of prunus; with a module also PyTorch, and the rivals that are installed."""
    if not has_module:
        return OURS
    return (*OURS, "torch", *(name for name in OPTIONAL if importlib.util.find_spec(name)))


def _check(model: CompiledModel, engines: Sequence[str], shape: Shape) -> None:
    check_engines(engines)
    check_shape(shape)
    if "prunus" not in engines:
        raise InputError(
            f"the engines are {', '.join(engines)}; a report is about prunus, so name it too"
        )
    if not model.options.sparse:
        raise InputError(
            "the model is compiled densely, so there is nothing to compare; leave --dense "
            "(sparse=False) out, the report has the dense plan beside the sparse one anyway"
        )
    if not any(step.weight for step in model.program.native_steps):
        raise InputError(
            f"{model.source.name} has no linear layer, so there are no zeros that prunus could "
            "skip; a report needs a model with linear layers"
        )
    if "input_ids" not in model.input_names:
        raise InputError(
            f"{model.source.name} takes {', '.join(model.input_names)}; a report times text "
            "encoders, which take input_ids"
        )


def _key(
    model: CompiledModel, engines: Sequence[str], shape: Shape, rounds: int, seconds: float
) -> str:
    """All that the stages of a report depend on."""
    return json.dumps(
        {
            "model": content_digest(model.graph, model.signature.to_json()),
            "name": model.source.name,
            "options": repr(model.options),
            "engines": list(engines),
            "shape": shape,
            "turns": [rounds, seconds],
            "processor": this_machine().name,
            "versions": package_versions(PACKAGES),
        }
    )


def _known(timed: Report, shape: Shape) -> tuple[GrowthPoint, ...]:
    """What the benchmark says at its shape, so that a page has one number for it."""
    medians = {row.engine: row.seconds.median for row in timed.rows if row.seconds is not None}
    if not medians.keys() >= set(OURS):
        return ()
    return (GrowthPoint(shape, *(medians[name] for name in OURS)),)


def _profile(model: CompiledModel, inputs: Arrays) -> Profile:
    (call,) = turn_of(functools.partial(model, **inputs))(1)
    calls = calls_within(PROFILED_SECONDS, call, LEAST_PROFILED, MOST_PROFILED)
    return model.profile(inputs, calls)


def _nothing() -> None:
    """The module of a model that has none."""


def _silent(_: str) -> None:
    """Progress that nobody watches."""
