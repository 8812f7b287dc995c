"""A whole benchmark: models, engines and shapes in, one table out."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from prunus.bench.difference import largest_difference
from prunus.bench.engines import (
    SKIP_ZEROS,
    Arrays,
    Compiled,
    Engine,
    Job,
    Loader,
    check_engines,
    make_engine,
)
from prunus.bench.inputs import random_inputs
from prunus.bench.machine import python_version, this_machine
from prunus.bench.rounds import LEAST_CALLS, Turn, interleave, summarize
from prunus.bench.shapes import Shape, all_shapes, check_shape
from prunus.bench.table import Report, Row, with_ratios
from prunus.errors import InputError, PrunusError

DEFAULT_ENGINES = ("prunus", "prunus-dense", "torch")
REFERENCES = ("torch", "prunus-dense")
"""Engines that the others' outputs are compared with, in order of preference."""

Answer = TypeVar("Answer")

MakeInputs = Callable[[int, int], Arrays]
"""Inputs by name for a batch and a length."""

Progress = Callable[[str], None]
"""Told in a few words what is being done, for a line on the terminal."""


@dataclass(slots=True)
class Seat:
    """An engine that takes part with one model; ``reason`` says why it was left out, if it was.

    A seat that is not ``timed`` has no row: it only answers, as the reference of its model.
    """

    label: str
    engine: Engine
    timed: bool = True
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Session:
    """What all seats share during a benchmark."""

    models: Mapping[str, Compiled]
    loaders: Mapping[str, Loader]
    make_inputs: MakeInputs
    shapes: Sequence[Shape]
    example: Arrays
    threads: int
    rounds: int
    seconds: float
    least_calls: int
    folder: Path
    deepsparse_python: str | Path | None
    meanwhile: Callable[[], object]
    progress: Progress


def run_bench(
    models: Compiled | Mapping[str, Compiled],
    *,
    module_loader: Loader | Mapping[str, Loader] | None = None,
    engines: Sequence[str] = DEFAULT_ENGINES,
    batches: Sequence[int] = (1,),
    sequences: Sequence[int] = (128,),
    shapes: Sequence[Shape] | None = None,
    threads: int | None = None,
    rounds: int = 5,
    seconds: float = 0.5,
    least_calls: int = LEAST_CALLS,
    inputs: MakeInputs | None = None,
    vocabulary: int | None = None,
    density: Mapping[str, float] | None = None,
    cache: Path | None = None,
    deepsparse_python: str | Path | None = None,
    limit: bool = False,
    peak: Callable[[int], float] | None = None,
    meanwhile: Callable[[], object] | None = None,
    progress: Progress | None = None,
) -> Report:
    """Time engines side by side on every shape and compare their outputs.

    Of several models the first is run by every engine, the others by those alone that skip zeros:
    a dense engine takes as long for any weights. Each is compared with its own reference, PyTorch
    where it is among the engines and a loader for the model is given, else prunus without sparse
    kernels.

    Args:
        models: A compiled model, or several by name.
        module_loader: Makes the module that the rivals run; one for the first model, or several
            by the names of the models.
        engines: Names out of ``ENGINE_NAMES``, in the order of the rows.
        batches: Batch sizes, each combined with each of ``sequences``.
        sequences: Lengths in tokens.
        shapes: Pairs of batch and length, instead of the two above.
        threads: For every engine; those of the models unless given.
        rounds: Turns that every engine has at every shape.
        seconds: Length of a turn.
        least_calls: Of a turn, however long they take.
        inputs: Makes the inputs of a batch and length; random ids with nothing masked unless given.
        vocabulary: Number of ids to draw from; the models' own unless given.
        density: Share of the linear weights that is not zero, by model, for the header.
        cache: Folder where exports for the rivals are kept between runs.
        deepsparse_python: The interpreter that has DeepSparse, for the engine of that name; unless
            given, the environment variable ``PRUNUS_DEEPSPARSE_PYTHON``.
        limit: Also report the time that each row's operations take at the FMA peak.
        peak: Measures the FMA peak in FLOP/s of so many threads.
        meanwhile: Called once while the rivals load in their processes: what the caller must load
            itself costs least time then.
        progress: Told what is being done.

    Raises:
        InputError: For an unknown engine, a bad shape, or threads other than the models'.
    """
    named = models if isinstance(models, Mapping) else {"model": models}
    _check(named, rounds, least_calls)
    check_engines(engines, deepsparse_python)
    make_inputs, shapes = inputs or _random(named, vocabulary), _shapes(batches, sequences, shapes)
    folder = TemporaryDirectory(prefix="prunus-bench-")
    with folder, contextlib.ExitStack() as stack:
        session = Session(
            models=named,
            loaders=_loaders(module_loader, named),
            make_inputs=make_inputs,
            shapes=shapes,
            example=make_inputs(*shapes[0]),
            threads=_threads(named, threads),
            rounds=rounds,
            seconds=seconds,
            least_calls=least_calls,
            folder=cache or Path(folder.name),
            deepsparse_python=deepsparse_python,
            meanwhile=meanwhile or _nothing,
            progress=progress or _silent,
        )
        seats = _seats(session, engines, stack)
        session.progress("measuring the FMA peak")
        measure_peak = peak or _fma_peak()
        before = measure_peak(session.threads)
        rows = [row for shape in session.shapes for row in _rows(session, seats, shape)]
        # On a shared machine either measurement may be disturbed, and only downwards.
        measured = max(before, measure_peak(session.threads))
    return Report(
        machine=this_machine(),
        peak=measured,
        threads=session.threads,
        rounds=rounds,
        versions=_versions(seats),
        rows=with_ratios([*rows, *_left_out(seats)]),
        simulated={name: model.simulated for name, model in named.items() if model.simulated},
        density=density or {},
        limit=limit,
    )


