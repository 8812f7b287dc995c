"""Runs a program: binds it to sizes once, then feeds and walks it at each call."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from prunus.ir import Expr, bind_node, evaluate
from prunus.ir.types import DTYPES
from prunus.kernels.layout import TILE, last_width, tiles
from prunus.kernels.spec import Argument, Kernel, TileArgument
from prunus.kernels.target import Target
from prunus.runtime import walker
from prunus.runtime.arena import Arena, aligned_words, buffer_bytes, plan_arena
from prunus.runtime.pool import pool
from prunus.runtime.program import (
    Derived,
    Feed,
    Fresh,
    NativeStep,
    NumpyStep,
    Program,
    Sizes,
    Step,
    Tiles,
)

BOUND_SIZES = 32
"""Bindings that are kept: each is a few tens of kilobytes."""

Values = dict[str, np.ndarray]


@dataclass(slots=True)
class Segment:
    """Native steps that run in one wake-up of the workers.

    Attributes:
        header: The program's words, whose address the pool gets.
        claims: The units still to claim; `fresh_claims` is how they start.
        words: The arguments of all steps.
        feeds: Where in `words` the address of an array goes that each call makes.
        fresh: The same for results, with their names, shapes and dtypes.
    """

    header: np.ndarray
    records: np.ndarray
    claims: np.ndarray
    fresh_claims: np.ndarray
    words: np.ndarray
    feeds: list[tuple[int, Feed]] = field(default_factory=list)
    fresh: list[tuple[int, str, tuple[int, ...], np.dtype]] = field(default_factory=list)


@dataclass(slots=True)
class NumpyCall:
    """One interpreter step with its attributes evaluated."""

    name: str
    inputs: tuple[str | None, ...]
    call: Callable[[Sequence[np.ndarray | None]], np.ndarray]


@dataclass(slots=True)
class Binding:
    """A program bound to sizes and to the arena's present address."""

    sizes: dict[str, int]
    parts: list[Segment | NumpyCall]
    keep: list[object]
    generation: int


class Executable:
    """A program with its memory and its workers. Calls from several threads take turns."""

    def __init__(self, program: Program, *, target: Target, threads: int) -> None:
        self.program = program
        self.target = target
        self.threads = threads
        self.arena = Arena()
        self._scratch = Arena()
        self._bindings: OrderedDict[tuple[tuple[str, int], ...], Binding] = OrderedDict()
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._borrowed = _borrowed(program)

    def run(self, inputs: Values, sizes: dict[str, int]) -> list[np.ndarray]:
        """The outputs for inputs whose dtypes and shapes have been checked against the graph."""
        if self._process != os.getpid():
            # Forked: a lock that another thread held at that moment would never be released here.
            self._lock, self._process = threading.Lock(), os.getpid()
        with self._lock:
            binding = self._bind(sizes)
            values: Values = {**self.program.constants, **inputs}
            for part in binding.parts:
                if isinstance(part, NumpyCall):
                    operands = [None if n is None else values[n] for n in part.inputs]
                    values[part.name] = part.call(operands)
                else:
                    self._walk(part, values, binding.sizes)
            return [
                values[name].copy() if name in self._borrowed else values[name]
                for name in self.program.graph.outputs
            ]

    def _walk(self, segment: Segment, values: Values, sizes: Sizes) -> None:
        made: dict[int, np.ndarray] = {}  # twelve layers read one mask
        for position, feed in segment.feeds:
            if id(feed) not in made:
                made[id(feed)] = feed.prepare([values[name] for name in feed.values], sizes)
            segment.words[position] = made[id(feed)].ctypes.data
        for position, name, shape, dtype in segment.fresh:
            values[name] = np.empty(shape, dtype)
            segment.words[position] = values[name].ctypes.data
        segment.claims[:] = segment.fresh_claims
        pool(self.threads).run(segment.header.ctypes.data)

    def _bind(self, sizes: dict[str, int]) -> Binding:
        key = tuple(sorted(sizes.items()))
        binding = self._bindings.get(key)
        if binding is None or binding.generation != self._generation:
            binding = self._bindings[key] = _Binder(self, sizes).bind()
            while len(self._bindings) > BOUND_SIZES:
                self._bindings.popitem(last=False)
        self._bindings.move_to_end(key)
        return binding

    @property
    def _generation(self) -> int:
        return self.arena.generation + self._scratch.generation

    def reserve_scratch(self, size: int) -> int:
        """The address of scratch for all workers."""
        return self._scratch.reserve(size)


def _borrowed(program: Program) -> frozenset[str]:
    """The plain values that share memory with an input or a constant: as an answer they are copied,
    or changing it would change the model.
    """
    borrowed = {*program.graph.inputs, *program.constants}
    for step in program.numpy_steps:
        if step.is_view and step.node.inputs[0] in borrowed:
            borrowed.add(step.node.name)
    return frozenset(borrowed)


def _parts(steps: Sequence[Step]) -> Iterator[list[NativeStep] | NumpyStep]:
    """The native steps between two on NumPy together, unless one of them is fed with what another
    writes: feeds are made before a segment starts.
    """
    group: list[NativeStep] = []
    made: set[str] = set()
    for step in steps:
        if group and (isinstance(step, NumpyStep) or step.reads_plain() & made):
            yield group
            group, made = [], set()
        if isinstance(step, NumpyStep):
            yield step
        else:
            group.append(step)
            made |= step.makes_plain()
    if group:
        yield group


