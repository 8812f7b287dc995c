"""How sentence-transformers makes the vector of a text, read from the files that it writes.

What its `encode` would do is done here too or refused by name: a setting that is ignored would
silently give other vectors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, cast

from prunus.errors import CheckpointError, InputError, UnsupportedError
from prunus.text.dense import read_dense
from prunus.text.files import read_json
from prunus.text.vectors import POOLINGS, SIMILARITIES, Dense, Normalize, Pooling, Similarity

MODULES = "modules.json"
MODEL = "config_sentence_transformers.json"
TRANSFORMER = tuple(
    f"sentence_{kind}_config.json"
    for kind in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
"""Names of the file with the settings of the first module; sentence-transformers takes the first
that is there.
"""

_LEGACY_POOLINGS: dict[str, Pooling] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
"""The keys before version 6, in the order in which their vectors are joined."""

_TEXT_BY_FORWARD = {"method": "forward", "method_output_name": "last_hidden_state"}
_PLAIN_TRANSFORMER: dict[str, Any] = {
    "transformer_task": "feature-extraction",
    "module_output_name": "token_embeddings",
}
_HARMLESS = frozenset(["max_seq_length", "do_lower_case", "unpad_inputs"])
"""Settings of the first module that are read elsewhere, or change nothing on a CPU."""

_OTHERWISE = (
    "pool the model's last_hidden_state yourself (`TextModel.model`), or run the model in "
    "sentence-transformers by `prunus.st.accelerate`, which keeps every module"
)


@dataclass(frozen=True, slots=True)
class Sentences:
    """How sentence-transformers makes a vector of a text; the defaults are its own.

    Attributes:
        pooling: How tokens become one vector; several are joined.
        include_prompt: Whether the tokens of a prompt are pooled too.
        modules: What follows the pooling, in order.
        max_length: Tokens of a text, at most; None where nothing is said.
        lower_case: Whether texts are written in small letters before they are tokenized.
        prompts: Texts by name, to be put before a text.
        default_prompt: The name of the prompt for texts that come without one.
        similarity: The name of the function that compares vectors.
        dimensions: Features of a vector that are kept, the first ones; None for all.
    """

    pooling: tuple[Pooling, ...] = ("mean",)
    include_prompt: bool = True
    modules: tuple[Dense | Normalize, ...] = ()
    max_length: int | None = None
    lower_case: bool = False
    prompts: Mapping[str, str] = field(default_factory=lambda: {"query": "", "document": ""})
    default_prompt: str | None = None
    similarity: Similarity = "cosine"
    dimensions: int | None = None

    @staticmethod
    def read(folder: Path, width: int) -> Sentences:
        """What the files in a folder say; the defaults where sentence-transformers wrote none.

        Args:
            folder: The folder with `modules.json`.
            width: Features of the vector of a token.

        Raises:
            UnsupportedError: a module or a setting that prunus does not have.
            CheckpointError: files that cannot be read, or contradict each other.
        """
        if not (folder / MODULES).is_file():
            return Sentences()
        fields = _pipeline(folder, width) | _transformer(folder) | _model(folder)
        return Sentences(**fields)

    def prompt(self, name: str | None, text: str | None) -> str:
        """What is put before each text: a prompt by its name, one as it is, or the default.

        Raises:
            InputError: both are given, or there is no prompt of that name.
        """
        if name is not None and text is not None:
            raise InputError(f"prompt_name={name!r:.40} and prompt={text!r:.40}: pass one of them")
        if text is not None:
            if not isinstance(text, str):
                raise InputError(f"the prompt is a {type(text).__name__}, expected a string")
            return text
        chosen = self.default_prompt if name is None else name
        if chosen is None:
            return ""
        if chosen not in self.prompts:
            raise InputError(
                f"there is no prompt {chosen!r:.60}, only {', '.join(self.prompts)}: pass one of "
                "these as prompt_name, or the text itself as prompt"
            )
        return self.prompts[chosen]


def _pipeline(folder: Path, width: int) -> dict[str, Any]:
    """The modules: a Transformer, a Pooling, then what projects and normalizes."""
    path = folder / MODULES
    listed = _listed(path)
    kinds = [kind for kind, _ in listed]
    if kinds[:2] != ["Transformer", "Pooling"] or listed[0][1] not in ("", "."):
        found_modules = ", ".join(f"{kind} in {place!r:.40}" for kind, place in listed[:2])
        more = ", …" if len(listed) > 2 else ""
        raise UnsupportedError(
            f"{path} has the modules {found_modules}{more}, "
            f"expected first a Transformer in '' and a Pooling; {_OTHERWISE}"
        )
    found: dict[str, Any] = _pooling(folder / listed[1][1] / "config.json")
    width *= len(found["pooling"])
    modules: list[Dense | Normalize] = []
    for kind, place in listed[2:]:
        if kind == "Normalize":
            _check_vectors(folder / place / "config.json")
            modules.append(Normalize())
        elif kind == "Dense":
            dense = read_dense(folder / place, width)
            modules.append(dense)
            width = len(dense.weight)
        elif kind != "Dropout":  # which does nothing outside of training
            raise UnsupportedError(
                f"{path} has a module {kind}, which prunus does not have after the pooling, "
                f"expected Dense, Normalize or Dropout; {_OTHERWISE}"
            )
    return found | {"modules": tuple(modules)}


def _listed(path: Path) -> list[tuple[str, str]]:
    """The class and the folder of each module, in their order.

    A class of another package keeps its whole name, as it may do anything.
    """
    modules = read_json(path)
    if modules == []:
        raise CheckpointError(
            f"{path} is an empty list, expected the modules of the model, first a Transformer and "
            "a Pooling: copy it again, or delete it if the model came without "
            "sentence-transformers (its vectors are then the mean over the tokens)"
        )
    if not isinstance(modules, list):
        raise CheckpointError(
            f"{path} holds a {type(modules).__name__}, expected a list of modules, as "
            "sentence-transformers writes it: copy it again"
        )
    try:
        found = [(str(each["type"]), str(each["path"])) for each in modules]
    except (KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path} is no list of modules, as sentence-transformers writes it: copy it again"
        ) from error
    for _, place in found:
        if ".." in PurePosixPath(place).parts or PurePosixPath(place).is_absolute():
            raise CheckpointError(f"{path} names {place!r:.60}, which is outside of its folder")
    own = "sentence_transformers."
    return [(t.rpartition(".")[2] if t.startswith(own) else t[:80], p) for t, p in found]


def _pooling(path: Path) -> dict[str, Any]:
    config = _object(path)
    modes = config.get("pooling_mode")
    if modes is None:
        modes = [mode for key, mode in _LEGACY_POOLINGS.items() if config.get(key)] or ["mean"]
    modes = [modes] if isinstance(modes, str) else modes
    if not isinstance(modes, list) or not modes or any(each not in POOLINGS for each in modes):
        raise UnsupportedError(
            f"{path} asks for the pooling {modes!r:.60}, expected some of {', '.join(POOLINGS)}"
        )
    include = config.get("include_prompt", True)
    return {
        "pooling": tuple(modes),
        "include_prompt": _typed(path, "include_prompt", include, bool),
    }


def _check_vectors(path: Path) -> None:
    """Insist on a module that takes and gives the vectors of texts, not those of tokens."""
    config = _object(path) if path.is_file() else {}
    for key in ("module_input_name", "module_output_name"):
        if config.get(key) not in (None, "sentence_embedding"):
            raise UnsupportedError(
                f"{path} has {key} = {config[key]!r:.40}, expected 'sentence_embedding'; "
                f"{_OTHERWISE}"
            )


def _transformer(folder: Path) -> dict[str, Any]:
    """The settings of the first module."""
    path = next((folder / name for name in TRANSFORMER if (folder / name).is_file()), None)
    if path is None:
        return {}
    config = _object(path)
    longest = config.get("max_seq_length")
    for key, value in config.items():
        if key in ("processor_kwargs", "tokenizer_args"):
            longest = _tokenizer_length(path, key, value, longest)
        elif key == "modality_config":
            if not isinstance(value, dict) or value.get("text") != _TEXT_BY_FORWARD:
                _refuse(path, key, value)
        elif key not in _HARMLESS and value not in (_PLAIN_TRANSFORMER.get(key), None, {}):
            _refuse(path, key, value)
    lower = _typed(path, "do_lower_case", config.get("do_lower_case") or False, bool)
    return {"max_length": _count(path, "max_seq_length", longest), "lower_case": lower}


def _tokenizer_length(path: Path, key: str, options: Any, otherwise: Any) -> Any:
    """The limit among the options of a tokenizer, of which no other is known here."""
    if not isinstance(options, dict) or options.keys() - {"model_max_length"}:
        _refuse(path, key, options)
    return options.get("model_max_length", otherwise)


def _model(folder: Path) -> dict[str, Any]:
    """Prompts and similarity, which belong to the model as a whole."""
    path = folder / MODEL
    if not path.is_file():
        return {}
    config = _object(path)
    kind = config.get("model_type") or "SentenceTransformer"
    if kind != "SentenceTransformer":
        raise UnsupportedError(
            f"{path} describes a {kind!r:.40}, expected a SentenceTransformer; {_OTHERWISE}"
        )
    prompts = _prompts(path, config.get("prompts") or {})
    default = config.get("default_prompt_name")
    if default is not None and default not in list(prompts):
        raise CheckpointError(
            f"{path} has the default_prompt_name {default!r:.60}, expected one of its prompts "
            f"({', '.join(prompts)}): correct it"
        )
    similarity = config.get("similarity_fn_name") or "cosine"
    if similarity not in SIMILARITIES:
        raise UnsupportedError(
            f"{path} has the similarity_fn_name {similarity!r:.40}, expected one of "
            f"{', '.join(SIMILARITIES)}; {_OTHERWISE}"
        )
    return {
        "prompts": prompts,
        "default_prompt": default,
        "similarity": cast(Similarity, similarity),
        "dimensions": _count(path, "truncate_dim", config.get("truncate_dim")),
    }


def _prompts(path: Path, prompts: Any) -> dict[str, str]:
    """The prompts by name. sentence-transformers has two empty ones where none are given."""
    if not isinstance(prompts, dict):
        raise CheckpointError(f"{path} has the prompts {prompts!r:.60}, expected texts by name")
    texts = {name: "" if text is None else text for name, text in prompts.items()}
    for name, text in texts.items():
        _typed(path, f"prompt {name!r:.40}", text, str)
    return {"query": "", "document": ""} | texts


def _object(path: Path) -> dict[str, Any]:
    config = read_json(path)
    if not isinstance(config, dict):
        raise CheckpointError(f"{path} holds a {type(config).__name__}, expected an object of JSON")
    return config


def _typed(path: Path, name: str, value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise CheckpointError(f"{path} has {name} = {value!r:.40}, expected a {kind.__name__}")
    return value


def _count(path: Path, name: str, value: Any) -> int | None:
    if value is not None and (type(value) is not int or value < 1):
        raise CheckpointError(f"{path} has {name} = {value!r:.40}, expected a number from 1")
    return value


def _refuse(path: Path, key: str, value: Any) -> None:
    raise UnsupportedError(
        f"{path} has {key} = {value!r:.60}, which prunus does not have: take it out if the vectors "
        f"do not depend on it; else {_OTHERWISE}"
    )
