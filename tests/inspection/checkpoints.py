"""Checkpoints of plain arrays, written as the libraries write them, without torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

Arrays = dict[str, np.ndarray]


def weight(
    rows: int, columns: int, zeros: float = 0.0, seed: int = 0, dtype: Any = np.float32
) -> np.ndarray:
    """A random matrix of which about this share is zero."""
    random = np.random.default_rng(seed)
    values = random.uniform(1, 2, (rows, columns)) * (random.random((rows, columns)) >= zeros)
    return np.asarray(values, dtype)


def write(folder: Path, arrays: Arrays, **config: Any) -> Path:
    """A folder with `model.safetensors` and `config.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: np.ascontiguousarray(array) for name, array in arrays.items()},
        folder / "model.safetensors",
    )
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def write_shards(folder: Path, *shards: Arrays, **config: Any) -> Path:
    """A folder with one file for each of the shards, and their index."""
    folder.mkdir(parents=True, exist_ok=True)
    weight_map = {}
    for number, arrays in enumerate(shards):
        name = f"model-{number}.safetensors"
        save_file(arrays, folder / name)
        weight_map.update(dict.fromkeys(arrays, name))
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    (folder / "config.json").write_text(json.dumps(config))
    return folder
