"""A small vocabulary in which kernels are written: values with operators, vectors, loops,
variables.

A kernel is a Python function that gets an `Emitter` and writes LLVM IR through it. Every kernel has
one signature, `void kernel(i64 *words, i64 unit, i8 *scratch)`: `words` are its arguments, `unit`
is the piece of work to do (a worker claims one after another), and `scratch` is memory of the
calling worker. Loops of the kernel are `k.loop`; loops of Python unroll.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from llvmlite import ir

from prunus.kernels.layout import FLOAT, QUANTUM, TILE
from prunus.kernels.target import AVX512, Target

I8, I16, I32, I64, F32 = (
    ir.IntType(8),
    ir.IntType(16),
    ir.IntType(32),
    ir.IntType(64),
    ir.FloatType(),
)
POINTER = ir.PointerType()


class Value:
    """A 64-bit integer, an address, a float, a vector of floats, or a comparison of such, in the
    emitted code.
    """

    __slots__ = ("builder", "ir")

    def __init__(self, builder: ir.IRBuilder, value: ir.Value) -> None:
        self.builder = builder
        self.ir = value

    def _operand(self, other: Value | int | float) -> ir.Value:
        if isinstance(other, Value):
            return other.ir
        if isinstance(self.ir.type, ir.VectorType):
            return ir.Constant(self.ir.type, [other] * self.ir.type.count)
        return ir.Constant(self.ir.type, other)

    def _is_float(self) -> bool:
        kind = self.ir.type
        return isinstance(kind.element if isinstance(kind, ir.VectorType) else kind, ir.FloatType)

    def _binary(self, other: Value | int | float, integer: str, floating: str | None) -> Value:
        name = floating if self._is_float() else integer
        assert name is not None, f"{integer} is for integers"
        return Value(self.builder, getattr(self.builder, name)(self.ir, self._operand(other)))

    def _compare(self, other: Value | int | float, sign: str) -> Value:
        compare = self.builder.fcmp_ordered if self._is_float() else self.builder.icmp_signed
        return Value(self.builder, compare(sign, self.ir, self._operand(other)))

    def __add__(self, other: Value | int | float) -> Value:
        if isinstance(self.ir.type, ir.PointerType):
            offset = other.ir if isinstance(other, Value) else ir.Constant(I64, other)
            return Value(self.builder, self.builder.gep(self.ir, [offset], source_etype=I8))
        return self._binary(other, "add", "fadd")

    def __sub__(self, other: Value | int | float) -> Value:
        return self._binary(other, "sub", "fsub")

    def __mul__(self, other: Value | int | float) -> Value:
        return self._binary(other, "mul", "fmul")

    def __truediv__(self, other: Value | int | float) -> Value:
        return self._binary(other, "sdiv", "fdiv")

    def __floordiv__(self, other: Value | int) -> Value:
        """Unsigned: sizes and indices are never negative."""
        return self._binary(other, "udiv", None)

    def __mod__(self, other: Value | int) -> Value:
        return self._binary(other, "urem", None)

    def __and__(self, other: Value | int) -> Value:
        return self._binary(other, "and_", None)

    def __lt__(self, other: Value | int | float) -> Value:
        return self._compare(other, "<")

    def __le__(self, other: Value | int | float) -> Value:
        return self._compare(other, "<=")

    def __gt__(self, other: Value | int | float) -> Value:
        return self._compare(other, ">")

    def __ge__(self, other: Value | int | float) -> Value:
        return self._compare(other, ">=")

    def equals(self, other: Value | int | float) -> Value:
        """Whether the two are equal; `==` stays Python's."""
        return self._compare(other, "==")

    def select(self, yes: Value, no: Value) -> Value:
        """`yes` where this comparison holds, else `no`."""
        return Value(self.builder, self.builder.select(self.ir, yes.ir, no.ir))

    def minimum(self, other: Value | int | float) -> Value:
        """The smaller of the two."""
        return (self < other).select(self, Value(self.builder, self._operand(other)))

    def maximum(self, other: Value | int | float) -> Value:
        """The larger of the two; `other` where this is NaN."""
        return (self > other).select(self, Value(self.builder, self._operand(other)))


class Variable:
    """A value that changes: an accumulator or a cursor. LLVM keeps it in a register."""

    __slots__ = ("_builder", "_slot", "_type")

    def __init__(self, emitter: Emitter, initial: Value) -> None:
        self._builder = emitter.builder
        self._type = initial.ir.type
        with emitter.builder.goto_block(emitter.entry):
            self._slot = emitter.builder.alloca(self._type)
        self.set(initial)

    def get(self) -> Value:
        """The present value."""
        return Value(self._builder, self._builder.load(self._slot, typ=self._type))

    def set(self, value: Value) -> None:
        """Change it."""
        self._builder.store(value.ir, self._slot)

    def step(self, by: int | Value) -> Value:
        """The present value, which is then moved on by `by`: how a cursor reads a stream."""
        value = self.get()
        self.set(value + by)
        return value


