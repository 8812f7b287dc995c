"""Keywords of transformers: taken where prunus does as they say anyway, else refused by name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from prunus.errors import UnsupportedError
from prunus.frontend.checkpoint import check_dtype
from prunus.frontend.expectations import CONFIG_FIELDS, Expectations


@dataclass(frozen=True, slots=True)
class Keyword:
    """A keyword of transformers.

    Attributes:
        harmless: The values that change nothing; None, for "not given", is one too. A value that is
            neither a boolean nor a string counts as its text, a function as its full name.
        reason: Why any other value is refused, and what to do.
    """

    harmless: tuple[object, ...]
    reason: str

    def takes(self, value: object) -> bool:
        """Whether a value changes nothing; `{"": device}` counts as the device."""
        if value is None:
            return True
        if isinstance(value, Mapping) and value.keys() == {""}:
            return self.takes(value[""])
        named = _named(value)
        return any(type(named) is type(each) and named == each for each in self.harmless)


def _named(value: object) -> bool | str:
    if isinstance(value, bool | str):
        return value
    if callable(value) and hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    return str(value)


_NO_QUANTISERS = "prunus computes in float32: leave it out, and give it the checkpoint unquantised"
_NO_RANDOM = "every weight must be in the checkpoint, as no layer is initialised at random"
_OTHER_FRAMEWORK = "prunus reads PyTorch checkpoints: convert it with transformers 4"
_ONE_PROCESS = "prunus runs a model in one process, whole: leave it out"
_NO_OFFLOAD = "weights stay in memory: leave it out"
_OWN_KERNELS = "prunus has its own kernels: leave it out"
_OWN_FILES = "prunus reads the checkpoint's own weights: save them with transformers, and pass that"
_BY_PUSH = "it belongs to an upload: pass it to push_to_hub of the model"

LOADING: Mapping[str, Keyword] = {
    "device_map": Keyword(
        ("cpu", "cpu:0"), 'prunus runs on the processor: pass device_map="cpu" or leave it out'
    ),
    "attn_implementation": Keyword(
        ("eager", "sdpa"), "prunus has its own kernels for attention: leave it out"
    ),
    "use_flash_attention_2": Keyword((False,), _OWN_KERNELS),
    "experts_implementation": Keyword(("eager",), _OWN_KERNELS),
    "use_kernels": Keyword((False,), _OWN_KERNELS),
    "kernel_config": Keyword((), _OWN_KERNELS),
    "allow_all_kernels": Keyword((False,), _OWN_KERNELS),
    "fusion_config": Keyword(("{}",), _OWN_KERNELS),
    "low_cpu_mem_usage": Keyword((True, False), "it is a boolean"),
    "disable_mmap": Keyword((True, False), "it is a boolean"),
    "resume_download": Keyword((True, False), "it is a boolean"),
    "use_cache": Keyword((True, False), "it is a boolean"),  # an encoder has no cache
    "max_memory": Keyword(("{}",), _NO_OFFLOAD),
    "offload_folder": Keyword((), _NO_OFFLOAD),
    "offload_state_dict": Keyword((False,), _NO_OFFLOAD),
    "offload_buffers": Keyword((False,), _NO_OFFLOAD),
    "tp_plan": Keyword((), _ONE_PROCESS),
    "tp_size": Keyword(("1",), _ONE_PROCESS),
    "device_mesh": Keyword((), _ONE_PROCESS),
    "distributed_config": Keyword((), _ONE_PROCESS),
    "trust_remote_code": Keyword(
        (False,),
        "prunus runs no code of a repository: load the model with transformers, and pass the "
        "module to prunus.compile",
    ),
    "code_revision": Keyword((), "prunus runs no code of a repository: leave it out"),
    "variant": Keyword(
        (),
        "prunus reads the files without a variant: rename those of the variant in a copy of the "
        "repository (weights in float16 are read as they are)",
    ),
    "force_download": Keyword(
        (False,), "remove the model from the hub's cache instead (`hf cache rm`)"
    ),
    "proxies": Keyword(("{}",), "set the environment variable HTTPS_PROXY instead"),
    "mirror": Keyword((), "set the environment variable HF_ENDPOINT instead"),
    "use_auth_token": Keyword((), "pass it as token"),
    "tqdm_class": Keyword((), "the hub's client shows its own progress: leave it out"),
    "ignore_mismatched_sizes": Keyword((False,), _NO_RANDOM),
    "output_loading_info": Keyword((False,), "a model is returned without a report"),
    "quantization_config": Keyword((), _NO_QUANTISERS),
    "load_in_8bit": Keyword((False,), _NO_QUANTISERS),
    "load_in_4bit": Keyword((False,), _NO_QUANTISERS),
    "weights_only": Keyword((True,), "prunus runs no code that a pickle holds"),
    "from_tf": Keyword((False,), _OTHER_FRAMEWORK),
    "from_flax": Keyword((False,), _OTHER_FRAMEWORK),
    "gguf_file": Keyword((), _OTHER_FRAMEWORK),
    "state_dict": Keyword((), _OWN_FILES),
    "key_mapping": Keyword((), _OWN_FILES),
    "adapter_kwargs": Keyword(("{}",), "merge the adapter (`merge_and_unload`) and save the model"),
    "adapter_name": Keyword(("default",), "merge the adapter (`merge_and_unload`) and save it"),
    "generation_config": Keyword((), "encoders write no text: leave it out"),
}
"""Of `from_pretrained`, beside `torch_dtype` and what `expectations.py` compares with the files."""

SAVING: Mapping[str, Keyword] = {
    "safe_serialization": Keyword((True,), "prunus writes safetensors, never pickles"),
    "save_function": Keyword(("torch.serialization.save",), "prunus writes the files itself"),
    "push_to_hub": Keyword((False,), "call push_to_hub of the model, which adds a model card"),
    "is_main_process": Keyword((True,), "call save_pretrained in the main process alone"),
    "variant": Keyword((), "prunus writes one form of the weights"),
    "state_dict": Keyword((), "prunus saves the compiled weights"),
    "save_peft_format": Keyword((True, False), "it is a boolean"),
    "save_original_format": Keyword((True, False), "it is a boolean"),
    "distributed_checkpoint": Keyword((False,), "prunus writes one file of weights"),
    "token": Keyword((), _BY_PUSH),
    "use_auth_token": Keyword((), _BY_PUSH),
    "repo_id": Keyword((), _BY_PUSH),
    "private": Keyword((), _BY_PUSH),
    "revision": Keyword((), _BY_PUSH),
    "commit_message": Keyword((), _BY_PUSH),
    "create_pr": Keyword((False,), _BY_PUSH),
}
"""Of `save_pretrained`, beside `max_shard_size`."""

_LIKENESS = 0.87
"""How alike a name must be to be suggested: "thread" is, "from_pt" is too far from "from_tf"."""


def take_loading(options: Mapping[str, Any]) -> tuple[dict[str, Any], Expectations]:
    """The options without the keywords of transformers, and what these expect of the files.

    Raises:
        UnsupportedError: a keyword whose value would change the model or where it runs.
    """
    check_loading_dtype(options.get("torch_dtype"), "torch_dtype")
    check_keywords("from_pretrained", LOADING, options)
    known = loading_names()
    rest = {name: value for name, value in options.items() if name not in known}
    fields = {name: options[name] for name in CONFIG_FIELDS if options.get(name) is not None}
    return rest, Expectations(options.get("use_safetensors"), options.get("config"), fields)


def loading_names() -> tuple[str, ...]:
    """The keywords of transformers that `from_pretrained` knows."""
    return (*LOADING, "torch_dtype", "use_safetensors", "config", *CONFIG_FIELDS)


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


def check_known(
    method: str,
    given: Iterable[str],
    options: Iterable[str],
    keywords: Iterable[str],
    error: type[Exception] = TypeError,
) -> None:
    """Refuse a keyword that is not known.

    Args:
        method: What was called, for the message.
        given: The keywords of the call.
        options: Those that the method has itself.
        keywords: Those of transformers that it takes where they change nothing.
        error: What to raise.

    Raises:
        error: there is one; the message names the closest known one, if one is close.
    """
    options = tuple(options)
    known = (*options, *keywords)
    for name in sorted(set(given) - set(known)):
        close = difflib.get_close_matches(name, known, n=1, cutoff=_LIKENESS)
        hint = f", did you mean {close[0]!r}?" if close else ":"
        own = f"it takes {', '.join(options)}, and " if options else "it takes "
        raise error(
            f"{method} got an unknown keyword {name!r}{hint} {own}"
            "those keywords of transformers that change nothing"
        )
