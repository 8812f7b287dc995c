"""What a model of transformers takes for inputs that a call leaves out, and what it does not read.

Both are found by calling it: classes differ. Most take a mask of ones for none, DPR hides the
padding id, and DistilBERT takes token types without reading them, since its tokenizer makes some.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from prunus.frontend.checkpoint import without_transformers_log
from prunus.frontend.compare import TOLERANCE
from prunus.frontend.dynamic_axes import DynamicAxes
from prunus.frontend.examples import OF_TOKENIZERS, Example, is_of_transformers
from prunus.frontend.inputs import Default
from prunus.frontend.trials import Refusal, attempt

if TYPE_CHECKING:
    import torch

IDS = "input_ids"
CANDIDATES = {"attention_mask": 1, "token_type_ids": 0}
"""Inputs that models of transformers have a value for where they are left out: the usual value."""

NOISE = 1e-5
"""Differences below this may come from another kernel: torch has a faster one for no mask."""


@dataclass(frozen=True, slots=True)
class Conventions:
    """What a call may leave out and what it may add.

    Attributes:
        defaults: The value of each input that may be left out.
        ignored: Arguments that the module takes without reading them.
    """

    defaults: Mapping[str, Default]
    ignored: frozenset[str]


def find_conventions(module: torch.nn.Module, example: Example, axes: DynamicAxes) -> Conventions:
    """Call the module with and without each such input and compare its answers.

    An input without which the module fails, or takes something else than is known here, has to be
    given.
    """
    tensors = example.tensors
    if not is_of_transformers(module) or IDS not in tensors:
        return Conventions({}, frozenset())
    probe = _Probe.of(module, example, axes)
    inputs = [name for name in CANDIDATES if name in tensors and probe.has_shape_of_ids(name)]
    others = set(OF_TOKENIZERS) - tensors.keys() - example.fixed.keys()

    def find() -> Conventions:
        defaults = {name: probe.default(name) for name in inputs}
        ignored = frozenset(name for name in others if probe.ignores(name))
        known = {name: default for name, default in defaults.items() if default is not None}
        return Conventions(known, ignored)

    return without_transformers_log(find)  # which advises to pass a mask


@dataclass(frozen=True, eq=False)
class _Probe:
    """A module with a call of it in which some ids are padding.

    Attributes:
        module: The module.
        example: The call that was given.
        tensors: Its tensors with padding, and with everything that may be left out at its usual
            value.
        padding: The padding id; None where there is none.
    """

    module: torch.nn.Module
    example: Example
    tensors: Mapping[str, torch.Tensor]
    padding: int | None

    @staticmethod
    def of(module: torch.nn.Module, example: Example, axes: DynamicAxes) -> _Probe:
        import torch

        sizes = axes.larger_sizes()
        if "batch" in sizes and "batch" not in axes.dims:
            sizes["batch"] = 2  # an example may be large, and the module is called several times
        tensors = axes.resize(example.tensors, sizes)
        padding = getattr(getattr(module, "config", None), "pad_token_id", None)
        ids = tensors[IDS]
        length = ids.shape[-1]
        if padding is not None:
            # The last id stays: some models read their answer at a marker that stands there.
            ids = ids.clone()
            ids[..., length // 2 : max(length - 1, length // 2 + 1)] = padding
        usual = {
            name: torch.full_like(tensors[name], value)
            for name, value in CANDIDATES.items()
            if name in tensors and tensors[name].shape == ids.shape
        }
        return _Probe(module, example, {**tensors, **usual, IDS: ids}, padding)

    def has_shape_of_ids(self, name: str) -> bool:
        """Whether an input has a value for each id."""
        return self.tensors[name].shape == self.tensors[IDS].shape

    def default(self, name: str) -> Default | None:
        """What the module takes where the input is left out; None where that is not known."""
        left_out = self._answers({name: None})
        usual = _distance(self._usual, left_out)
        if usual > NOISE and name == "attention_mask" and self.padding is not None:
            mask = (self.tensors[IDS] != self.padding).to(self.tensors[name].dtype)
            # By far: an answer that depends little on the mask is close for either.
            if _distance(self._answers({name: mask}), left_out) < usual / 10:
                return Default(IDS, padding=self.padding)
        kinds = {str(each.dtype).removeprefix("torch.") for each in left_out or ()}
        tolerance = max((TOLERANCE.get(kind, 1e-3) for kind in kinds), default=0.0)
        return Default(IDS, CANDIDATES[name]) if usual <= tolerance else None

    def ignores(self, name: str) -> bool:
        """Whether the module takes an argument, and answers bit by bit as without it."""
        import torch

        ids = self.tensors[IDS]
        alternating = (torch.arange(ids.numel()) % 2).reshape(ids.shape)
        return _distance(self._usual, self._answers({name: alternating})) == 0

    @cached_property
    def _usual(self) -> list[torch.Tensor] | None:
        """What the module answers where nothing is left out."""
        return self._answers({})

    def _answers(self, changed: Mapping[str, Any]) -> list[torch.Tensor] | None:
        """The tensors that the module answers with; None where it fails."""
        import torch
        from torch.utils._pytree import tree_leaves

        known = {name: value for name, value in changed.items() if name in self.example.values}
        args, kwargs = self.example.call({**self.tensors, **known})
        new = {name: value for name, value in changed.items() if name not in known}
        answer = attempt(lambda: self.module(*args, **kwargs, **new))
        if isinstance(answer, Refusal):
            return None
        return [leaf for leaf in tree_leaves(answer) if isinstance(leaf, torch.Tensor)]


def _distance(found: list[torch.Tensor] | None, wanted: list[torch.Tensor] | None) -> float:
    """The largest difference, relative to the largest number where that exceeds 1."""
    if not found or not wanted or [x.shape for x in found] != [x.shape for x in wanted]:
        return float("inf")
    worst = 0.0
    for own, other in zip(found, wanted, strict=True):
        if own.numel():
            scale = max(1.0, float(other.double().nan_to_num().abs().max()))
            # A row that is hidden as a whole is NaN in some modules, in one call and the other.
            difference = (own.double().nan_to_num() - other.double().nan_to_num()).abs()
            worst = max(worst, float(difference.max()) / scale)
    return worst
