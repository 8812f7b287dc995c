"""The tensors of a checkpoint by name, in whatever form they lie in its files."""

from __future__ import annotations

import re
from pathlib import Path

from prunus.errors import CheckpointError
from prunus.frontend import foreign, weights
from prunus.frontend.hub import Checkpoint
from prunus.inspection.tensors import DTYPES, FLOATS, Bitmask, InFile, InPickle, Masked, Tensor

_BITMASK_PART = re.compile(r"(.+)\.(compressed|bitmask|shape|row_offsets)")


def checkpoint_tensors(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """The tensors of a checkpoint as `prunus.frontend.checkpoint.load_state` has them, unread.

    Bitmasks of compressed-tensors and pairs of `weight_orig` and `weight_mask` are one tensor each.
    A tensor that a pickle holds under two names, as tied weights are, has the first.

    Raises:
        CheckpointError: as `load_state`.
        UnsupportedError: a pickle, where torch is not installed.
    """
    tensors: dict[str, Tensor] = {}
    for path in weights.locate(checkpoint.folder):
        tensors.update(_tensors_in(checkpoint, path))
    weights.check_promised(checkpoint.folder, tensors)
    tensors = _without_ties(tensors)
    _join_bitmasks(checkpoint, tensors)
    _refuse_quantised(checkpoint, tensors)
    return _fold_masks(checkpoint, tensors)


def _tensors_in(checkpoint: Checkpoint, path: Path) -> dict[str, Tensor]:
    if path.suffix != ".safetensors":
        weights.require_torch()
        state = weights.read(path)
        foreign.refuse_names(checkpoint.name, state)
        foreign.refuse_objects(checkpoint.name, state)
        return {name: InPickle.of(tensor) for name, tensor in state.items()}
    header = weights.read_header(path)
    foreign.refuse_names(checkpoint.name, header)
    return {name: InFile.of(stored) for name, stored in header.items()}


def _without_ties(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Each tensor once, under its first name; safetensors holds none twice."""
    names: dict[object, str] = {}
    for name, tensor in tensors.items():
        if isinstance(tensor, InPickle) and tensor.size:
            place = (tensor.tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.tensor.stride())
            names.setdefault(place, name)
        else:
            names[name] = name
    return {name: tensors[name] for name in names.values()}


def _join_bitmasks(checkpoint: Checkpoint, tensors: dict[str, Tensor]) -> None:
    """Put one tensor in the place of the parts of each bitmask."""
    stems = [
        name.rpartition(".")[0] for name in tensors if name.endswith((".compressed", ".bitmask"))
    ]
    # The first releases wrote whole names, later ones left `.weight` out.
    has_whole_names = any(stem.endswith(".weight") for stem in stems)
    for stem in dict.fromkeys(stems):
        name = stem if has_whole_names else f"{stem}.weight"
        if name in tensors:
            raise CheckpointError(
                f"{checkpoint.name} holds {name} twice, as a bitmask and as a dense tensor: files "
                "of two models are mixed, so download or copy all of them again."
            )
        found = {each: _BITMASK_PART.fullmatch(each) for each in tensors}
        parts = {
            match[2]: tensors.pop(each)
            for each, match in found.items()
            if match and match[1] == stem
        }
        tensors[name] = Bitmask.of(f"{checkpoint.name}: {stem}", parts)


def _refuse_quantised(checkpoint: Checkpoint, tensors: dict[str, Tensor]) -> None:
    """Raise for a tensor that is neither floats nor indices (`position_ids`, masks)."""
    for name, tensor in tensors.items():
        is_index = tensor.dtype in DTYPES.values() and not name.endswith("weight")
        if tensor.dtype not in FLOATS and not is_index:
            raise foreign.quantised(checkpoint.name, name, tensor.dtype)


def _fold_masks(checkpoint: Checkpoint, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """`P_orig` and `P_mask` → their product `P`, in the place of the first."""
    originals = [name for name in tensors if name.endswith(("weight_orig", "bias_orig"))]
    folded: dict[str, Tensor] = {}
    for name in originals:
        plain, original = name.removesuffix("_orig"), tensors[name]
        mask = tensors.get(f"{plain}_mask")
        if mask is None or mask.shape != original.shape:
            found = "is missing" if mask is None else f"has the shape {list(mask.shape)}"
            raise CheckpointError(
                f"{checkpoint.name} has {name} of shape {list(original.shape)}, but {plain}_mask "
                f"{found}: call `torch.nn.utils.prune.remove` on the model and save it again."
            )
        folded[name] = Masked.of(original, mask)
    masks = {f"{name.removesuffix('_orig')}_mask" for name in originals}
    return {
        name.removesuffix("_orig") if name in folded else name: folded.get(name, tensor)
        for name, tensor in tensors.items()
        if name not in masks
    }
