"""Simulated zeros: where they go."""

from typing import Any

import torch
from torch import nn

import prunus


def test_convolutions_of_one_tap_are_linear_layers_and_others_are_not() -> None:
    module: Any = nn.Sequential(
        nn.Conv1d(40, 60, 1, groups=2), nn.Conv1d(60, 40, 3), nn.Conv2d(40, 60, 1), nn.Linear(7, 50)
    )
    before = [layer.weight.detach().clone() for layer in module]
    pruned: Any = prunus.simulate(module, 0.9)
    shares = [float((layer.weight == 0).float().mean()) for layer in pruned.children()]
    assert [round(share, 1) for share in shares] == [0.9, 0.0, 0.9, 0.9]
    for layer, weight in zip(module, before, strict=True):
        assert torch.equal(layer.weight, weight), "the module itself is not changed"