def _seats(session: Session, engines: Sequence[str], stack: contextlib.ExitStack) -> list[Seat]:
    """Make every engine ready; those that cannot run keep the reason.

    They load at the same time, each in its process, and prepare one after the other.
    """
    seats = []
    for number, label in enumerate(session.models):
        wanted = engines if number == 0 else [name for name in engines if name in SKIP_ZEROS]
        seats += [_seat(session, label, name, stack) for name in wanted]
        if number > 0 and "torch" in engines and label in session.loaders:
            seats.append(_seat(session, label, "torch", stack, timed=False))
    session.meanwhile()
    _prepare(session, seats)
    for label in session.models:
        own = [seat for seat in seats if seat.label == label and seat.reason is None]
        if not any(seat.engine.name in REFERENCES for seat in own):
            reference = _seat(session, label, "prunus-dense", stack, timed=False)
            _prepare(session, [reference])
            seats.append(reference)
    return seats


def _seat(
    session: Session, label: str, name: str, stack: contextlib.ExitStack, timed: bool = True
) -> Seat:
    """An engine that begins to load."""
    session.progress(f"loading {name} for {label}")
    seat = Seat(label, make_engine(name, session.models[label], session.deepsparse_python), timed)
    stack.callback(seat.engine.close)
    job = Job(session.loaders.get(label), session.example, session.threads, session.folder)
    seat.reason = seat.engine.available()
    if seat.reason is None:
        _attempt(seat, partial(seat.engine.load, job))
    return seat


def _prepare(session: Session, seats: Sequence[Seat]) -> None:
    """Wait until all have loaded, then let one after the other prepare."""
    for seat in seats:
        if seat.reason is None:
            session.progress(f"waiting for {seat.engine.name} for {seat.label}")
            _attempt(seat, seat.engine.wait)
    for seat in seats:
        if seat.reason is None:
            session.progress(f"preparing {seat.engine.name} for {seat.label}")
            _attempt(seat, seat.engine.prepare)


def _rows(session: Session, seats: Sequence[Seat], shape: Shape) -> Iterator[Row]:
    """Let every seat answer at one shape, time them side by side, and make the rows."""
    inputs = session.make_inputs(*shape)
    # What fails at one shape (a length over the limit, say) may still run at the next.
    present = [Seat(s.label, s.engine, s.timed) for s in seats if s.reason is None]
    answers: list[Arrays | None] = []
    for seat in present:
        session.progress(f"{seat.engine.name} answers {shape[0]}x{shape[1]}")
        answers.append(_attempt(seat, partial(seat.engine.run, inputs)))
    timed = [seat for seat in present if seat.timed]
    session.progress(f"timing {shape[0]}x{shape[1]}")
    samples = interleave(
        [_turn(seat) for seat in timed],
        rounds=session.rounds,
        seconds=session.seconds,
        least_calls=session.least_calls,
        have_run=True,
    )
    taken = iter(samples)
    for seat, outputs in zip(present, answers, strict=True):
        if seat.timed:
            reference = _reference(seat.label, present, answers)
            row = _row(seat, shape, next(taken), inputs, outputs, reference)
            flops = session.models[seat.label].flops(dense=seat.engine.dense, **inputs)
            yield dataclasses.replace(row, flops=flops)


