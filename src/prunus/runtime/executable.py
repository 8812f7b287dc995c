"""Runs a program: binds it to sizes once, then feeds and walks it at each call."""

from __future__ import annotations

import os
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, takewhile
from typing import TypeVar

import numpy as np

from prunus.errors import GraphError, InputError
from prunus.ir import bind_node, bind_sizes, evaluate
from prunus.ir.size_check import SizeCheck, memory_error
from prunus.kernels.layout import LINE, padded
from prunus.kernels.target import Target
from prunus.native_threads import new_lock
from prunus.runtime.arena import Arena, Placement
from prunus.runtime.chains import chains_pay
from prunus.runtime.memory import call_memory
from prunus.runtime.packing import TOKENS, Packing, PackingRule, lengths_of, packed, whole
from prunus.runtime.parts import divide, most_tokens
from prunus.runtime.pool import pool
from prunus.runtime.program import NativeStep, NumpyStep, Program, Sizes, Step
from prunus.runtime.segment import Segment, Template
from prunus.runtime.trace import Recorder
from prunus.runtime.weights import Weights

BOUND_SIZES = 64
"""Bindings that are kept: each is a few tens of kilobytes."""

Values = dict[str, np.ndarray]
Key = tuple[tuple[str, int], ...]
Bound = TypeVar("Bound")


@dataclass(slots=True)
class NumpyCall:
    """One interpreter step with its attributes evaluated."""

    name: str
    inputs: tuple[str | None, ...]
    call: Callable[[Sequence[np.ndarray | None]], np.ndarray]

    def run(self, values: Values, recorder: Recorder | None) -> None:
        """Compute its value from those that are there."""
        begin = recorder.now() if recorder else 0
        values[self.name] = self.call([None if n is None else values[n] for n in self.inputs])
        if recorder:
            recorder.numpy(self.name, begin)


