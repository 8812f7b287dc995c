"""A compiled model is its module as it was: what is small is copied, large weights are shared.

Shared weights are watched: an in-place change of a tensor (`load_state_dict`, a step of an
optimizer, `copy_`) moves its version, which torch counts. The kernels of fused optimizers do not;
their steps are counted here. Writes that nobody counts, through `weight.data` or an array of NumPy,
go unseen.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from prunus.errors import ModuleChangedError
from prunus.ir import Constant, Graph

if TYPE_CHECKING:
    import torch

COPIED_BYTES = 1 << 20
"""Weights up to this size are copied always: biases and norms, but no embeddings or large layers,
which hold nearly all of a model's memory."""


@dataclass(frozen=True, slots=True, eq=False)
class WatchedTensor:
    """A tensor of a module, as it was when it was read.

    Attributes:
        name: In the module or the graph.
        tensor: Detached, which shares memory and version but keeps neither gradient nor module.
        version: As `count_changes` gives it.
        address: Where its values are. `share_memory_` moves them, and frees the old place.
    """

    name: str
    tensor: torch.Tensor
    version: int | None
    address: int

    @staticmethod
    def of(name: str, tensor: torch.Tensor) -> WatchedTensor:
        """The tensor as it is now."""
        return WatchedTensor(name, tensor.detach(), count_changes(tensor), tensor.data_ptr())


_fused_steps: dict[int, int] = {}
"""How often a fused optimizer has written to the parameter at an address."""


@cache
def _count_fused_steps() -> None:
    """From now on count the steps of fused optimizers, of the whole process."""
    from torch.optim.optimizer import register_optimizer_step_post_hook

    def note(optimizer: torch.optim.Optimizer, *_: object) -> None:
        for group in optimizer.param_groups:
            for parameter in group["params"] if group.get("fused") else ():
                address = parameter.data_ptr()
                _fused_steps[address] = _fused_steps.get(address, 0) + 1

    register_optimizer_step_post_hook(note)


def count_changes(tensor: torch.Tensor) -> int | None:
    """A number that is another one after each in-place change that can be seen; None where torch
    counts none, in inference mode.
    """
    _count_fused_steps()
    if tensor.is_inference():
        return None
    return int(tensor._version) + _fused_steps.get(tensor.data_ptr(), 0)


class SharedWeights:
    """Weights that a compiled model shares with its module, by the names of its constants."""

    def __init__(self, weights: Iterable[WatchedTensor] = ()) -> None:
        self._weights = tuple(weights)

    def among(self, names: Collection[str]) -> SharedWeights:
        """Those of some constants."""
        return SharedWeights(each for each in self._weights if each.name in names)

    @property
    def changed(self) -> str | None:
        """The name of one that was changed since it was read, if any was."""
        for each in self._weights:
            moved = each.tensor.data_ptr() != each.address
            if moved or count_changes(each.tensor) != each.version:
                return each.name
        return None

    def check(self, model: str) -> None:
        """Insist that nothing was changed; `model` is its name.

        Raises:
            ModuleChangedError: something was.
        """
        if (name := self.changed) is not None:
            raise ModuleChangedError(
                f"the weight {name} of {model} was changed in place after the module was compiled; "
                "large weights are shared with the module, so the compiled model is no longer what "
                "it was. Compile the module again, or with copy=True for a compiled model that "
                "stays as it is"
            )


def take_snapshot(
    graph: Graph, weights: Sequence[WatchedTensor], *, copy: bool
) -> tuple[Graph, SharedWeights]:
    """The graph with constants of its own, but for large ones, and the tensors that those share.

    Args:
        graph: Its constants may be views of the tensors.
        weights: The tensors that it was made from.
        copy: Whether to copy large constants too.
    """
    owners = _Owners(weights)
    constants, shared = dict[str, Constant](), list[WatchedTensor]()
    for name, constant in graph.constants.items():
        value = constant.value
        found = list(owners.of(value)) if isinstance(value, np.ndarray) else []
        is_watched = all(each.version is not None for each in found)
        if found and (copy or value.nbytes <= COPIED_BYTES or not is_watched):
            own = np.array(value)
            own.flags.writeable = False
            constant = replace(constant, value=own)
        else:
            shared += [replace(each, name=name) for each in found]
        constants[name] = constant
    return replace(graph, constants=constants), SharedWeights(shared)


class _Owners:
    """Finds the tensors in whose storage an array lies."""

    def __init__(self, weights: Sequence[WatchedTensor]) -> None:
        by_place: dict[tuple[int, int], list[WatchedTensor]] = {}
        for each in weights:
            storage = each.tensor.untyped_storage()
            start = storage.data_ptr()
            by_place.setdefault((start, start + storage.nbytes()), []).append(each)
        self._places = sorted(by_place)
        self._weights = [by_place[place] for place in self._places]

    def of(self, array: np.ndarray) -> Iterator[WatchedTensor]:
        """They share one version, unless they were made by `data`."""
        address = array.ctypes.data
        at = bisect_right(self._places, address, key=lambda place: place[0]) - 1
        if at >= 0 and address < self._places[at][1]:
            yield from self._weights[at]
