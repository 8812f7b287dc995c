"""A graph with operators that have no translation: PyTorch runs these, prunus the parts around
them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch.utils._pytree import tree_leaves, tree_unflatten

from prunus.api import compile_imported
from prunus.dynamo.layout import in_order
from prunus.errors import UnsupportedError
from prunus.frontend.compare import difference
from prunus.frontend.partition import (
    Part,
    Partitioned,
    partition_module,
    with_same_random_numbers,
)
from prunus.model import CompiledModel, Source
from prunus.plan import Options, make_options


class SplitModel:
    """A module of which prunus computes some parts; called with tensors, by position.

    Args:
        module: The module, which is called with tensors alone, by position.
        example: The tensors of a call.
        dynamic_shapes: As in `torch.export`.
        options: Of `prunus.compile`.

    Raises:
        UnsupportedError: no part is worth it, or PyTorch's program of the module is wrong for
            some sizes.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        example: Sequence[torch.Tensor],
        dynamic_shapes: Any,
        options: Mapping[str, Any],
    ) -> None:
        found = partition_module(module, example, dynamic_shapes=dynamic_shapes)
        self._program, self._weights, self._structure = (
            found.program,
            found.weights,
            found.structure,
        )
        self._refused = found.refused
        self.models: dict[str, CompiledModel] = {}
        for name, part in found.parts.items():
            self.models[name] = compile_part(part, make_options(**options))
            setattr(self._program, name, _CompiledPart(self.models[name], part))
        self._check(found)

    def __call__(self, *tensors: torch.Tensor) -> Any:
        """What the module answers."""
        return tree_unflatten(self._program(*self._weights, *tensors), self._structure)

    @property
    def reason(self) -> str:
        """What is left to PyTorch, and why, for messages."""
        first, *others = self._refused
        also = f" (also left to PyTorch: {', '.join(others)})" if others else ""
        return f"{self._refused[first]}{also}"

    def _check(self, found: Partitioned) -> None:
        for inputs, expected in found.probes:
            answer = with_same_random_numbers(partial(self, *inputs))
            leaves = [each.numpy() for each in tree_leaves(answer)]
            if text := difference(leaves, expected):
                shapes = ", ".join(str(list(each.shape)) for each in inputs)
                raise UnsupportedError(
                    f"for inputs of {shapes} it takes another way than for other sizes ({text}), "
                    "which torch.export does not follow: compile with dynamic=False"
                )


def compile_part(part: Part, options: Options) -> CompiledModel:
    """The compiled model of a part.

    Raises:
        ModuleChangedError: another thread changed a weight meanwhile.
    """
    chosen = replace(options, may_pack=part.may_pack)
    return compile_imported(part.imported, chosen, Source("part of a graph"))


class _CompiledPart(torch.nn.Module):
    """A part in the place of the submodule that it was.

    PyTorch's operators behind it may rely on the order in which axes lie in memory. That results
    may share memory does no harm: torch.export leaves no operator that writes to its input.
    """

    def __init__(self, model: CompiledModel, part: Part) -> None:
        super().__init__()
        self._model, self._part = model, part

    def forward(self, *inputs: torch.Tensor) -> Any:
        """The results of the submodule."""
        answers, outputs, orders = self._model(*inputs), self._part.outputs, self._part.orders
        if isinstance(outputs, int):
            return in_order(answers[outputs], orders[0])
        return tuple(in_order(answers[i], each) for i, each in zip(outputs, orders, strict=True))
