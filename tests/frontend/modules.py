"""Modules made of functions, and the comparison of what was imported with what it came from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from prunus.frontend.export import Imported
from prunus.ir import interpret

RANDOM = torch.Generator().manual_seed(0)


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=RANDOM)


class Function(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor, *more: Tensor) -> Any:
        return self.function(x, *more)


def run(imported: Imported, *args: Any, **kwargs: Any) -> Any:
    arrays, kind = imported.signature.bind(args, kwargs)
    return imported.signature.pack(interpret(imported.graph, arrays), kind)


def assert_same(imported: Imported, module: nn.Module, *args: Any, **kwargs: Any) -> None:
    found = run(imported, *args, **kwargs)
    with torch.no_grad():
        expected = module.eval()(*args, **kwargs)
    assert type(found) is type(expected)
    for own, other in zip(tree_leaves(found), tree_leaves(expected), strict=True):
        assert type(own) is type(other)
        if isinstance(other, Tensor):
            assert own.dtype == other.dtype and own.shape == other.shape
            torch.testing.assert_close(own, other, rtol=1e-5, atol=1e-5)
        else:
            assert own == other


def ops(imported: Imported) -> list[str]:
    return [node.op for node in imported.graph.nodes]
