"""What only the tool that wrote a checkpoint can read: what tells of it, and what to do."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from prunus.errors import CheckpointError

QUANTISED = (
    "quantised weights: prunus reads float32, float16 and bfloat16, so dequantise with the tool "
    "that made this, or take the unquantised checkpoint"
)

NAMES = (
    (
        r"mask_scores$",
        "unfinished movement pruning: which weights are zero depends on its method and "
        "threshold. Finish it (`bertarize.py` of transformers' movement-pruning example) and load "
        "the result",
    ),
    (
        r"_packed_params(\.|$)|\.zero_point$|^best_configure$",
        "int8 weights of neural-compressor: dequantise them (zeros stay zeros) and save a float32 "
        "state_dict, or take the float checkpoint that they were made from",
    ),
    (r"\.(qweight|qzeros|weight_packed|weight_scale|weight_scale_inv|SCB)$", QUANTISED),
)
"""Names that tell of weights which are not simply there, and what to do; the first match counts."""


def refuse_names(model: str, names: Iterable[str]) -> None:
    """Raise `CheckpointError` where the names of a checkpoint's tensors tell of another tool."""
    names = list(names)
    for pattern, meaning in NAMES:
        found = next((name for name in names if re.search(pattern, name)), None)
        if found is not None:
            raise CheckpointError(f"{model} holds {found!r}, a sign of {meaning}.")


def refuse_objects(model: str, state: Mapping[str, object]) -> None:
    """Raise `CheckpointError` where a pickle holds more than tensors."""
    import torch

    for name, value in state.items():
        if not isinstance(value, torch.Tensor):
            raise CheckpointError(
                f"{model} holds a {type(value).__name__} under {name!r}, expected only tensors: "
                "save `model.state_dict()` by itself, not with the rest of a training run."
            )


def quantised(model: str, name: str, dtype: object) -> CheckpointError:
    """The error for a tensor that is neither floats nor indices."""
    return CheckpointError(f"{model} stores {name} as {dtype}, a sign of {QUANTISED}.")
