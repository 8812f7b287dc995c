"""Records in memory that native code and NumPy both know: each is declared once, and gives the LLVM
type as well as the dtype.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Literal

import numpy as np

from prunus.kernels.layout import LINE
from prunus.runtime.arena import aligned_words

Kind = Literal["i32", "i64", "ptr"]

_FORMATS: Mapping[Kind, str] = {"i32": "<i4", "i64": "<i8", "ptr": "<i8"}


class Record:
    """A record of named fields.

    Args:
        name: Of the LLVM type.
        apart: Fields that different workers write: each begins a cache line of its own.
        whole_lines: Whether the record itself fills whole cache lines.
        fields: Their kinds, in order.
    """

    def __init__(
        self,
        name: str,
        *,
        apart: tuple[str, ...] = (),
        whole_lines: bool = False,
        **fields: Kind,
    ) -> None:
        self.name = name
        self._parts: list[tuple[str | None, str]] = []
        self._offsets: dict[str, int] = {}
        self._kinds = fields
        end, alignment = 0, LINE if apart or whole_lines else 8
        behind_apart = False
        for field, kind in fields.items():
            size = np.dtype(_FORMATS[kind]).itemsize
            # What follows a field that stands apart does not share its line either.
            step = LINE if field in apart or behind_apart else size
            end = self._pad(end, step)
            self._parts.append((field, kind))
            self._offsets[field] = end
            end, behind_apart = end + size, field in apart
        self.nbytes = self._pad(end, alignment)

    def _pad(self, end: int, step: int) -> int:
        missing = -end % step
        if missing:
            self._parts.append((None, f"[{missing} x i8]"))
        return end + missing

    @cached_property
    def dtype(self) -> np.dtype:
        """The record in NumPy; a pointer is an integer."""
        formats = [_FORMATS[kind] for kind in self._kinds.values()]
        return np.dtype({
            "names": [*self._offsets], "formats": formats, "offsets": [*self._offsets.values()],
            "itemsize": self.nbytes,
        })  # fmt: skip

    @property
    def llvm(self) -> str:
        """The definition of the type in LLVM IR."""
        return f"%{self.name} = type {{ {', '.join(kind for _, kind in self._parts)} }}"

    def indices(self) -> Iterator[tuple[str, int]]:
        """For each field `Name_field` and its index in the LLVM type."""
        for index, (field, _) in enumerate(self._parts):
            if field is not None:
                yield f"{self.name}_{field}", index

    def zeros(self, *shape: int) -> np.ndarray:
        """So many records of zeros; they begin a cache line."""
        count = int(np.prod(shape, dtype=np.int64))
        words = aligned_words(count * self.nbytes // 8)
        return words.view(self.dtype).reshape(shape)
