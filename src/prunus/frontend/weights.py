"""The weight files of a checkpoint: which there are, which to take, and how to read them safely."""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from prunus.documents import read_object, why_unreadable
from prunus.errors import CheckpointError, UnsupportedError
from prunus.frontend.trials import Refusal, attempt

if TYPE_CHECKING:
    import torch

SAFETENSORS = "model.safetensors"
PICKLE = "pytorch_model.bin"
INDICES = (f"{SAFETENSORS}.index.json", f"{PICKLE}.index.json")

# The order of preference is that of transformers: the same file wins there and here.
_PREFERENCE = (SAFETENSORS, INDICES[0], PICKLE, INDICES[1])

_CONVERT = "convert it with transformers 4 (`{call}`, then `save_pretrained`) and pass that folder"
_INT8 = (
    "int8 weights of neural-compressor: take the float checkpoint that they were made from, or "
    "dequantise them (zeros stay zeros) and save a float32 state_dict"
)
_OTHER_FORMATS = {
    "tf_model*.h5*": "TensorFlow: " + _CONVERT.format(call="from_pretrained(..., from_tf=True)"),
    "*.ckpt.index": "TensorFlow 1: " + _CONVERT.format(call="from_pretrained(..., from_tf=True)"),
    "flax_model*.msgpack*": "Flax: " + _CONVERT.format(call="from_pretrained(..., from_flax=True)"),
    "best_model.pt": _INT8,
    "quantized_weight.pt": _INT8,
    "adapter_model.safetensors": "a PEFT adapter: merge it into its base model "
    "(`merge_and_unload`) and save the result",
    "model.onnx": "ONNX, which prunus does not read: pass the PyTorch checkpoint it was made from",
    "model.safetensors.index.*.json": "a variant in shards: rename it to "
    "model.safetensors.index.json; the shards keep their names, and float16 is read as it is",
    "pytorch_model.bin.index.*.json": "a variant in shards: rename it to "
    "pytorch_model.bin.index.json; the shards keep their names, and float16 is read as it is",
    "model.*.safetensors": "a variant: rename it to model.safetensors (float16 is read as is)",
    "pytorch_model.*.bin": "a variant: rename it to pytorch_model.bin (float16 is read as is)",
}

# What Git leaves in the place of a large file that was not fetched.
_LFS_POINTER = b"version https://git-lfs"


def locate(folder: Path, names: Collection[str] | None = None) -> tuple[Path, ...]:
    """The weight files to read in ``folder``, safetensors before pickles, whole before shards.

    ``names`` says which files count as present: those that lie in the folder or, for a repository
    that is only partly downloaded, those that it lists. An index must lie in the folder itself.

    Raises:
        CheckpointError: no weights in a format that is read, or an index that names a shard which
            is not there.
    """
    available = _files_in(folder) if names is None else frozenset(names)
    chosen = _choose(folder, available)
    if chosen not in INDICES:
        return (folder / chosen,)
    return tuple(folder / shard for shard in _shards(folder / chosen, available))


def load(folder: Path) -> dict[str, Any]:
    """What the weight files in ``folder`` hold, by name; of a sound checkpoint, all tensors.

    Raises:
        CheckpointError: as :func:`locate` and :func:`read`, or a shard that lacks a tensor which
            the index promises.
    """
    state: dict[str, Any] = {}
    for path in locate(folder):
        state.update(read(path))
    check_promised(folder, state)
    return state


def check_promised(folder: Path, names: Collection[str]) -> None:
    """Insist that the weight files in ``folder`` hold every tensor that their index names, if any.

    Raises:
        CheckpointError: one is not among ``names``, those that the files hold.
    """
    index = _choose(folder, _files_in(folder))
    if index not in INDICES:
        return
    for name, shard in read_index(folder / index).items():
        if name not in names:
            raise CheckpointError(
                f"{folder / shard} lacks the tensor {name} that {index} says is in it: shards "
                "and index are not of the same model, so download or copy all of them again."
            )


