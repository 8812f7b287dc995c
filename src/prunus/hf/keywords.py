"""Keywords of transformers: taken where prunus does as they say anyway, else refused by name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prunus.errors import CheckpointError, UnsupportedError
from prunus.frontend import weights
from prunus.frontend.checkpoint import check_dtype


@dataclass(frozen=True, slots=True)
class Keyword:
    """A keyword of transformers.

    Attributes:
        harmless: The values that change nothing; None, for "not given", is one too.
        reason: Why any other value is refused, and what to do.
    """

    harmless: tuple[object, ...]
    reason: str

    def takes(self, value: object) -> bool:
        """Whether a value changes nothing; a device counts as its name."""
        if value is None:
            return True
        if isinstance(value, Mapping):
            return value.keys() == {""} and self.takes(value[""])
        named = value if isinstance(value, bool | str) else str(value)
        return any(type(named) is type(each) and named == each for each in self.harmless)


_NO_QUANTISERS = "prunus computes in float32: leave it out, and give it the checkpoint unquantised"
_NO_RANDOM = "every weight must be in the checkpoint, as no layer is initialised at random"
_OTHER_FRAMEWORK = "prunus reads PyTorch checkpoints: convert it with transformers 4"

LOADING: Mapping[str, Keyword] = {
    "device_map": Keyword(
        ("cpu", "cpu:0"), 'prunus runs on the processor: pass device_map="cpu" or leave it out'
    ),
    "attn_implementation": Keyword(
        ("eager", "sdpa"), "prunus has its own kernels for attention: leave it out"
    ),
    "low_cpu_mem_usage": Keyword((True, False), "it is a boolean"),
    "trust_remote_code": Keyword(
        (False,),
        "prunus runs no code of a repository: load the model with transformers, and pass the "
        "module to prunus.compile",
    ),
    "variant": Keyword(
        (),
        "prunus reads the files without a variant: rename those of the variant in a copy of the "
        "repository (weights in float16 are read as they are)",
    ),
    "force_download": Keyword(
        (False,), "remove the model from the hub's cache instead (`hf cache rm`)"
    ),
    "ignore_mismatched_sizes": Keyword((False,), _NO_RANDOM),
    "output_loading_info": Keyword((False,), "a model is returned without a report"),
    "quantization_config": Keyword((), _NO_QUANTISERS),
    "load_in_8bit": Keyword((False,), _NO_QUANTISERS),
    "load_in_4bit": Keyword((False,), _NO_QUANTISERS),
    "weights_only": Keyword((True,), "prunus runs no code that a pickle holds"),
    "from_tf": Keyword((False,), _OTHER_FRAMEWORK),
    "from_flax": Keyword((False,), _OTHER_FRAMEWORK),
}
"""Of `from_pretrained`, beside `torch_dtype` and `use_safetensors`."""

SAVING: Mapping[str, Keyword] = {
    "safe_serialization": Keyword((True,), "prunus writes safetensors, never pickles"),
    "push_to_hub": Keyword((False,), "call push_to_hub of the model, which adds a model card"),
    "is_main_process": Keyword((True,), "call save_pretrained in the main process alone"),
    "max_shard_size": Keyword((), "prunus writes one file of weights"),
    "variant": Keyword((), "prunus writes one form of the weights"),
    "state_dict": Keyword((), "prunus saves the compiled weights"),
}
"""Of `save_pretrained`."""

_SEPARATE = ("torch_dtype", "use_safetensors")


def take_loading(options: Mapping[str, Any]) -> tuple[dict[str, Any], bool | None]:
    """The options without the keywords of transformers, and what `use_safetensors` says.

    Raises:
        UnsupportedError: a keyword whose value would change the model or where it runs.
    """
    check_loading_dtype(options.get("torch_dtype"), "torch_dtype")
    check_keywords("from_pretrained", LOADING, options)
    known = {*LOADING, *_SEPARATE}
    rest = {name: value for name, value in options.items() if name not in known}
    return rest, options.get("use_safetensors")


def loading_names() -> tuple[str, ...]:
    """The keywords of transformers that `from_pretrained` knows."""
    return (*LOADING, *_SEPARATE)


def check_loading_dtype(dtype: Any, name: str = "dtype") -> None:
    """Insist on float32, or on no wish: None, and "auto", the default of transformers.

    Raises:
        UnsupportedError: another dtype.
    """
    if dtype is not None and dtype != "auto":
        check_dtype(dtype, name)


def check_keywords(method: str, table: Mapping[str, Keyword], given: Mapping[str, Any]) -> None:
    """Refuse values that prunus cannot follow.

    Raises:
        UnsupportedError: there is one.
    """
    for name in given.keys() & table.keys():
        if not table[name].takes(given[name]):
            raise UnsupportedError(f"{method}({name}={given[name]!r:.60}): {table[name].reason}")


def check_known(method: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Refuse a keyword that is not known.

    Raises:
        TypeError: there is one; the message names the closest known one.
    """
    for name in sorted(set(given) - set(known)):
        close = difflib.get_close_matches(name, known, n=1)
        hint = f", did you mean {close[0]!r}?" if close else ":"
        raise TypeError(
            f"{method} got an unknown keyword {name!r}{hint} it takes {', '.join(known)}"
        )


def check_form(folder: Path, use_safetensors: bool | None) -> None:
    """Insist on weights in safetensors files, or on pickles, where that was asked for.

    Raises:
        CheckpointError: prunus would read the other form.
    """
    if use_safetensors is None:
        return
    read = weights.locate(folder)[0]
    if (read.suffix == ".safetensors") != use_safetensors:
        wanted = "safetensors" if use_safetensors else "pickles"
        raise CheckpointError(
            f"use_safetensors={use_safetensors}: prunus reads {read}, as safetensors come first "
            f"where a folder has both forms; leave it out, or pass a folder with {wanted} alone"
        )