class _Binder:
    """Turns the symbolic steps of a program into words for given sizes."""

    def __init__(self, executable: Executable, sizes: dict[str, int]) -> None:
        self.executable, self.sizes = executable, sizes
        self.program = executable.program
        self.types = self.program.graph.types()
        self.keep: list[object] = []

    def bind(self) -> Binding:
        tokens = {
            name: evaluate(buffer.tokens, self.sizes)
            for name, buffer in self.program.buffers.items()
        }
        offsets, size = plan_arena(self.program, tokens)
        base = self.executable.arena.reserve(size)
        self.addresses = {name: base + offset for name, offset in offsets.items()}
        self.spans = {
            name: (at, at + buffer_bytes(self.program.buffers[name], tokens[name]))
            for name, at in offsets.items()
        }
        native = self.program.native_steps
        stride = max((-(-step.scratch(self.sizes) // 64) * 64 for step in native), default=0) + 64
        scratch = self.executable.reserve_scratch(stride * self.executable.threads)
        parts = [
            NumpyCall(part.node.name, part.node.inputs, bind_node(part.node, self.sizes))
            if isinstance(part, NumpyStep)
            else self._segment(part, scratch, stride)
            for part in _parts(self.program.steps)
        ]
        generation = self.executable._generation
        return Binding(dict(self.sizes), parts, self.keep, generation)

    def _segment(self, steps: list[NativeStep], scratch: int, stride: int) -> Segment:
        workers = self.executable.threads
        records = np.zeros((len(steps), walker.STEP_WORDS), np.int64)
        claims = np.zeros((len(steps), workers, walker.CLAIM_BYTES // 8), np.int64)
        starts: list[int] = []
        flat: list[int] = []
        segment = Segment(aligned_words(walker.PROGRAM_WORDS), records, claims, claims, claims)
        barriers = self._barriers(steps)
        for i, step in enumerate(steps):
            starts.append(len(flat))
            kernel, tail_kernel, units, tail = self._kernels(step)
            flat += self._words(step, kernel, len(flat), segment)
            records[i, 1:5] = (
                kernel.address(self.executable.target),
                tail_kernel.address(self.executable.target),
                tail,
                barriers[i],
            )
            bounds = np.linspace(0, units, workers + 1).astype(np.int64)
            claims[i, :, 0], claims[i, :, 1] = bounds[:-1], bounds[1:]
        segment.words = np.array(flat, np.int64)
        records[:, walker.STEP_ARGUMENTS] = segment.words.ctypes.data + np.array(starts) * 8
        segment.fresh_claims = claims
        segment.claims = aligned_words(claims.size).reshape(claims.shape)
        segment.header[:5] = (
            len(steps), records.ctypes.data, segment.claims.ctypes.data, scratch, stride,
        )  # fmt: skip
        return segment

    def _kernels(self, step: NativeStep) -> tuple[Kernel, Kernel, int, int]:
        """The kernels of full tiles and of the last one, the number of units, and the first unit of
        the last tile.
        """
        units = evaluate(step.units, self.sizes)
        if step.tokens is None:
            return step.kernel(TILE), step.kernel(TILE), units, units
        tokens = evaluate(step.tokens, self.sizes)
        count, width = tiles(tokens), last_width(tokens)
        full = step.kernel(TILE if count > 1 or width == TILE else width)
        return full, step.kernel(width), count * units, (count - 1) * units

    def _words(
        self, step: NativeStep, kernel: Kernel, position: int, segment: Segment
    ) -> list[int]:
        arguments: dict[str, Argument] = {}
        for name, argument in step.arguments.items():
            at = position + kernel.parameters.index(name)
            match argument:
                case Feed():
                    segment.feeds.append((at, argument))
                    arguments[name] = 0
                case Fresh(value=value):
                    type = self.types[value]
                    segment.fresh.append((at, value, type.sizes(self.sizes), DTYPES[type.dtype]))
                    arguments[name] = 0
                case Derived(compute=compute):
                    computed = compute(self.sizes)
                    arguments[name] = self._address(computed)
                case Tiles():
                    address = self.addresses[argument.buffer]
                    arguments[name] = TileArgument(address, argument.rows, argument.first)
                case Expr():
                    arguments[name] = evaluate(argument, self.sizes)
                case _:
                    arguments[name] = self._address(argument)
        return kernel.words(arguments)

    def _address(self, argument: int | np.ndarray) -> int:
        if isinstance(argument, np.ndarray):
            self.keep.append(argument)
            return argument.ctypes.data
        return int(argument)

    def _barriers(self, steps: list[NativeStep]) -> list[bool]:
        """Whether a step must wait: it reads or overwrites memory that was written since the last
        barrier, or writes memory that was read since then.
        """
        needed, read, written = [], set[str](), set[str]()
        for step in steps:
            touches = step.buffers()
            wait = self._overlap(touches, written) or self._overlap(step.writes, read)
            if wait:
                read, written = set(), set()
            needed.append(wait)
            read |= touches - step.writes
            written |= step.writes
        return needed

    def _overlap(self, some: frozenset[str], others: set[str]) -> bool:
        """Whether buffers share memory; two that are never alive together may lie in the same
        place.
        """
        return any(self._shares(a, b) for a in some for b in others)

    def _shares(self, a: str, b: str) -> bool:
        (a_low, a_high), (b_low, b_high) = self.spans[a], self.spans[b]
        return a_low < b_high and b_low < a_high