def is_complete(folder: Path) -> bool:
    """Whether every weight file that :func:`locate` would choose lies in ``folder``."""
    try:
        return folder.is_dir() and all(path.is_file() for path in locate(folder))
    except CheckpointError:
        return False


def read(path: Path) -> dict[str, Any]:
    """What one file holds: tensors in their stored dtypes, memory-mapped if possible.

    Raises:
        CheckpointError: the file is missing, truncated, corrupt, or a pickle that holds code.
    """
    _check_is_file(path)
    return _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """Where a safetensors file has a tensor.

    Attributes:
        path: The file.
        dtype: As the format writes it, such as ``BF16``.
        shape: Its sizes.
        offset: Bytes of the file before it.
        nbytes: Its own bytes.
    """

    path: Path
    dtype: str
    shape: tuple[int, ...]
    offset: int
    nbytes: int


def read_header(path: Path) -> dict[str, StoredTensor]:
    """Where a safetensors file has each of its tensors; no tensor is read, nor is torch imported.

    Raises:
        CheckpointError: the file is missing, truncated or corrupt.
    """
    from safetensors import SafetensorError, safe_open

    _check_is_file(path)
    try:
        # The library checks that the offsets cover the file and fit the shapes, but keeps them.
        with safe_open(path, framework="numpy"), path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))
    except (SafetensorError, OSError, ValueError) as error:
        raise _damaged_safetensors(path, error) from error
    header.pop("__metadata__", None)
    return {name: _stored(path, 8 + length, entry) for name, entry in header.items()}


def _stored(path: Path, start: int, entry: Mapping[str, Any]) -> StoredTensor:
    begin, end = entry["data_offsets"]
    return StoredTensor(path, entry["dtype"], tuple(entry["shape"]), start + begin, end - begin)


def require_torch() -> None:
    """Raise ``UnsupportedError`` with what to install where torch or transformers is missing."""
    try:
        import torch  # noqa: F401
        import transformers  # noqa: F401
    except ImportError as error:
        raise UnsupportedError(
            f"Importing a model needs torch and transformers ({error}). Install them with "
            "`pip install 'prunus[hf]'`; a model saved by prunus runs without them (prunus.load)."
        ) from error


def in_one_line(error: Exception) -> str:
    """The kind of an error of another library and the start of its text, for a message."""
    text = " ".join(str(error).split())
    short = text if len(text) <= 240 else f"{text[:240]} …"
    return f"{type(error).__name__}: {short}" if text else type(error).__name__


def unreadable(path: Path, error: OSError) -> CheckpointError:
    """The error to raise for a file or folder that the system does not let prunus read."""
    place = Path(error.filename) if isinstance(error.filename, str) else path
    name = str(place) if len(str(place)) <= 240 else f"{str(place)[:240]} …"
    return CheckpointError(f"{name} cannot be read: {why_unreadable(error)}")


def _check_is_file(path: Path) -> None:
    """Raise for a file that cannot be opened, or that Git left in the place of another."""
    try:
        with path.open("rb") as file:
            start = file.read(len(_LFS_POINTER))
    except OSError as error:
        raise unreadable(path, error) from error
    if start == _LFS_POINTER:
        raise CheckpointError(
            f"{path} is a Git LFS pointer, not the weights themselves: run `git lfs pull` there."
        )


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors: dict[str, torch.Tensor] = load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise _damaged_safetensors(path, error) from error
    return tensors


def _damaged_safetensors(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"{path} is not a complete safetensors file ({error}): "
        "it is truncated or corrupt, so download or copy it again."
    )


