"""A checkpoint in any of its forms → tensors → the transformers module that its config names."""

from __future__ import annotations

import copy
import difflib
import inspect
import os
import re
import sys
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from prunus.errors import CheckpointError, UnsupportedError
from prunus.frontend import foreign, weights
from prunus.frontend.bitmask import expand_bitmasks
from prunus.frontend.exclusive import exclusively, restoring
from prunus.frontend.hub import Checkpoint
from prunus.frontend.trials import Refusal, attempt
from prunus.frontend.weights import in_one_line

if TYPE_CHECKING:
    import torch

Result = TypeVar("Result")

# A field proves nothing: dense models carry settings of quantisers. What counts is what the tensors
# are, and that is checked here, so transformers is not to look for a quantiser.
_QUANTISER_SETTINGS = "quantization_config"


def load_state(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint by name, in their stored dtypes, as dense weights with zeros.

    Bitmasks of compressed-tensors are expanded. Masks that ``torch.nn.utils.prune`` left behind
    are folded: ``weight_orig * weight_mask`` becomes ``weight``.

    Raises:
        CheckpointError: files that are missing, damaged or unsafe, or weights in a form that only
            the tool which wrote them can undo.
        UnsupportedError: torch is not installed.
    """
    weights.require_torch()
    state = weights.load(checkpoint.folder)
    foreign.refuse_names(checkpoint.name, state)
    foreign.refuse_objects(checkpoint.name, state)
    expand_bitmasks(state, checkpoint.name)
    _refuse_quantised(checkpoint, state)
    return _fold_masks(checkpoint, state)


def load_module(
    checkpoint: Checkpoint, *, dtype: str = "float32", architecture: str | None = None
) -> torch.nn.Module:
    """The module that ``config.architectures`` names, with the weights of the checkpoint, in eval.

    `architecture` names another class of transformers for the same weights.

    transformers itself places the weights (names of old checkpoints, prefixes of base models, tied
    weights, buffers), and its report is read strictly: nothing is ever initialised at random.
    Weights that the module has no use for are named in one warning.

    Raises:
        CheckpointError: as :func:`load_state`; a weight that the module needs is missing, has
            another shape, or is not finite; the configuration does not fit its class.
        UnsupportedError: an architecture that transformers does not have, another dtype than
            float32, or torch or transformers is not installed.
    """
    check_dtype(dtype)
    weights.require_torch()
    return exclusively(lambda: _load_module(checkpoint, architecture))


def _load_module(checkpoint: Checkpoint, architecture: str | None) -> torch.nn.Module:
    model_class = _model_class(checkpoint, architecture)
    state = load_state(checkpoint)

    def place() -> tuple[torch.nn.Module, dict[str, Any]]:
        module, report = _place(checkpoint, model_class, state)
        if _lacks_pooler_alone(model_class, report):
            module, report = _place(checkpoint, model_class, state, add_pooling_layer=False)
        return module, report

    module, report = without_transformers_log(place)
    _check_report(checkpoint, module, report)
    _check_finite(checkpoint, module)
    _name_left_over(checkpoint, module, {*report["unexpected_keys"], *_hidden(module, state)})
    return module


def check_dtype(dtype: Any, name: str = "dtype") -> None:
    """Insist on float32, in which prunus computes; `name` is that of the argument.

    Raises:
        UnsupportedError: another dtype.
    """
    if str(dtype).removeprefix("torch.") != "float32":
        raise UnsupportedError(
            f"{name} {dtype!r}: prunus computes in float32 (checkpoints in float16 and bfloat16 "
            f"are read and widened). Leave {name} out or pass 'float32'."
        )


def _refuse_quantised(checkpoint: Checkpoint, state: Mapping[str, torch.Tensor]) -> None:
    """Raise for a tensor that is neither floats nor indices."""
    for name, tensor in state.items():
        if not _is_plain(name, tensor):
            raise foreign.quantised(checkpoint.name, name, tensor.dtype)


def _is_plain(name: str, tensor: torch.Tensor) -> bool:
    """Whether a tensor is a float that is read as it is, or an index (``position_ids``, masks)."""
    import torch

    if tensor.is_floating_point():
        return tensor.dtype in (torch.float32, torch.float16, torch.bfloat16, torch.float64)
    return not (tensor.is_quantized or tensor.is_complex() or name.endswith("weight"))


def _fold_masks(checkpoint: Checkpoint, state: dict[str, Any]) -> dict[str, torch.Tensor]:
    """``P_orig`` and ``P_mask`` → their product ``P``, as ``torch.nn.utils.prune.remove`` does."""
    for name in [name for name in state if name.endswith(("weight_orig", "bias_orig"))]:
        plain = name.removesuffix("_orig")
        original, mask = state.pop(name), state.pop(f"{plain}_mask", None)
        if mask is None or mask.shape != original.shape:
            found = "is missing" if mask is None else f"has the shape {list(mask.shape)}"
            raise CheckpointError(
                f"{checkpoint.name} has {name} of shape {list(original.shape)}, but {plain}_mask "
                f"{found}: call `torch.nn.utils.prune.remove` on the model and save it again."
            )
        state[plain] = original * mask.to(original.dtype)
    return state


def _model_class(checkpoint: Checkpoint, architecture: str | None) -> type[torch.nn.Module]:
    """The class asked for, or the one that the configuration names first, which wrote it."""
    import transformers

    architectures = [architecture] if architecture else checkpoint.config.get("architectures")
    if not (isinstance(architectures, list) and architectures):
        raise CheckpointError(
            f"{checkpoint.folder / 'config.json'} names no architecture. Add the class of the "
            'model, such as `"architectures": ["BertForQuestionAnswering"]`, or load it with '
            "transformers and pass the module to `prunus.compile`."
        )
    name = str(architectures[0])
    model_class = getattr(transformers, name, None)
    if not (
        isinstance(model_class, type) and issubclass(model_class, transformers.PreTrainedModel)
    ):
        models = [other for other in dir(transformers) if re.search(r"Model$|For[A-Z]", other)]
        close = difflib.get_close_matches(name, models, n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        raise UnsupportedError(
            f"{checkpoint.name} is a {name}, which is not a model of transformers "
            f"{transformers.__version__}: correct `architectures` in config.json, or pass an "
            f"nn.Module to `prunus.compile`.{hint}"
        )
    return model_class


def _lacks_pooler_alone(model_class: type[torch.nn.Module], report: Mapping[str, Any]) -> bool:
    """Whether all that is missing is a pooler that the class can do without: a base model made of a
    checkpoint with another head, such as a masked language model's.
    """
    missing = report["missing_keys"]
    optional = "add_pooling_layer" in inspect.signature(model_class.__init__).parameters
    return bool(optional and missing and all("pooler." in name for name in missing))


def _place(
    checkpoint: Checkpoint,
    model_class: type[torch.nn.Module],
    state: dict[str, torch.Tensor],
    **options: Any,
) -> tuple[torch.nn.Module, dict[str, Any]]:
    """Let transformers build the module on the meta device and assign the tensors to it."""
    import torch

    loader: Any = model_class  # whose types do not say that it returns a report
    fields = {
        key: checkpoint.config[key] for key in checkpoint.config.keys() - {_QUANTISER_SETTINGS}
    }

    def load() -> tuple[Any, dict[str, Any]]:
        loaded: tuple[Any, dict[str, Any]] = loader.from_pretrained(
            None,
            config=loader.config_class.from_dict(copy.deepcopy(fields)),
            state_dict=dict(state),
            dtype=torch.float32,
            attn_implementation="sdpa" if loader._supports_sdpa else "eager",
            ignore_mismatched_sizes=True,  # so that it is reported, with both shapes
            output_loading_info=True,
            **options,
        )
        return loaded

    found = attempt(load)
    if isinstance(found, Refusal):  # of fields or tensors that do not fit the class
        raise CheckpointError(
            f"transformers cannot make a {model_class.__name__} of {checkpoint.folder} "
            f"({in_one_line(found.error)}): check that config.json came with these weights."
        ) from found.error
    module, report = found
    module.config.name_or_path = checkpoint.name
    return module, report


def _check_report(checkpoint: Checkpoint, module: torch.nn.Module, report: dict[str, Any]) -> None:
    """Refuse what transformers would have initialised at random."""
    kind = type(module).__name__
    if missing := sorted(report["missing_keys"]):
        more = f" and {len(missing) - 6} more" if len(missing) > 6 else ""
        raise CheckpointError(
            f"{checkpoint.name} lacks weights that {kind} needs: "
            f"{', '.join(missing[:6])}{more}. The files may be of another "
            "class than `architectures` in config.json says: correct it there, or fine-tune and "
            "save the model with this head."
        )
    if report["mismatched_keys"]:
        name, stored, expected = min(report["mismatched_keys"])
        heads = checkpoint.config.get("pruned_heads")
        hint = (
            " (its `pruned_heads` were cut out, which transformers 5 cannot undo)" if heads else ""
        )
        raise CheckpointError(
            f"{checkpoint.name} stores {name} with the shape {list(stored)}, but {kind} expects "
            f"{list(expected)}: config.json and weights are not of the same model{hint}."
        )
    if report["error_msgs"]:
        raise CheckpointError(
            f"{checkpoint.name} does not load as {kind}: {'; '.join(report['error_msgs'])}"
        )


def _check_finite(checkpoint: Checkpoint, module: torch.nn.Module) -> None:
    """Refuse NaN and infinity, which would turn every answer into NaN."""
    import torch

    for name, tensor in module.state_dict().items():
        # A sum is finite only if all terms are, and is much cheaper than `isfinite` on each; it may
        # overflow, so only the second look decides.
        if tensor.is_floating_point() and not torch.isfinite(tensor.sum()):
            wrong = int((~torch.isfinite(tensor)).sum())
            if wrong:
                raise CheckpointError(
                    f"{checkpoint.name}: {wrong} of the {tensor.numel()} values of {name} are NaN "
                    "or infinite in float32. The checkpoint is damaged, or training diverged."
                )


def _hidden(module: torch.nn.Module, state: Mapping[str, Any]) -> Iterator[str]:
    """Left-over weights that transformers knows of and leaves out of its report."""
    ignored = getattr(module, "_keys_to_ignore_on_load_unexpected", None) or ()
    known = (*ignored, "position_ids$", "inv_freq$")
    prefix = f"{getattr(module, 'base_model_prefix', '')}."
    present = module.state_dict().keys()
    for name in state:
        spellings = {name, prefix + name, name.removeprefix(prefix)}
        if any(re.search(pattern, name) for pattern in known) and present.isdisjoint(spellings):
            yield name


def _name_left_over(
    checkpoint: Checkpoint, module: torch.nn.Module, names: Collection[str]
) -> None:
    """One warning for all; more than a few names are joined where only their numbers differ."""
    if not names:
        return
    count = len(names)
    if count > 6:
        names = {re.sub(r"(?<=\.)\d+(?=\.|$)", "*", name) for name in names}
    warnings.warn(
        f"{checkpoint.name}: left out what {type(module).__name__} has no use for "
        f"(weights of the checkpoint: {count}): {', '.join(sorted(names))}",
        stacklevel=_frames_inside_prunus(),
    )


def _frames_inside_prunus() -> int:
    """The ``stacklevel`` for a warning of the calling function to point at the user's own line."""
    package = f"{Path(__file__).parents[1]}{os.sep}"
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_code.co_filename.startswith(package):
        frame, level = frame.f_back, level + 1
    return level


def without_transformers_log(work: Callable[[], Result]) -> Result:
    """The result of `work`, without the log and the progress bar of transformers: prunus reports in
    its own words.
    """
    from transformers.utils import logging as untyped_logging

    logging: Any = untyped_logging
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()

    def restore() -> None:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()

    def run() -> Result:
        logging.set_verbosity_error()
        if bars:
            logging.disable_progress_bar()
        return work()

    return restoring(run, restore)
