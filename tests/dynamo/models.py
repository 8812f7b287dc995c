"""Modules that the tests of the backend of torch.compile share, and how outputs are compared."""

from __future__ import annotations

import warnings
from typing import Any

import torch
import transformers
from torch import nn

OPTIONS: dict[str, Any] = {"threads": 1, "tune": "cost"}


def accelerate(model: Any, **settings: Any) -> Any:
    return torch.compile(model, backend="prunus", options=OPTIONS, **settings)


def assert_close(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    bar = 1e-4 * max(1.0, float(expected.abs().max()))
    assert float((found.double() - expected.double()).abs().max()) <= bar


@torch.no_grad()
def check(fast: Any, model: Any, *args: Any) -> None:
    """Both answer the same, and nothing is left to PyTorch."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        found = fast(*args)
    assert_close(found, model(*args))


class Perceptron(nn.Module):
    """Two layers; subclasses do something in between."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 16), nn.Linear(16, 4)
        self.register_buffer("scales", torch.rand(16))

    def forward(self, x: torch.Tensor) -> Any:
        return self.second(self.between(torch.relu(self.first(x))))

    def between(self, x: Any) -> Any:
        return x * self.scales


def small_bert(kind: Any = transformers.BertForTokenClassification) -> Any:
    config = transformers.BertConfig(
        vocab_size=60,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=40,
    )
    return kind(config).eval()
