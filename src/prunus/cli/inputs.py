"""Inputs of a model from a file, or made up."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np

from prunus.errors import InputError

if TYPE_CHECKING:
    from prunus.model import CompiledModel

Arrays = dict[str, np.ndarray[Any, Any]]


def read_inputs(path: Path) -> Arrays:
    """Arrays by name from an `.npz` file, or from a `.json` file of nested lists.

    Raises:
        InputError: a file that cannot be read, of another kind, or with lists that are no array.
    """
    readers = {".npz": _from_npz, ".json": _from_json}
    if path.suffix not in readers:
        raise InputError(f"the inputs {path} are neither an .npz nor a .json file")
    try:
        return readers[path.suffix](path)
    except (OSError, EOFError, ValueError, RecursionError, BadZipFile, zlib.error) as error:
        raise InputError(f"the inputs {path} cannot be read: {error}") from error


def random_inputs(model: CompiledModel, text: str) -> Arrays:
    """Random ids of a shape such as 1x128, nothing masked.

    Raises:
        InputError: several shapes or none, or inputs that cannot be made up.
    """
    from prunus.bench import parse_shapes
    from prunus.bench.inputs import random_inputs as draw

    shapes = parse_shapes(text)
    if len(shapes) != 1:
        raise InputError(f"--random {text}: give one shape, such as 1x128")
    return draw(model.input_names, shapes[0], model.vocabulary)


def _from_npz(path: Path) -> Arrays:
    with path.open("rb") as file:  # NumPy leaves a file open that it cannot read
        loaded = np.load(file, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            raise InputError("it holds one array without a name, as .npy files do; use np.savez")
        return {name: loaded[name] for name in loaded.files}


def _from_json(path: Path) -> Arrays:
    data = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(data, dict):
        raise InputError(
            f"it holds a {type(data).__name__}, expected an object such as "
            '{"input_ids": [[101, 102]]}'
        )
    return {name: _array(name, value) for name, value in data.items()}


def _array(name: str, value: Any) -> np.ndarray[Any, Any]:
    try:
        array = np.array(value)
    except ValueError as error:  # rows of unequal length
        raise InputError(
            f"{name} is no array, as its lists are of unequal length; pad them"
        ) from error
    if array.dtype.kind not in "bif":
        raise InputError(f"{name} holds {array.dtype} values, expected numbers")
    return array.astype(np.float32) if array.dtype.kind == "f" else array