class Executable:
    """A program with its memory and its workers. Calls from several threads take turns."""

    def __init__(self, program: Program, weights: Weights, *, target: Target, threads: int) -> None:
        self.program = program
        self.target = target
        self.threads = threads
        self.arena = Arena()
        self.most = most_tokens(program.weight_bytes, threads)
        self._scratch = Arena()
        self._placements: dict[bool, Placement] = {}
        self._stride = 0
        self._generation = 0
        self._prologue, steps = _split(program.steps)
        self._size_check = SizeCheck(program.values)
        self._constants = {name: weights.dense(name) for name in program.constants}
        self._parts = [
            part if isinstance(part, NumpyStep) else Template(part, weights, target, threads)
            for part in _group(steps)
        ]
        self._prologues: OrderedDict[Key, list[NumpyCall]] = OrderedDict()
        self._bindings: OrderedDict[Key, list[Segment | NumpyCall]] = OrderedDict()
        self._lock = new_lock()
        self._owners = _owners(program)
        _executables.add(self)

    def renew(self) -> None:
        """In a forked child: forget what another thread held or was changing at that moment."""
        self._lock = new_lock()
        self._prologues.clear()
        self._bindings.clear()

    def run(
        self, inputs: Values, sizes: dict[str, int], recorder: Recorder | None = None
    ) -> list[np.ndarray]:
        """The outputs for inputs whose dtypes and shapes have been checked against the graph.

        Raises:
            InputError: the model cannot be computed for these values or sizes.
        """
        try:
            with self._lock:
                parts = [self._call(*each, recorder) for each in self._divide(inputs, sizes)]
        except GraphError as error:
            raise InputError(f"the model does not take these inputs: {error}") from error
        return (
            parts[0] if len(parts) == 1 else [np.concatenate(o) for o in zip(*parts, strict=True)]
        )

    def _divide(self, inputs: Values, sizes: Sizes) -> Iterator[tuple[Values, Sizes]]:
        """The call, in parts of whole sequences where it has too many tokens."""
        rule = self.program.packing
        batch, length = self._padded_sizes(sizes)
        if not isinstance(rule, PackingRule) or not rule.splits or batch * length <= self.most:
            yield inputs, sizes
            return
        values = self._prepared(inputs, sizes, None)
        bounds = divide(self._packing(values, sizes).starts, self.most)
        for first, end in pairwise(bounds):
            part = {name: array[first:end] for name, array in inputs.items()}
            yield part, bind_sizes(self.program.inputs, part)

    def _prepared(self, inputs: Values, sizes: Sizes, recorder: Recorder | None) -> Values:
        """The inputs, the constants, and what the prologue makes of them."""
        values: Values = {**self._constants, **inputs}
        for call in _cached(self._prologues, _key(sizes), lambda: self._bind_prologue(sizes)):
            call.run(values, recorder)
        return values

    def _call(self, inputs: Values, sizes: Sizes, recorder: Recorder | None) -> list[np.ndarray]:
        values = self._prepared(inputs, sizes, recorder)
        packing = self._packing(values, sizes)
        for part in self._bind(sizes, packing):
            if isinstance(part, NumpyCall):
                part.run(values, recorder)
            else:
                self._walk(part, values, packing, recorder)
        return self._answers(values)

    def _answers(self, values: Values) -> list[np.ndarray]:
        """The outputs as contiguous arrays, each with memory of its own."""
        taken = {*self.program.inputs, *self.program.constants}
        answers = []
        for name in self.program.outputs:
            array, owner = values[name], self._owners.get(name, name)
            if owner in taken or not array.flags.carray:  # an expanded one cannot be written to
                array = array.copy(order="C")
            else:
                taken.add(owner)
            answers.append(array)
        return answers

    def _packing(self, values: Values, sizes: Sizes) -> Packing:
        """Which tokens this call computes: all, unless the mask says how long each sequence is."""
        rule, (batch, length) = self.program.packing, self._padded_sizes(sizes)
        if isinstance(rule, PackingRule) and rule.mask is not None:
            lengths = lengths_of(values[rule.mask], batch, length)
            if lengths is not None and lengths.sum() < batch * length:
                return packed(lengths, length)
        return whole(batch, length)

    def _padded_sizes(self, sizes: Sizes) -> tuple[int, int]:
        """Sequences, and tokens of each with its padding; 0 where the program has no such form."""
        rule = self.program.packing
        if not isinstance(rule, PackingRule):
            return 0, 0
        return evaluate(rule.batch, sizes), evaluate(rule.length, sizes)

    def _walk(
        self, segment: Segment, values: Values, packing: Packing, recorder: Recorder | None
    ) -> None:
        fed = segment.feed(values, packing)
        header, names = segment.header, segment.names
        if recorder:
            recorder.attach(header, workers=self.threads, steps=len(names), units=segment.units)
        pool(self.threads).run(header.ctypes.data)
        if recorder:
            recorder.detach(header, names)
        del fed  # not before: the workers read it

    def _bind_prologue(self, sizes: Sizes) -> list[NumpyCall]:
        self._size_check.check(sizes, max_bytes=call_memory())
        return [_numpy_call(step, sizes) for step in self._prologue]

    def _bind(self, sizes: Sizes, packing: Packing) -> list[Segment | NumpyCall]:
        """The parts after the prologue, bound to sizes."""
        # In whole quanta: fewer bindings, and only the way in and out needs the exact number.
        sizes = {**sizes, TOKENS: padded(packing.count)}
        self._forget_moved()
        return _cached(
            self._bindings, _key(sizes), lambda: self._bind_parts(sizes, self._make_room(sizes))
        )

    def _forget_moved(self) -> None:
        """Forget bindings to memory that has moved since, even in a call that was interrupted."""
        generation = self.arena.generation + self._scratch.generation
        if generation != self._generation:
            self._bindings.clear()
            self._generation = generation

    def _make_room(self, sizes: Sizes) -> Placement:
        """Where buffers lie at a call, and how much scratch each worker has, for it and for all
        calls so far.

        Raises:
            InputError: that is more memory than a call may use; then nothing has changed.
        """
        buffers = self.program.buffers.items()
        tokens = {name: evaluate(buffer.tokens, sizes) for name, buffer in buffers}
        scratch = max(
            (evaluate(step.scratch, sizes) for step in self.program.native_steps), default=0
        )
        chained = chains_pay(max(tokens.values(), default=0), self.threads)
        placement = self._placements.get(chained)
        if placement is None or not placement.fits(tokens):
            so_far = placement.tokens if placement else {}
            most = {name: max(count, so_far.get(name, 0)) for name, count in tokens.items()}
            placement = Placement(self.program, most, chained=chained)
        stride = max(self._stride, -(-scratch // LINE) * LINE + LINE)
        needed = placement.nbytes + stride * self.threads
        if needed > call_memory():
            raise memory_error("this call", needed, call_memory())
        self._placements[chained], self._stride = placement, stride
        return placement

    def _bind_parts(self, sizes: Sizes, placement: Placement) -> list[Segment | NumpyCall]:
        base = self.arena.reserve(placement.nbytes)
        scratch = self._scratch.reserve(self._stride * self.threads)
        self._forget_moved()
        return [
            _numpy_call(part, sizes)
            if isinstance(part, NumpyStep)
            else part.bind(sizes, placement, base, scratch, self._stride)
            for part in self._parts
        ]


def _key(sizes: Sizes) -> Key:
    return tuple(sorted(sizes.items()))


def _cached(entries: OrderedDict[Key, Bound], key: Key, make: Callable[[], Bound]) -> Bound:
    """The entry of this key, made if there is none; the least recently used goes."""
    if key not in entries:
        entries[key] = make()
        while len(entries) > BOUND_SIZES:
            entries.popitem(last=False)
    entries.move_to_end(key)
    return entries[key]


def _numpy_call(step: NumpyStep, sizes: Sizes) -> NumpyCall:
    return NumpyCall(step.node.name, step.node.inputs, bind_node(step.node, sizes))


def _split(steps: Sequence[Step]) -> tuple[list[NumpyStep], Sequence[Step]]:
    """The steps on NumPy before the first native one, and the rest."""
    before = list(takewhile(lambda step: isinstance(step, NumpyStep), steps))
    return [step for step in before if isinstance(step, NumpyStep)], steps[len(before) :]


def _owners(program: Program) -> dict[str, str]:
    """For each view: the value whose memory it shares. Where that is an input, a constant or
    another output, the answer is a copy: else changing it would change the model or that output.
    """
    owners: dict[str, str] = {}
    for step in program.numpy_steps:
        if step.is_view:
            x = step.node["x"]
            owners[step.node.name] = owners.get(x, x)
    return owners


def _group(steps: Sequence[Step]) -> Iterator[list[NativeStep] | NumpyStep]:
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


_executables: weakref.WeakSet[Executable] = weakref.WeakSet()


def _renew_all() -> None:
    for executable in list(_executables):
        executable.renew()


if hasattr(os, "register_at_fork"):
    # Before the child's first call: two threads that call first would each see a new lock.
    os.register_at_fork(after_in_child=_renew_all)
