"""The constants of a saved model, as tensors of a safetensors file and back.

A dense constant is the tensor of its name. A block-sparse constant `w` is the tensors `w.data`,
`w.indices` and `w.indptr`, with integers as small as they may be: at 94 % zeros, 16-bit indices
save a BERT-base 10 of 137 MB.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from prunus.errors import InputError, SavedModelError
from prunus.ir import Constant
from prunus.runtime.mapped_file import MappedFile
from prunus.runtime.memory import usable_memory
from prunus.runtime.saved_description import WEIGHTS, StoredConstant
from prunus.sparsity import BlockSparse, Pattern, check_block

_MAX_HEADER = 8 + 100_000_000
"""Largest header that the library reads."""

_CHUNK = 1 << 18
"""Elements checked at a time, so that what the check allocates stays in the second-level cache."""

_MAPPED = 1 << 20
"""Bytes from which on dense floats stay in the mapped file. What is smaller is copied, so that a
file that is changed in place cannot change it: of a BERT-base 0.5 MB, its biases and norms, while
its tables (1.5 and 94 MB) and dense weights (2.4 MB and more) stay mapped."""

_EMPTY_ROWS = 1 << 22
"""Rows of all sparse weights together for which nothing is stored. They cost a file nothing, but a
plan some 70 ns and a call several lines of memory each; all of a BERT-large has 220,000 rows."""

_DTYPES: Mapping[str, np.dtype] = {
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
    "I32": np.dtype("<i4"),
    "I64": np.dtype("<i8"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}

Tensors = dict[str, np.ndarray]


def split_constants(
    constants: Mapping[str, Constant],
) -> tuple[Tensors, dict[str, StoredConstant]]:
    """The tensors that store the constants, and how each constant is stored.

    Raises:
        SavedModelError: two constants want a tensor of the same name.
    """
    tensors: Tensors = {}
    stored: dict[str, StoredConstant] = {}
    for name, constant in constants.items():
        value, pattern = constant.value, constant.pattern
        if isinstance(value, BlockSparse):
            parts = _compact(name, value)
            stored[name] = StoredConstant("block-sparse", value.shape, value.block, pattern)
        else:
            parts = {name: value}
            stored[name] = StoredConstant("dense", value.shape, None, pattern)
        if clash := parts.keys() & tensors.keys():
            raise SavedModelError(f"two constants would be stored as {min(clash)!r}; rename one")
        tensors.update((part, np.asarray(array, order="C")) for part, array in parts.items())
    return tensors, stored


def write_tensors(path: Path, tensors: Tensors) -> None:
    """Write a safetensors file.

    Raises:
        SavedModelError: a dtype that the format lacks.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    try:
        save_file(tensors, path)
    except (SafetensorError, ValueError) as error:
        raise SavedModelError(f"{WEIGHTS} cannot be written: {error}") from error


