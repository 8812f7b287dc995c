"""Reads a `Dense` module of sentence-transformers: a folder with a configuration and weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from prunus.errors import CheckpointError, UnsupportedError
from prunus.text.files import read_json
from prunus.text.vectors import ACTIVATIONS, Dense

WEIGHTS = "model.safetensors"

_DEFAULT_ACTIVATION = "torch.nn.modules.activation.Tanh"
_DTYPES = ("F16", "F32", "F64")
_MAX_OUTPUTS = 1 << 16


def read_dense(folder: Path, width: int) -> Dense:
    """The module in a folder.

    Args:
        folder: Its folder, such as `2_Dense`.
        width: Features of the vectors that it takes.

    Raises:
        UnsupportedError: another activation, a residual, vectors of tokens, or weights that are not
            in safetensors.
        CheckpointError: files that are damaged, or of other sizes.
    """
    path = folder / "config.json"
    config = read_json(path)
    if not isinstance(config, dict):
        raise CheckpointError(f"{path} holds a {type(config).__name__}, expected an object of JSON")
    activation = config.get("activation_function", _DEFAULT_ACTIVATION)
    if not isinstance(activation, str) or activation not in ACTIVATIONS:
        raise UnsupportedError(
            f"{path} has the activation {activation!r:.80}, expected one of "
            f"{', '.join(ACTIVATIONS)}; run the model by `prunus.st.accelerate`"
        )
    for key in ("module_input_name", "module_output_name", "use_residual"):
        if config.get(key) not in (None, False, "sentence_embedding"):
            raise UnsupportedError(
                f"{path} has {key} = {config[key]!r:.40}, expected a plain layer after the "
                "pooling; run the model by `prunus.st.accelerate`"
            )
    outputs, bias = config.get("out_features"), config.get("bias", True)
    if type(outputs) is not int or not 1 <= outputs <= _MAX_OUTPUTS or type(bias) is not bool:
        raise CheckpointError(
            f"{path} has out_features = {outputs!r:.40} and bias = {bias!r:.40}, expected a number "
            f"from 1 to {_MAX_OUTPUTS} and true or false: copy it again"
        )
    shapes: dict[str, list[int]] = {"linear.weight": [outputs, width]}
    if bias:
        shapes["linear.bias"] = [outputs]
    tensors = _read_tensors(folder / WEIGHTS, shapes)
    return Dense(tensors["linear.weight"], tensors.get("linear.bias"), activation)


def _read_tensors(path: Path, shapes: dict[str, list[int]]) -> dict[str, np.ndarray[Any, Any]]:
    """The tensors of a file in float32, if they have exactly these names and shapes."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise UnsupportedError(
            f"there is no {path}, expected the weights of the module in that form: save the model "
            "again with sentence-transformers (`save_pretrained`), then with prunus"
        )
    try:
        with safe_open(path, framework="numpy") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            found = {name: (each.get_shape(), each.get_dtype()) for name, each in slices.items()}
            sound = {name: shape for name, (shape, dtype) in found.items() if dtype in _DTYPES}
            if sound != shapes:
                raise CheckpointError(
                    f"{path} holds {str(found)[:200]}, expected {shapes} in one of "
                    f"{', '.join(_DTYPES)}: it belongs to another model; copy it again"
                )
            return {name: file.get_tensor(name).astype(np.float32) for name in shapes}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}): copy it again") from error
