"""What `prunus.inspect` answers: a report for each tensor, and totals."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from prunus.inspection.roles import Role
from prunus.records import Cell, Records
from prunus.sparsity import Pattern


@dataclass(frozen=True, slots=True)
class TensorReport:
    """One tensor, measured.

    Attributes:
        name: Its name in the checkpoint.
        shape: Its sizes, as stored.
        dtype: The dtype that it is stored in.
        role: "linear", "embedding" or "other", by the rules of `prunus.inspection.roles`.
        elements: Number of elements.
        zeros: How many of them are zero.
        pattern: What was measured of a matrix, as [outputs, inputs]; None of all else.
        empty_heads: Heads without a nonzero in a projection of an attention; None of all else, and
            where the configuration does not say how many heads there are.
        kernel: What prunus would compute a linear layer with, by its cost model; else None.
        reason: Why, as a sentence.
        speedup: How many times as fast as dense that is, estimated; 1 for a dense kernel, None
            for what is no linear layer.
        bytes: In the files, in whatever form.
        compressed_bytes: In a folder written by `save_pretrained`: float32, and a linear weight of
            which half or more is zero without its empty blocks.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    role: Role
    elements: int
    zeros: int
    pattern: Pattern | None
    empty_heads: int | None
    kernel: str | None
    reason: str
    speedup: float | None
    bytes: int
    compressed_bytes: int

    @property
    def zero_share(self) -> float:
        """The share of zeros; 0 without elements."""
        return self.zeros / self.elements if self.elements else 0.0

    def record(self) -> dict[str, Cell]:
        """One flat row."""
        return {
            "name": self.name,
            "role": self.role,
            "dtype": self.dtype,
            "shape": "x".join(map(str, self.shape)),
            "elements": self.elements,
            "zeros": self.zeros,
            "zero_share": self.zero_share,
            **_pattern_cells(self.pattern),
            "empty_heads": self.empty_heads,
            "kernel": self.kernel,
            "speedup": self.speedup,
            "reason": self.reason,
            "bytes": self.bytes,
            "compressed_bytes": self.compressed_bytes,
        }


def _pattern_cells(pattern: Pattern | None) -> dict[str, Cell]:
    """What a row says of a pattern."""
    if pattern is None:
        return dict.fromkeys(("kind", "block", "n_of_m", "empty_rows", "empty_columns"))
    return {
        "kind": pattern.kind,
        "block": None if pattern.block is None else "x".join(map(str, pattern.block)),
        "n_of_m": None if pattern.n_of_m is None else ":".join(map(str, pattern.n_of_m)),
        "empty_rows": pattern.empty_rows,
        "empty_columns": pattern.empty_columns,
    }


@dataclass(frozen=True, slots=True)
class Total:
    """Several tensors together.

    Attributes:
        tensors: How many.
        elements: Of all of them.
        zeros: How many elements are zero.
        bytes: In the files.
        compressed_bytes: In a folder written by `save_pretrained`.
    """

    tensors: int
    elements: int
    zeros: int
    bytes: int
    compressed_bytes: int

    @classmethod
    def of(cls, reports: Iterable[TensorReport]) -> Total:
        """The sums."""
        every = list(reports)
        return cls(
            len(every),
            sum(each.elements for each in every),
            sum(each.zeros for each in every),
            sum(each.bytes for each in every),
            sum(each.compressed_bytes for each in every),
        )

    @property
    def zero_share(self) -> float:
        """The share of zeros; 0 without elements."""
        return self.zeros / self.elements if self.elements else 0.0


@dataclass(frozen=True)
class Inspection(Records):
    """What a checkpoint holds. `str` is a table of the linear layers with the totals.

    Attributes:
        model: Its name.
        simulated: What was simulated in a folder saved by prunus; None for real weights.
        tensors: A report for each tensor, in the order of the files.
    """

    model: str
    simulated: str | None
    tensors: tuple[TensorReport, ...]

    @property
    def linear(self) -> Total:
        """The weights of linear layers."""
        return Total.of(each for each in self.tensors if each.role == "linear")

    @property
    def whole(self) -> Total:
        """The whole model, embeddings and all else included."""
        return Total.of(self.tensors)

    def records(self) -> list[dict[str, Cell]]:
        """One row a tensor."""
        return [each.record() for each in self.tensors]

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {
            "model": self.model,
            "simulated": self.simulated,
            "linear": _total(self.linear),
            "whole": _total(self.whole),
            "tensors": [{**asdict(each), "zero_share": each.zero_share} for each in self.tensors],
        }

    def __str__(self) -> str:
        from prunus.inspection.text import inspection_text

        return inspection_text(self)


def _total(total: Total) -> dict[str, Any]:
    return {**asdict(total), "zero_share": total.zero_share}