@dataclass(frozen=True, slots=True)
class TileOperand:
    """One token tile of an activation: rows are features, lanes are tokens."""

    base: Value
    row_bytes: int

    def row(self, feature: Value | int) -> Value:
        """The address of a feature's lanes."""
        return self.base + feature * self.row_bytes


class Emitter:
    """Writes one kernel for one target."""

    def __init__(self, target: Target, symbol: str, parameters: Sequence[str]) -> None:
        self.target = target
        self.lanes = target.lanes
        self.vector_type = ir.VectorType(F32, target.lanes)
        self.module = ir.Module(name=symbol)
        self.module.triple = target.triple
        kernel = ir.FunctionType(ir.VoidType(), [POINTER, I64, POINTER])
        self.function = ir.Function(self.module, kernel, symbol)
        self.function.args[0].add_attribute("noalias")
        # Allocas live in a block of their own, in front of all code.
        self.entry = self.function.append_basic_block("entry")
        self.builder = ir.IRBuilder(self.function.append_basic_block("body"))
        self._words = {name: position for position, name in enumerate(parameters)}
        self.unit = Value(self.builder, self.function.args[1])
        self.scratch = Value(self.builder, self.function.args[2])

    def finish(self) -> str:
        """The module's text."""
        body = self.function.basic_blocks[1]
        with self.builder.goto_block(self.entry):
            self.builder.branch(body)
        self.builder.ret_void()
        return str(self.module)

    # Arguments

    def integer(self, value: int | Value) -> Value:
        """A 64-bit integer constant."""
        if isinstance(value, Value):
            return value
        return Value(self.builder, ir.Constant(I64, value))

    def number(self, value: float) -> Value:
        """A float constant."""
        return Value(self.builder, ir.Constant(F32, value))

    def word(self, name: str) -> Value:
        """An integer argument."""
        at = self.builder.gep(
            self.function.args[0], [ir.Constant(I64, self._words[name])], source_etype=I64
        )
        return Value(self.builder, self.builder.load(at, typ=I64))

    def address(self, name: str) -> Value:
        """An argument that is an address."""
        return self.as_address(self.word(name))

    def as_address(self, integer: Value) -> Value:
        """An integer as an address."""
        return Value(self.builder, self.builder.inttoptr(integer.ir, POINTER))

    def tile(self, name: str, tile: Value, width: int) -> TileOperand:
        """Tile number `tile` (of `width` tokens) of the activation argument `name`.

        It is passed as three words: the base address, `name.features` (rows of a tile in memory)
        and `name.first` (the first row that the kernel may see, for a slice of a wider tensor).
        """
        full_tiles = tile * self.word(f"{name}.features") * (TILE * FLOAT)
        first = self.word(f"{name}.first") * (width * FLOAT)
        return TileOperand(self.address(name) + (full_tiles + first), width * FLOAT)

    # Memory

    def load_int(self, address: Value, bits: int) -> Value:
        """An unsigned integer of 8, 16, 32 or 64 bits, widened to 64."""
        loaded = self.builder.load(address.ir, typ=ir.IntType(bits), align=1)
        return Value(self.builder, loaded if bits == 64 else self.builder.zext(loaded, I64))

    def load_float(self, address: Value) -> Value:
        """One float."""
        return Value(self.builder, self.builder.load(address.ir, typ=F32, align=FLOAT))

    def store_float(self, value: Value, address: Value) -> None:
        """Write one float."""
        self.builder.store(value.ir, address.ir, align=FLOAT)

    def load(self, address: Value, *, aligned: bool = True) -> Value:
        """A vector of floats. Rows of tiles are aligned to a vector, anything else may not be."""
        align = self.lanes * FLOAT if aligned else FLOAT
        return Value(self.builder, self.builder.load(address.ir, typ=self.vector_type, align=align))

    def store(self, value: Value, address: Value, *, aligned: bool = True) -> None:
        """Write a vector of floats."""
        self.builder.store(value.ir, address.ir, align=self.lanes * FLOAT if aligned else FLOAT)

    def load_row(self, address: Value, vectors: int) -> list[Value]:
        """So many vectors side by side."""
        return [self.load(address + v * self.lanes * FLOAT) for v in range(vectors)]

    def store_row(self, values: Sequence[Value], address: Value) -> None:
        """Write vectors side by side."""
        for v, value in enumerate(values):
            self.store(value, address + v * self.lanes * FLOAT)

    def prefetch(self, address: Value) -> None:
        """Bring a cache line nearer; any address is allowed."""
        kind = ir.FunctionType(ir.VoidType(), [POINTER, I32, I32, I32])
        function = self._declare("llvm.prefetch.p0", kind)
        to_read, all_caches, data = (ir.Constant(I32, flag) for flag in (0, 3, 1))
        self.builder.call(function, [address.ir, to_read, all_caches, data])

    # Vectors

    def splat(self, scalar: Value | float) -> Value:
        """A vector with one value in every lane."""
        if not isinstance(scalar, Value):
            return Value(self.builder, ir.Constant(self.vector_type, [scalar] * self.lanes))
        undefined = ir.Constant(self.vector_type, ir.Undefined)
        first = self.builder.insert_element(undefined, scalar.ir, ir.Constant(I32, 0))
        lanes = ir.Constant(ir.VectorType(I32, self.lanes), [0] * self.lanes)
        return Value(self.builder, self.builder.shuffle_vector(first, undefined, lanes))

    def broadcast(self, address: Value) -> Value:
        """A vector with the float at `address` in every lane."""
        return self.splat(self.load_float(address))

    def lane(self, vector: Value, lane: int) -> Value:
        """One element of a vector."""
        return Value(self.builder, self.builder.extract_element(vector.ir, ir.Constant(I32, lane)))

    def vector(self, elements: Sequence[Value]) -> Value:
        """A vector of so many floats."""
        result = ir.Constant(self.vector_type, ir.Undefined)
        for lane, element in enumerate(elements):
            result = self.builder.insert_element(result, element.ir, ir.Constant(I32, lane))
        return Value(self.builder, result)

    def fma(self, a: Value, b: Value, c: Value) -> Value:
        """a · b + c, rounded once."""
        return self._intrinsic("llvm.fma", a, b, c)

    def _intrinsic(self, name: str, *operands: Value) -> Value:
        """An intrinsic of LLVM on vectors."""
        kind = ir.FunctionType(self.vector_type, [self.vector_type] * len(operands))
        function = self._declare(f"{name}.v{self.lanes}f32", kind)
        return Value(self.builder, self.builder.call(function, [o.ir for o in operands]))

    def _declare(self, name: str, kind: ir.FunctionType) -> ir.Function:
        return self.module.globals.get(name) or ir.Function(self.module, kind, name)

    def floor(self, x: Value) -> Value:
        """The largest integers not above x."""
        return self._intrinsic("llvm.floor", x)

    def sqrt(self, x: Value) -> Value:
        """The square root."""
        return self._intrinsic("llvm.sqrt", x)

    def magnitude(self, x: Value) -> Value:
        """The absolute value."""
        return self._intrinsic("llvm.fabs", x)

    def round(self, x: Value) -> Value:
        """The nearest integers, of two the even one."""
        return self._intrinsic("llvm.rint", x)

    def scale(self, x: Value, exponent: Value) -> Value:
        """x · 2^exponent, for integral exponents (as floats) from -126 to 127."""
        if self.target.isa is AVX512:
            return self._scalef(x, exponent)
        integers = ir.VectorType(I32, self.lanes)
        whole = self.builder.fptosi(exponent.ir, integers)
        biased = self.builder.add(whole, ir.Constant(integers, [127] * self.lanes))
        bits = self.builder.shl(biased, ir.Constant(integers, [23] * self.lanes))
        return x * Value(self.builder, self.builder.bitcast(bits, self.vector_type))

    def _scalef(self, x: Value, exponent: Value) -> Value:
        """One instruction of AVX-512 instead of four."""
        vector, mask = self.vector_type, ir.IntType(self.lanes)
        kind = ir.FunctionType(vector, [vector, vector, vector, mask, I32])
        function = self._declare("llvm.x86.avx512.mask.scalef.ps.512", kind)
        every, rounding = ir.Constant(mask, -1), ir.Constant(I32, 4)  # 4: as the processor is set
        operands = [x.ir, exponent.ir, x.ir, every, rounding]
        return Value(self.builder, self.builder.call(function, operands))

    def lane_numbers(self) -> Value:
        """0, 1, 2, … as floats."""
        return Value(
            self.builder, ir.Constant(self.vector_type, [float(i) for i in range(self.lanes)])
        )

    def as_float(self, integer: Value) -> Value:
        """An integer as a float."""
        return Value(self.builder, self.builder.sitofp(integer.ir, F32))

    # Control

    def variable(self, initial: Value) -> Variable:
        """A value that changes."""
        return Variable(self, initial)

    @contextmanager
    def loop(self, stop: Value | int, *, start: Value | int = 0, step: int = 1) -> Iterator[Value]:
        """for i in range(start, stop, step)."""
        counter = self.variable(self.integer(start))
        head, body, done = (self.function.append_basic_block(n) for n in ("head", "body", "done"))
        self.builder.branch(head)
        self.builder.position_at_end(head)
        index = counter.get()
        self.builder.cbranch((index < stop).ir, body, done)
        self.builder.position_at_end(body)
        yield index
        counter.set(index + step)
        self.builder.branch(head)
        self.builder.position_at_end(done)

    @contextmanager
    def when(self, condition: Value) -> Iterator[None]:
        """if condition."""
        with self.builder.if_then(condition.ir):
            yield


def vectors_of(width: int, target: Target) -> int:
    """The vectors that hold `width` tokens, a multiple of 16."""
    assert width % QUANTUM == 0, "tiles shrink by whole quanta"
    return width // target.lanes