def _row(
    seat: Seat,
    shape: Shape,
    seconds: Sequence[float],
    inputs: Arrays,
    outputs: Arrays | None,
    reference: tuple[str, Arrays] | None,
) -> Row:
    difference = None
    note = seat.engine.note
    if outputs is not None and reference is not None:
        try:
            difference = largest_difference(outputs, reference[1], inputs)
        except InputError as error:
            note = f"{note}; {error}" if note else str(error)
    return Row(
        model=seat.label,
        engine=seat.engine.name,
        dense=seat.engine.dense,
        shape=shape,
        seconds=summarize(seconds) if seconds else None,
        difference=difference,
        reference=reference[0] if reference and outputs is not None else None,
        note=note,
        reason=seat.reason,
    )


def _left_out(seats: Sequence[Seat]) -> list[Row]:
    """One row for each engine that could not be prepared."""
    return [
        Row(seat.label, seat.engine.name, seat.engine.dense, shape=None, reason=seat.reason)
        for seat in seats
        if seat.timed and seat.reason is not None
    ]


def _turn(seat: Seat) -> Turn:
    """The seat's turn in a round; it drops out where its engine fails."""

    def turn(calls: int) -> list[float]:
        if seat.reason is None:
            return _attempt(seat, partial(seat.engine.time, calls)) or []
        return []

    return turn


def _reference(
    label: str, seats: Sequence[Seat], answers: Sequence[Arrays | None]
) -> tuple[str, Arrays] | None:
    """Name and outputs of the engine that this model's outputs are compared with."""
    for name in REFERENCES:
        for seat, outputs in zip(seats, answers, strict=True):
            if seat.label == label and seat.engine.name == name and outputs is not None:
                return name, outputs
    return None


def _attempt(seat: Seat, action: Callable[[], Answer]) -> Answer | None:
    """Do it; an error that prunus raises on purpose becomes the reason of the seat."""
    try:
        return action()
    except PrunusError as error:
        seat.reason = str(error)
        return None


def _check(models: Mapping[str, Compiled], rounds: int, least_calls: int) -> None:
    if not models:
        raise InputError("there is no model to time; give at least one")
    for name, value in (("rounds", rounds), ("least_calls", least_calls)):
        if value < 1:
            raise InputError(f"{name}={value}, expected at least 1")


def _threads(models: Mapping[str, Compiled], threads: int | None) -> int:
    counts = {name: model.threads for name, model in models.items()}
    wanted = next(iter(counts.values())) if threads is None else threads
    for name, count in counts.items():
        if count != wanted:
            raise InputError(
                f"{name} was compiled for {count} threads and the benchmark runs with {wanted}; "
                f"compile it with threads={wanted}"
            )
    return wanted


def _shapes(
    batches: Sequence[int], sequences: Sequence[int], shapes: Sequence[Shape] | None
) -> tuple[Shape, ...]:
    chosen = all_shapes(batches, sequences) if shapes is None else tuple(shapes)
    if not chosen:
        raise InputError("there is no shape to time; give at least one batch and one length")
    for shape in chosen:
        check_shape(shape)
    return tuple(dict.fromkeys(chosen))


def _loaders(
    loader: Loader | Mapping[str, Loader] | None, models: Mapping[str, Compiled]
) -> Mapping[str, Loader]:
    if loader is None:
        return {}
    return loader if isinstance(loader, Mapping) else {next(iter(models)): loader}


def _random(models: Mapping[str, Compiled], vocabulary: int | None) -> MakeInputs:
    """Random ids that every model knows, for the inputs of the first."""
    names = next(iter(models.values())).input_names
    sizes = [vocabulary] if vocabulary else [model.vocabulary for model in models.values()]
    known = [size for size in sizes if size is not None]
    return lambda batch, length: random_inputs(names, (batch, length), min(known, default=None))


def _versions(seats: Sequence[Seat]) -> dict[str, str]:
    versions = python_version()
    for seat in seats:
        if seat.reason is None:
            versions.update(seat.engine.versions())
    return versions


def _fma_peak() -> Callable[[int], float]:
    from prunus.kernels.peak import fma_peak

    return fma_peak


def _nothing() -> None:
    """A caller that has nothing to load."""


def _silent(_: str) -> None:
    """Progress that nobody watches."""
