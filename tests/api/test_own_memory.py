"""Answers of a compiled module: contiguous, each with memory of its own."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from torch import nn

import prunus


class Layer(nn.Module):
    """A linear layer; a function makes the answer of what it computes."""

    def __init__(self, function: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.layer, self.function = nn.Linear(32, 32), function

    def forward(self, x: torch.Tensor) -> Any:
        return self.function(self.layer(x))


ANSWERS: list[Any] = [
    lambda h: (h, h.clone()),
    lambda h: (h.relu(), h.relu()),
    lambda h: (h, h[:, 0], h[:, :1], h.view(-1)),
    lambda h: (h.t(), h.t().contiguous(), h),
    lambda h: (h.expand(2, *h.shape), h.detach()),
]


@pytest.mark.parametrize("is_saved", [False, True])
@pytest.mark.parametrize("kind", ["torch", "numpy"])
@pytest.mark.parametrize("index", range(len(ANSWERS)))
def test_answers_share_no_memory(index: int, kind: str, is_saved: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, x = Layer(ANSWERS[index]).eval(), torch.randn(6, 32)
    model = prunus.compile(module, example_inputs=(x,), threads=1, tune="cost")
    if is_saved:
        model.save_pretrained(tmp_path / "model")
        model = prunus.load(tmp_path / "model", threads=1, tune="cost")
    found = model(x if kind == "torch" else x.numpy())
    arrays = [np.asarray(each) for each in found]
    with torch.no_grad():
        expected = [each.numpy() for each in module(x)]
    for array, wanted in zip(arrays, expected, strict=True):
        assert array.flags.carray
        np.testing.assert_allclose(array, wanted, rtol=1e-4, atol=1e-5)
        array += 1000  # the answers that follow do not change with it
