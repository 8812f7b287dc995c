"""Tiny checkpoints with random weights, and whether two answers are the same."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.models.encoders import FAMILIES, tiny

TOLERANCE = 1e-4
WORDS = 30522  # tokens of the tokenizer of all-MiniLM-L6-v2


def checkpoint(folder: Path, family: str, head: str, **fields: Any) -> Any:
    """A tiny model of transformers in eval, which is also saved as a checkpoint."""
    module = tiny(family, head)
    for name, value in fields.items():
        setattr(module.config, name, value)
    module.save_pretrained(folder)
    return module


def reading(head: str, family: str = "Bert", **fields: Any) -> Any:
    """A tiny encoder with the vocabulary of the tokenizer; `head` as "ForMaskedLM"."""
    import transformers

    sizes = {**FAMILIES[family], "vocab_size": WORDS, "max_position_embeddings": 64, **fields}
    torch.manual_seed(1)
    config = getattr(transformers, f"{family}Config")(**sizes)
    module = getattr(transformers, f"{family}{head}")(config)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, 0, 0.15)
    return module.eval()


def assert_same(
    answer: Mapping[str, Any], expected: Mapping[str, Any], mask: torch.Tensor | None = None
) -> None:
    """Insist on the same parts with the same values, up to sums in another order; at padding, which
    is not computed, anything goes.
    """
    assert list(answer) == list(expected)
    for name, part in expected.items():
        mine, theirs = np.asarray(answer[name]), part.detach().numpy()
        assert mine.shape == theirs.shape and mine.dtype == theirs.dtype
        if mask is not None and theirs.shape[:2] == mask.shape:
            mine, theirs = mine[mask.numpy() != 0], theirs[mask.numpy() != 0]
        assert np.abs(mine - theirs).max() <= TOLERANCE * max(1, np.abs(theirs).max())
