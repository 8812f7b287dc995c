"""What the plan hands to the runtime: steps in order, native ones with all that binds their
arguments.

Sizes stay symbolic here; the executable binds them at a call.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from prunus.ir import Attrs, Expr, Node, TensorType, evaluate
from prunus.kernels.spec import Kernel
from prunus.runtime.packing import TOKENS, PackingRule
from prunus.runtime.weights import Form, Plain

Sizes = Mapping[str, int]

NO_ATTRS = Attrs()

PLAIN = Plain()


@dataclass(frozen=True, slots=True)
class Tiles:
    """Where an activation lies: rows `first` … `first + features` of the tiles of a buffer.

    Attributes:
        buffer: The name of the buffer in the arena.
        tokens: The tokens of the tensor: the product of all its dimensions but the last.
        rows: Rows of a tile of the buffer.
        first: The first row of this activation.
        features: Its rows.
    """

    buffer: str
    tokens: int | Expr
    rows: int
    first: int
    features: int


@dataclass(frozen=True, slots=True)
class Feed:
    """An argument that is an array which each call makes from plain values (ids, masks).

    Attributes:
        function: Of `host.FEEDS`, which makes it.
        values: The plain values that it gets.
        attrs: What it gets besides; dimensions are evaluated for the sizes of the call.
        by_token: Whether the array has a row for each token of the padded batch, of which the call
            picks those that it computes.
    """

    function: str
    values: tuple[str, ...]
    attrs: Attrs = NO_ATTRS
    by_token: bool = False


@dataclass(frozen=True, slots=True)
class Derived:
    """An argument that is an array which follows from the sizes alone, by a function of
    `host.DERIVED`.
    """

    function: str
    attrs: Attrs = NO_ATTRS


@dataclass(frozen=True, slots=True)
class OfPacking:
    """An argument that follows from which tokens of the batch are computed, by a function of
    `host.OF_PACKING`.
    """

    function: str
    attrs: Attrs = NO_ATTRS


@dataclass(frozen=True, slots=True)
class Fresh:
    """An argument that is a new array for a plain value of this type; where it has a row for each
    token of a padded batch, those at padding are 0.
    """

    value: str
    type: TensorType


@dataclass(frozen=True, slots=True)
class Stored:
    """An argument that is an array of a constant in some form.

    Attributes:
        constant: Its name.
        form: How it lies in memory.
        part: Which array of the form.
    """

    constant: str
    form: Form = PLAIN
    part: str = "array"


@dataclass(frozen=True, slots=True)
class Zeros:
    """An argument that is an array of so many float32 zeros."""

    count: int


BoundArgument = int | Expr | Tiles | Stored | Zeros | Feed | Derived | OfPacking | Fresh


@dataclass(frozen=True, slots=True)
class Work:
    """What a step costs, for `explain` and for a benchmark's share of the peak.

    Attributes:
        per_unit: Floating-point operations of a unit (a token, say), without those that zeros save.
        dense_per_unit: With those.
        units: The number of units at a call.
        bytes: Bytes of weights that a pass reads.
    """

    per_unit: int = 0
    dense_per_unit: int = 0
    units: int | Expr = 1
    bytes: int = 0

    def flops(self, sizes: Sizes, *, dense: bool = False) -> int:
        """Floating-point operations of a call; with `dense` also those that zeros save."""
        return (self.dense_per_unit if dense else self.per_unit) * evaluate(self.units, sizes)


@dataclass(frozen=True, slots=True)
class NativeStep:
    """One kernel over all its units.

    Attributes:
        name: The value that it computes.
        op: The op of the graph that it computes.
        kernel: For full tiles; `at` gives it for narrower ones.
        label: The kernel's name for people.
        tokens: Tokens by whose tiles the units go, or None if units are not tiles.
        units: Units of each tile; or their whole number where `tokens` is None.
        arguments: By the kernel's parameter names.
        scratch: Bytes of scratch that a worker needs.
        reason: Why this kernel, as a sentence.
        weight: The constant that it is about, if any.
    """

    name: str
    op: str
    kernel: Kernel
    label: str
    tokens: int | Expr | None
    units: int | Expr
    arguments: Mapping[str, BoundArgument]
    scratch: int | Expr = 0
    reason: str = ""
    weight: str | None = None
    work: Work = field(default_factory=Work)
    writes: frozenset[str] = frozenset()

    def buffers(self) -> frozenset[str]:
        """The buffers that it reads or writes."""
        return frozenset(a.buffer for a in self.arguments.values() if isinstance(a, Tiles))

    def reads_plain(self) -> frozenset[str]:
        """The plain values that its feeds are made from."""
        feeds = (a for a in self.arguments.values() if isinstance(a, Feed))
        return frozenset(name for feed in feeds for name in feed.values)

    def makes_plain(self) -> frozenset[str]:
        """The plain values that it writes."""
        return frozenset(a.value for a in self.arguments.values() if isinstance(a, Fresh))


@dataclass(frozen=True, slots=True)
class NumpyStep:
    """One op that runs on the interpreter, and why."""

    node: Node
    reason: str

    @property
    def is_view(self) -> bool:
        """Whether it only looks at its operand in another shape."""
        return self.node.op in ("reshape", "slice", "permute", "expand", "select")


Step = NativeStep | NumpyStep


@dataclass(frozen=True, slots=True)
class Buffer:
    """A place in the arena: rows of a tile, and the tokens that size it."""

    name: str
    rows: int
    tokens: int | Expr


@dataclass(frozen=True, slots=True)
class Program:
    """Everything that runs for one call, as data: constants are named, not held.

    Attributes:
        inputs: Their types by name.
        outputs: Their names.
        values: The types of the graph's values, each with the first value of it: sizes are checked
            for them before a call computes anything.
        steps: In the order in which they run.
        buffers: By name.
        constants: Those that are read as plain values, by steps on NumPy or as outputs.
        packing: How padding is left out, or why it is not.
    """

    inputs: Mapping[str, TensorType]
    outputs: tuple[str, ...]
    values: Mapping[TensorType, str]
    steps: tuple[Step, ...]
    buffers: Mapping[str, Buffer]
    constants: tuple[str, ...]
    packing: PackingRule | str

    def __str__(self) -> str:
        from prunus.runtime.program_text import print_program

        return print_program(self)

    def flops(self, sizes: Sizes, *, dense: bool = False) -> int:
        """Floating-point operations of a call without padding; with `dense` also those that zeros
        save.
        """
        sizes = self.without_padding(sizes)
        return sum(step.work.flops(sizes, dense=dense) for step in self.native_steps)

    def without_padding(self, sizes: Sizes) -> Sizes:
        """The sizes of a call with the number of its tokens, where none of them is padding."""
        if not isinstance(self.packing, PackingRule):
            return sizes
        rule = self.packing
        return {**sizes, TOKENS: evaluate(rule.batch, sizes) * evaluate(rule.length, sizes)}

    def constants_in_place(self) -> frozenset[str]:
        """The constants that a call may read where they lie, rather than a packed copy."""
        arguments = (each for step in self.native_steps for each in step.arguments.values())
        plain = (each for each in arguments if isinstance(each, Stored) and each.form == PLAIN)
        return frozenset((*self.constants, *(each.constant for each in plain)))

    @property
    def weight_bytes(self) -> int:
        """What a pass over all weights reads."""
        return sum(step.work.bytes for step in self.native_steps)

    @property
    def native_steps(self) -> tuple[NativeStep, ...]:
        """The steps that run natively."""
        return tuple(step for step in self.steps if isinstance(step, NativeStep))

    @property
    def numpy_steps(self) -> tuple[NumpyStep, ...]:
        """The steps that run on the interpreter."""
        return tuple(step for step in self.steps if isinstance(step, NumpyStep))