def map_tensors(path: Path) -> tuple[MappedFile, Tensors]:
    """The tensors of a safetensors file as read-only views of the mapped file, and that file.

    The library checks that the offsets cover the file without gap or overlap and fit the shapes,
    but its own NumPy arrays are copies; hence the views. Each is cut out with its bounds checked.

    Raises:
        SavedModelError: the file is truncated or not of this format, or has an unknown dtype.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy"):
            pass
        file = MappedFile(path)
        content = file.content
        start = 8 + int.from_bytes(content[:8].tobytes(), "little")
        header = json.loads(content[8:start].tobytes())
        header.pop("__metadata__", None)
        tensors = {name: _view(content[start:], entry) for name, entry in header.items()}
    except (SafetensorError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise SavedModelError(
            f"{WEIGHTS} cannot be read: {type(error).__name__}: {error}"
        ) from error
    return file, tensors


def max_file_bytes(constants: Iterable[StoredConstant]) -> int:
    """The largest file in which constants stored like these can lie."""
    # A block holds an element at least, and has 4 bytes of index; a row of blocks has 8.
    return _MAX_HEADER + sum(
        16 * (math.prod(stored.shape) + sum(stored.shape) + 1) * math.prod(stored.block or (1,))
        for stored in constants
    )


def read_constant(name: str, stored: StoredConstant, tensors: Tensors) -> Constant:
    """Take the tensors of a constant out of `tensors` and check all that kernels rely on.

    Raises:
        SavedModelError: the tensors are missing, of other shapes or dtypes, or hold what they must
            not: indices out of range, NaN, in a measured weight also infinity.
    """
    block = stored.block or (1,) * len(stored.shape)
    padded = [-(-size // max(b, 1)) * b for size, b in zip(stored.shape, block, strict=False)]
    if 4 * math.prod(padded) > usable_memory():
        raise SavedModelError(
            f"the constant {name!r} claims {math.prod(padded)} elements, which is absurd: they do "
            "not fit into this machine's memory"
        )
    if stored.pattern is not None:
        _check_pattern(name, stored.pattern, stored.shape)
    if stored.storage == "dense":
        return Constant(_dense(name, stored, tensors), stored.pattern)
    return Constant(_block_sparse(name, stored, tensors), stored.pattern)


def check_empty_rows(constants: Mapping[str, Constant]) -> None:
    """Check that rows without a value are not what most of the work would be spent on.

    Raises:
        SavedModelError: there are more of them than any model has.
    """
    empty = 0
    for name, constant in constants.items():
        if isinstance(value := constant.value, BlockSparse):
            empty += max(0, value.shape[0] - len(value.indices) * value.block[0])
            if empty > _EMPTY_ROWS:
                raise SavedModelError(
                    f"the sparse constants up to {name!r} have {empty} rows for which nothing is "
                    f"stored, expected at most {_EMPTY_ROWS}; drop rows that are always zero"
                )


def _compact(name: str, value: BlockSparse) -> Tensors:
    indices, indptr = value.indices, value.indptr
    few_columns = not indices.size or indices.max() <= np.iinfo(np.uint16).max
    few_blocks = indices.size <= np.iinfo(np.int32).max
    return {
        f"{name}.data": value.data,
        f"{name}.indices": indices.astype(np.uint16) if few_columns else indices,
        f"{name}.indptr": indptr.astype(np.int32) if few_blocks else indptr,
    }


def _view(content: np.ndarray, entry: Mapping[str, Any]) -> np.ndarray:
    begin, end = entry["data_offsets"]
    return content[begin:end].view(_DTYPES[entry["dtype"]]).reshape(entry["shape"])


def _take(tensors: Tensors, name: str, *dtypes: str) -> np.ndarray:
    array = tensors.pop(name, None)
    if array is None:
        raise SavedModelError(f"{WEIGHTS} lacks the tensor {name!r}")
    if array.dtype not in [_DTYPES[dtype] for dtype in dtypes]:
        raise SavedModelError(
            f"the tensor {name!r} is {array.dtype}, expected {' or '.join(dtypes)}"
        )
    return array


def _dense(name: str, stored: StoredConstant, tensors: Tensors) -> np.ndarray:
    array = _take(tensors, name, "F32", "F64", "I32", "I64", "U8", "BOOL")
    if array.shape != stored.shape or stored.block is not None:
        raise SavedModelError(f"the constant {name!r} is {array.shape}, expected {stored.shape}")
    if array.dtype.kind == "f":
        if array.nbytes < _MAPPED:  # copied before it is checked, as is all that is copied
            array = _own(array, array.dtype)
        _check_values(name, array, np.isnan if stored.pattern is None else _not_finite)
        return array if array.flags.aligned else array.copy()
    if array.dtype == np.bool_ and (array.view(np.uint8) > 1).any():
        raise SavedModelError(f"the constant {name!r} holds bytes that are neither true nor false")
    # What may become an index must not change with the file once it has been checked.
    return _own(array, array.dtype)


def _block_sparse(name: str, stored: StoredConstant, tensors: Tensors) -> BlockSparse:
    data = _take(tensors, f"{name}.data", "F32")
    indices = _take(tensors, f"{name}.indices", "U16", "I32")
    indptr = _take(tensors, f"{name}.indptr", "I32", "I64")
    if len(stored.shape) != 2 or stored.block is None:
        raise SavedModelError(f"the constant {name!r} needs two dimensions and a block")
    value = BlockSparse(
        shape=(stored.shape[0], stored.shape[1]),
        block=stored.block,
        data=_own(data, data.dtype),
        indices=_own(indices, np.dtype(np.int32)),
        indptr=_own(indptr, np.dtype(np.int64)),
    )
    try:
        value.validate()
    except InputError as error:
        raise SavedModelError(f"the constant {name!r}: {error}") from error
    return value


def _own(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """A read-only copy that no file stands behind."""
    copy = array.astype(dtype, order="C", copy=True)
    copy.flags.writeable = False
    return copy


def _not_finite(values: np.ndarray) -> np.ndarray:
    return np.asarray(~np.isfinite(values))


def _check_values(name: str, array: np.ndarray, is_bad: Callable[[np.ndarray], np.ndarray]) -> None:
    flat = array.reshape(-1)
    for begin in range(0, flat.size, _CHUNK):
        bad = is_bad(flat[begin : begin + _CHUNK])
        if bad.any():
            value = flat[begin + int(bad.argmax())]
            raise SavedModelError(f"the constant {name!r} holds {value}; repair the checkpoint")


def _check_pattern(name: str, pattern: Pattern, shape: tuple[int, ...]) -> None:
    """Check what was measured as far as it can be wrong in itself; it decides speed, not safety."""
    try:
        for measured in pattern.blocks:
            check_block(measured.block)
        if pattern.block is not None:
            pattern.of(pattern.block)
    except InputError as error:
        raise SavedModelError(f"the pattern of {name!r}: {error}") from error
    shares = [pattern.zeros]
    for measured in pattern.blocks:
        shares += (measured.empty, measured.fill, measured.empty_inside, measured.fill_inside)
    sound = (
        pattern.shape == shape
        and all(0 <= share <= 1 for share in shares)
        and pattern.empty_rows <= shape[0]
        and pattern.empty_columns <= shape[1]
        and (pattern.kind == "block") == (pattern.block is not None)
        and (pattern.n_of_m is None or 1 <= pattern.n_of_m[0] < pattern.n_of_m[1])
    )
    if not sound:
        raise SavedModelError(f"the pattern of {name!r} does not fit a matrix of {list(shape)}")
