"""What every kernel is: a frozen specification that names its arguments and emits itself."""

from __future__ import annotations

import ctypes
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from prunus.identity import identity
from prunus.kernels.compiler import assembly, linker
from prunus.kernels.emit import Emitter
from prunus.kernels.target import Target


@dataclass(frozen=True, slots=True)
class TileArgument:
    """An activation passed to a kernel.

    Attributes:
        address: Of its first tile.
        features: Rows of a tile in memory.
        first: The first row that the kernel may see.
    """

    address: int
    features: int
    first: int = 0


def tile_words(*names: str) -> tuple[str, ...]:
    """The names of the words by which activations are passed."""
    return tuple(word for name in names for word in (name, f"{name}.features", f"{name}.first"))


Argument = int | TileArgument

_KERNEL = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p)


@dataclass(frozen=True)
class Kernel(ABC):
    """A kernel's specification: everything that is a constant of its code.

    Attributes:
        width: Tokens in the lanes of a tile: 16, 32, 48 or 64.
    """

    width: int
    accumulator: ClassVar[str] = "f32"

    @property
    @abstractmethod
    def parameters(self) -> tuple[str, ...]:
        """The names of the argument words, in order."""

    @abstractmethod
    def emit(self, k: Emitter) -> None:
        """Write the kernel's code."""

    @property
    def loads_per_fma(self) -> float:
        """Vectors of activations that it loads for each FMA, for its limit; 0 where they do not
        count.
        """
        return 0.0

    @property
    def symbol(self) -> str:
        """The name of the function."""
        digest = hashlib.sha256(identity(self).encode()).hexdigest()[:12]
        return f"{type(self).__name__}_{digest}"

    def at(self, width: int) -> Self:
        """The kernel for tiles of another width."""
        return replace(self, width=width)

    def ir(self, target: Target) -> str:
        """The kernel as LLVM IR."""
        k = Emitter(target, self.symbol, self.parameters)
        self.emit(k)
        return k.finish()

    def assembly(self, target: Target) -> str:
        """The kernel as assembly."""
        return assembly(self.ir(target), target)

    def address(self, target: Target) -> int:
        """The address of its machine code in this process, compiled or taken from the cache at
        first use.
        """
        symbol = self.symbol
        return linker(target).functions(identity(self), (symbol,), lambda: self.ir(target))[symbol]

    def function(self, target: Target) -> Callable[[int, int, int | None], None]:
        """The kernel as a function of the address of its words, a unit, and scratch."""
        return _KERNEL(self.address(target))

    def words(self, arguments: Mapping[str, Argument]) -> list[int]:
        """The argument words for arguments by name."""
        flat: dict[str, int] = {}
        for name, argument in arguments.items():
            if isinstance(argument, TileArgument):
                flat[name] = argument.address
                flat[f"{name}.features"] = argument.features
                flat[f"{name}.first"] = argument.first
            else:
                flat[name] = argument
        return [flat[name] for name in self.parameters]
