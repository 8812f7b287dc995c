"""Tensors that compressed-tensors stored as a bit for each value and the values that are not zero.

Two forms, which current loaders have dropped. `sparse-bitmask` stores for a tensor P of n nonzeros
`P.compressed` [n], `P.bitmask` [..., ceil(columns / 8)], `P.shape` and `P.row_offsets`, the number
of values before each row. `sparse-24-bitmask` keeps two of four, so that its `P.compressed` is
[rows, columns / 2], and has no offsets. The first releases wrote whole names (`dense.weight` as P),
later ones left `.weight` out.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from prunus.errors import CheckpointError

if TYPE_CHECKING:
    import torch

_VALUES, _BITS, _SHAPE, _OFFSETS = "compressed", "bitmask", "shape", "row_offsets"

_MOST_DIMENSIONS = 8  # more than any weight has, and fewer than NumPy takes


def expand_bitmasks(state: dict[str, torch.Tensor], source: str) -> None:
    """Replace what stands for each compressed tensor by the dense tensor, in its stored dtype.

    One tensor after the other, so that little more than the result is held. Every size is checked
    before it is used.

    Args:
        state: The tensors of a checkpoint by name; changed in place.
        source: The checkpoint's name, for messages.

    Raises:
        CheckpointError: a part is missing, or the parts do not fit each other.
    """
    stored = [
        name.rpartition(".")[0] for name in state if name.endswith((f".{_VALUES}", f".{_BITS}"))
    ]
    has_whole_names = any(name.endswith(".weight") for name in stored)
    for stem in dict.fromkeys(stored):
        name = stem if has_whole_names else f"{stem}.weight"
        if name in state:
            raise CheckpointError(
                f"{source} holds {name} twice, as a bitmask and as a dense tensor: files of two "
                "models are mixed, so download or copy all of them again."
            )
        state[name] = _Compressed(state, stem, source).expand()


class _Compressed:
    """The parts of one tensor, taken out of a checkpoint."""

    def __init__(self, state: dict[str, Any], stem: str, source: str) -> None:
        self._source, self._stem = source, stem
        self._parts = {
            part: state.pop(f"{stem}.{part}")
            for part in (_VALUES, _BITS, _SHAPE, _OFFSETS)
            if f"{stem}.{part}" in state
        }

    def expand(self) -> torch.Tensor:
        """The dense tensor."""
        import torch

        values, shape = self._stored(_VALUES), self._shape()
        mask = self._mask(shape)
        self._check_counts(values, mask)
        bits = getattr(torch, f"int{8 * values.itemsize}")  # NumPy has no bfloat16 and no float8
        dense = np.zeros(shape, f"i{values.itemsize}")
        dense[mask] = values.reshape(-1).view(bits).numpy()
        return torch.from_numpy(dense).view(values.dtype)

    def _stored(self, part: str) -> torch.Tensor:
        """A part whose size is that of its storage: a pickle may hold one value as a billion."""
        import torch

        tensor: torch.Tensor | None = self._parts.get(part)
        if tensor is None:
            raise self._damaged(part, "missing", f"beside the {', '.join(self._parts)} of it")
        is_odd = tensor.layout != torch.strided or tensor.is_quantized or tensor.is_complex()
        if is_odd or not tensor.is_contiguous():
            found = f"{tensor.dtype} in an odd layout"
            raise self._damaged(part, found, "real numbers, stored one after the other")
        return tensor.detach()

    def _shape(self) -> tuple[int, ...]:
        stored = self._stored(_SHAPE)
        is_list = 1 <= stored.numel() <= _MOST_DIMENSIONS and not stored.is_floating_point()
        shape = tuple(map(int, stored.reshape(-1).tolist())) if is_list else ()
        if not shape or min(shape) < 1:
            raise self._damaged(_SHAPE, _kind(stored), "a positive integer for each dimension")
        return shape

    def _mask(self, shape: tuple[int, ...]) -> np.ndarray:
        """Which values are stored, as booleans of the dense shape, which is no larger than the file
        has bits.
        """
        import torch

        bits, expected = self._stored(_BITS), [*shape[:-1], -(-shape[-1] // 8)]
        if bits.dtype != torch.uint8 or bits.numel() != prod(expected):
            raise self._damaged(
                _BITS, _kind(bits), f"uint8 {expected} for a tensor of the shape {list(shape)}"
            )
        packed = bits.numpy().reshape(expected)
        return np.unpackbits(packed, axis=-1, count=shape[-1], bitorder="little").view(bool)

    def _check_counts(self, values: torch.Tensor, mask: np.ndarray) -> None:
        counts = mask.sum(axis=-1)
        if values.numel() != counts.sum():
            raise self._damaged(_VALUES, _kind(values), f"the {counts.sum()} that its bitmask has")
        if values.ndim == 2 and (counts != values.shape[1]).any():
            raise self._damaged(
                _BITS,
                f"a mask of {counts.min()} to {counts.max()} values in a row",
                f"{values.shape[1]} in each, as the shape of its compressed values says",
            )
        if _OFFSETS in self._parts:
            offsets = self._stored(_OFFSETS)
            expected = np.cumsum(counts, axis=0) - counts  # of a vector, whose count is one, 0
            if offsets.reshape(-1).tolist() != expected.reshape(-1).tolist():
                raise self._damaged(_OFFSETS, _kind(offsets), "the sums of the bits of its bitmask")

    def _damaged(self, part: str, found: object, expected: object) -> CheckpointError:
        return CheckpointError(
            f"{self._source}: {self._stem}.{part} is {found}, expected {expected}: the "
            "compressed-tensors bitmask is damaged, so download or copy it again."
        )


def _kind(tensor: torch.Tensor) -> str:
    """The dtype and shape, and the values of the few that are short enough for a message."""
    described = f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
    return f"{described} of {tensor.tolist()}" if tensor.numel() <= 6 else described
