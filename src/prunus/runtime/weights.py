"""Constants in the forms that kernels read.

A program names a constant, a form and a part of it; the arrays are here. Each form is made once, by
planning where a choice needs it, else when the program is bound.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Protocol

import numpy as np

from prunus.errors import GraphError
from prunus.ir import Constant
from prunus.kernels.layout import FLOAT
from prunus.kernels.panel import Panels, pack_blocks, pack_dense
from prunus.kernels.relative import pack_key_table, pack_query_table
from prunus.kernels.row_stream import RowStreams, pack_row_streams
from prunus.runtime.memory import call_memory
from prunus.sparsity import Block, BlockSparse


class Source:
    """A constant, and what is made of it on the way to several forms."""

    def __init__(self, constant: Constant) -> None:
        self.constant = constant
        self._blocks: dict[Block, BlockSparse] = {}

    @cached_property
    def dense(self) -> np.ndarray:
        """The tensor as an array."""
        return self.constant.dense()

    def in_blocks(self, block: Block) -> BlockSparse:
        """A matrix in blocks of this shape."""
        if block not in self._blocks:
            self._blocks[block] = self._in_blocks(block)
        return self._blocks[block]

    def _in_blocks(self, block: Block) -> BlockSparse:
        value = self.constant.value
        if isinstance(value, BlockSparse):
            if value.block == block:
                return value
            if block == (1, 1):
                return value.to_rows()
        return BlockSparse.from_dense(self.dense, block)


class Packed(Protocol):
    """Arrays by attribute, and how many bytes a pass over them reads."""

    @property
    def nbytes(self) -> int:
        """Bytes that a pass reads."""


@dataclass(frozen=True, slots=True)
class Whole:
    """One array."""

    array: np.ndarray

    @property
    def nbytes(self) -> int:
        """Its bytes."""
        return self.array.nbytes


@dataclass(frozen=True, slots=True)
class Form(ABC):
    """How a constant lies in memory for a kernel. Equal forms of a constant have equal arrays."""

    @abstractmethod
    def pack(self, source: Source) -> Packed:
        """The constant in this form."""


@dataclass(frozen=True, slots=True)
class Plain(Form):
    """As it is, float32 and contiguous: one part, `array`."""

    def pack(self, source: Source) -> Whole:
        """The constant in this form; the constant's own memory where it is like this."""
        return Whole(np.ascontiguousarray(source.dense, dtype=np.float32))


PANEL_PARTS = ("table", "groups", "columns", "values")
"""The arrays of `Panels` that a kernel reads."""


@dataclass(frozen=True, slots=True)
class DensePanels(Form):
    """A matrix in panels, with all of its elements; the parts are those of `Panels`.

    Attributes:
        groups: Of rows, by which workers share it.
    """

    groups: int
    PARTS: ClassVar = PANEL_PARTS

    def pack(self, source: Source) -> Panels:
        """The constant in this form."""
        return pack_dense(source.dense, groups=self.groups)


@dataclass(frozen=True, slots=True)
class BlockPanels(Form):
    """The blocks of a matrix that hold a nonzero, in panels; the parts are those of `Panels`.

    Attributes:
        block: Rows and columns.
        groups: Of rows, by which workers share it.
    """

    block: Block
    groups: int
    PARTS: ClassVar = PANEL_PARTS

    def pack(self, source: Source) -> Panels:
        """The constant in this form."""
        return pack_blocks(source.in_blocks(self.block), groups=self.groups)


@dataclass(frozen=True, slots=True)
class NonzeroStreams(Form):
    """The nonzeros of a matrix; the parts are those of `RowStreams`.

    Attributes:
        input_block: Inputs at a time.
        groups: Of rows, by which workers share it.
    """

    input_block: int
    groups: int
    PARTS: ClassVar = ("groups", "blocks", "runs", "entries", "indices", "values")

    def pack(self, source: Source) -> RowStreams:
        """The constant in this form."""
        rows = source.in_blocks((1, 1))
        return pack_row_streams(rows, input_block=self.input_block, groups=self.groups)


@dataclass(frozen=True, slots=True)
class KeyTable(Form):
    """A table of relative positions that queries meet: one part, `array`."""

    def pack(self, source: Source) -> Whole:
        """The constant in this form."""
        return Whole(pack_key_table(source.dense))


@dataclass(frozen=True, slots=True)
class QueryTable(Form):
    """A table of relative positions that keys meet: one part, `array`."""

    def pack(self, source: Source) -> Whole:
        """The constant in this form."""
        return Whole(pack_query_table(source.dense))


LinearForm = DensePanels | BlockPanels | NonzeroStreams


class Weights:
    """The constants of a graph, and the forms of them that there are so far."""

    def __init__(self, constants: Mapping[str, Constant]) -> None:
        self._constants = constants
        self._packed: dict[tuple[str, Form], Packed] = {}
        self._expanded: dict[str, np.ndarray] = {}
        self._expanded_bytes = 0

    def packed(self, name: str, form: Form) -> Packed:
        """A constant in a form, made now if nobody asked for it before.

        Raises:
            GraphError: as `dense`.
        """
        if (name, form) not in self._packed:
            constant = self._constants[name]
            # What every call reads whole is expanded once, for all who ask.
            whole = Constant(self.dense(name)) if isinstance(form, Plain) else constant
            self.enter(name, form, form.pack(Source(whole)))
        return self._packed[name, form]

    def enter(self, name: str, form: Form, packed: Packed) -> None:
        """Keep what was made elsewhere."""
        self._packed[name, form] = packed

    def dense(self, name: str) -> np.ndarray:
        """A constant as an array. What is stored sparsely may be any size once it is not.

        Raises:
            GraphError: such arrays need more memory than a call may use.
        """
        value = self._constants[name].value
        if not isinstance(value, BlockSparse):
            return value
        if name not in self._expanded:
            self._expanded_bytes += FLOAT * math.prod(value.shape)
            if self._expanded_bytes > call_memory():
                raise GraphError(
                    f"the sparse constant {name!r} is read by an op that needs all of its "
                    f"elements: {self._expanded_bytes / 1e9:.1f} GB with others like it, and a "
                    f"call may use {call_memory() / 1e9:.1f} GB of this machine's memory; use a "
                    "machine with more memory"
                )
            self._expanded[name] = value.to_dense()
        return self._expanded[name]
