"""Activations mean what they mean to torch, over all of float32 that a model meets."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.activations import ACT2FN

from prunus.frontend.export import import_module
from tests.frontend.modules import Function, assert_same, normal

X = torch.cat(
    [torch.linspace(-30, 30, 301), torch.linspace(-1e-3, 1e-3, 21), torch.tensor([-100.0, 80.0])]
)[None]

FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "expm1": torch.expm1,
    "log1p": lambda x: torch.log1p(x.abs()),
    "softplus": F.softplus,
    "softplus(2, 3)": lambda x: F.softplus(x, 2.0, 3.0),
    "hardtanh": F.hardtanh,
    "hardtanh(-2, 3)": lambda x: F.hardtanh(x, -2.0, 3.0),
    "hardsigmoid": F.hardsigmoid,
    "leaky_relu(-0.5)": lambda x: F.leaky_relu(x, -0.5),
    "elu(2)": lambda x: F.elu(x, 2.0),
    "selu": F.selu,
    "celu(2)": lambda x: F.celu(x, 2.0),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_activations_of_torch(name: str) -> None:
    module = Function(FUNCTIONS[name])
    assert_same(import_module(module, [X]), module, X)


@pytest.mark.parametrize("name", sorted(ACT2FN))
def test_every_activation_of_transformers(name: str) -> None:
    module = ACT2FN[name].float()  # xIELU has bfloat16 weights, which prunus widens
    assert_same(import_module(module, [X]), module, X)


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4), (2, 3, 4, 5)])
def test_prelu_has_a_slope_for_each_channel(shape: tuple[int, ...]) -> None:
    module = nn.PReLU(3)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([0.1, -0.2, 3.0]))
    x = normal(*shape)
    assert_same(import_module(module, [x], dynamic_shapes=({0: torch.export.Dim("n")},)), module, x)