def _read_pickle(path: Path) -> dict[str, Any]:
    """A ``pytorch_model.bin``, read by torch's restricted unpickler: nothing in it is executed."""
    import zipfile

    import torch

    # Only the zip form (torch 1.6 and later) can be mapped; older files are read whole.
    may_map = zipfile.is_zipfile(path)
    # A damaged pickle can make the unpickler raise nearly anything.
    try:
        content = attempt(
            lambda: torch.load(path, map_location="cpu", weights_only=True, mmap=may_map)
        )
    except MemoryError as error:
        raise CheckpointError(
            f"{path} takes more memory to read than there is: download or copy it again, as a "
            "number in it may be damaged, or read it where there is more memory."
        ) from error
    if isinstance(content, Refusal):
        raise CheckpointError(_refused_pickle(path, content.error)) from content.error
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"{path} holds a {type(content).__name__}, expected a dictionary of tensors: "
            "save `model.state_dict()` or use `save_pretrained`."
        )
    if odd := [key for key in content if not isinstance(key, str)]:
        raise CheckpointError(
            f"{path} has the key {odd[0]!r:.60}, a {type(odd[0]).__name__}, expected names of "
            "tensors: save `model.state_dict()` or use `save_pretrained`."
        )
    return dict(content)


def _refused_pickle(path: Path, error: Exception) -> str:
    called = re.search(r"GLOBAL (\w+(?:\.\w+)+)", str(error))
    if called is not None:
        return (
            f"{path} is a pickle that calls {called[1]}. Loading it could run code, so prunus "
            "refuses: get the checkpoint as safetensors, or save its state_dict again where you "
            "trust the file."
        )
    # The advice that PyTorch gives around its reason is to load the file unsafely.
    reason = re.search(r"WeightsUnpickler error:\s*([^.\n]*)", str(error))
    return (
        f"{path} is not a checkpoint as PyTorch writes it "
        f"({reason[1].strip() if reason else in_one_line(error)}): it is truncated "
        "or corrupt, so download or copy it again; or it is a pickle of another kind, which prunus "
        "does not load because it could run code."
    )


def _files_in(folder: Path) -> frozenset[str]:
    try:
        return frozenset(path.name for path in folder.iterdir() if path.is_file())
    except OSError as error:
        raise unreadable(folder, error) from error


def _choose(folder: Path, available: Collection[str]) -> str:
    for name in _PREFERENCE:
        if name in available:
            return name
    raise CheckpointError(_nothing_found(folder, available))


def _shards(index: Path, available: Collection[str]) -> list[str]:
    """The files that an index names, each checked to be available and to lie beside the index."""
    weight_map = read_index(index)
    shards = sorted(set(weight_map.values()))
    for shard in shards:
        # An index is data from anywhere: it must not lead to a file outside its folder.
        if PurePosixPath(shard).name != shard or "\\" in shard:
            raise CheckpointError(
                f"{index} names the shard {shard!r}, expected a file name without a folder: "
                "the index is damaged or hostile."
            )
        if shard not in available:
            weight = next(name for name, file in weight_map.items() if file == shard)
            raise CheckpointError(
                f"{index} names the shard {shard!r} (of {weight} and others), which is missing: "
                f"all of {len(shards)} shards are needed, so download or copy it as well."
            )
    return shards


def read_index(index: Path) -> dict[str, str]:
    """The weight map of an index: tensor name → file name.

    Raises:
        CheckpointError: the index is not JSON or has no weight map.
    """
    advice = "download or copy the index of shards again."
    weight_map = read_object(index, CheckpointError, advice).get("weight_map")
    if not (
        isinstance(weight_map, dict)
        and weight_map
        and all(isinstance(name, str) for name in weight_map.values())
    ):
        raise CheckpointError(
            f"{index} is not an index of shards: it has no `weight_map` from names of tensors to "
            f"file names; {advice}"
        )
    return weight_map


def _nothing_found(folder: Path, available: Collection[str]) -> str:
    wanted = f"expected {SAFETENSORS} or {PICKLE}, whole or in shards with an index"
    for pattern, advice in _OTHER_FORMATS.items():
        for name in fnmatch.filter(sorted(available), pattern):
            return f"{folder} has no PyTorch weights, only {name} ({advice}); {wanted}."
    found = ", ".join(sorted(available)) or "nothing"
    return f"{folder} has no weights: found {found}; {wanted}."
