"""What keywords of transformers expect of a model's files, such as a number of labels."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prunus.documents import read_object
from prunus.errors import CheckpointError, InputError, UnsupportedError
from prunus.frontend import weights
from prunus.runtime.companions import CONFIG

CONFIG_FIELDS = (
    "num_labels",
    "id2label",
    "label2id",
    "problem_type",
    "output_attentions",
    "output_hidden_states",
    "return_dict",
    "torchscript",
)
"""Fields of a configuration that programs pass to `from_pretrained`."""

_DEFAULTS: Mapping[str, Any] = {
    "output_attentions": False,
    "output_hidden_states": False,
    "return_dict": True,
    "torchscript": False,
}
"""What transformers takes where `config.json` has no such field."""

_WITHOUT_MEANING = frozenset(
    ["_name_or_path", "transformers_version", "dtype", "torch_dtype", "use_cache"]
)
"""Fields that may differ: where the model lay, what wrote it, and in which precision."""


@dataclass(frozen=True, slots=True)
class Expectations:
    """What the caller of `from_pretrained` expects of the files; None where it does not matter.

    Attributes:
        use_safetensors: Whether the weights are safetensors.
        config: The configuration, as an object of transformers or as the folder that has it.
        fields: Fields of the configuration, of `CONFIG_FIELDS`.
    """

    use_safetensors: bool | None = None
    config: Any = None
    fields: Mapping[str, Any] = field(default_factory=dict)

    def check(self, folder: Path) -> None:
        """Compare all of it with the files in a folder.

        Raises:
            CheckpointError: prunus would read the other form of the weights.
            UnsupportedError: another configuration is asked for.
            InputError: `config` is no configuration, or `use_safetensors` no boolean.
        """
        if self.use_safetensors is not None:
            if not isinstance(self.use_safetensors, bool):
                raise InputError(
                    f"use_safetensors={self.use_safetensors!r:.60}: expected True, False or None"
                )
            _check_form(folder, self.use_safetensors)
        if self.config is None and not self.fields:
            return
        document = read_object(folder / CONFIG, CheckpointError, "copy the file again.")
        if self.config is not None:
            _check_config(self.config, folder, document)
        for name, value in self.fields.items():
            own = _own_value(document, name)
            if not _is_equal(_plain(value), own):
                raise UnsupportedError(
                    f"from_pretrained({name}={value!r:.60}): {folder / CONFIG} says {own!r:.60}, "
                    f"and prunus runs the model as its configuration says: {_advice(name)}"
                )


def _check_form(folder: Path, use_safetensors: bool) -> None:
    read = weights.locate(folder)[0]
    if (read.suffix == ".safetensors") != use_safetensors:
        wanted = "safetensors" if use_safetensors else "pickles"
        raise CheckpointError(
            f"use_safetensors={use_safetensors}: prunus reads {read}, as safetensors come first "
            f"where a folder has both forms; leave it out, or pass a folder with {wanted} alone"
        )


def _check_config(config: Any, folder: Path, document: Mapping[str, Any]) -> None:
    if isinstance(config, str | os.PathLike):
        place = Path(config)
        place = place if place.name == CONFIG else place / CONFIG
        if not place.is_file() or not place.samefile(folder / CONFIG):
            raise UnsupportedError(
                f"from_pretrained(config={config!r:.60}): prunus reads {folder / CONFIG}: leave "
                "it out, or copy the other configuration to the place of that one"
            )
        return
    if not (hasattr(type(config), "from_dict") and hasattr(config, "to_dict")):
        raise InputError(
            f"config is a {type(config).__name__}, expected a configuration of transformers: leave "
            f"it out, as {folder / CONFIG} is read"
        )
    if differing := _differing(config, document):
        raise UnsupportedError(
            f"from_pretrained(config=...) differs from {folder / CONFIG} in "
            f"{', '.join(differing[:6])}: leave it out, or save it beside the weights with "
            "`config.save_pretrained`"
        )


def _differing(config: Any, document: Mapping[str, Any]) -> list[str]:
    """The fields in which a configuration is another than that of a folder."""
    if config.model_type != document.get("model_type", config.model_type):
        return ["model_type"]
    given = config.to_dict()
    own = type(config).from_dict(copy.deepcopy(dict(document))).to_dict()
    names = (given.keys() | own.keys()) - _WITHOUT_MEANING
    return sorted(
        name
        for name in names
        if not name.startswith("_attn_implementation") and given.get(name) != own.get(name)
    )


def _own_value(document: Mapping[str, Any], name: str) -> Any:
    """What a configuration says of a field, with the defaults of transformers."""
    labels = document.get("id2label")
    if not isinstance(labels, Mapping):
        count = document.get("num_labels", 2)
        labels = {str(i): f"LABEL_{i}" for i in range(count if type(count) is int else 2)}
    if name == "num_labels":
        return len(labels)
    if name == "id2label":
        return _plain(labels)
    if name == "label2id":
        return document.get(name) or {label: int(number) for number, label in labels.items()}
    return document.get(name, _DEFAULTS.get(name))


def _plain(value: Any) -> Any:
    """A value as JSON has it: the keys of an object are texts."""
    if isinstance(value, Mapping):
        return {str(key): each for key, each in value.items()}
    return value


def _is_equal(value: Any, own: Any) -> bool:
    """Whether a value is that of a file; what holds an array, which has no one answer, never is."""
    try:
        return bool(value == own)
    except (ValueError, RuntimeError):  # of NumPy, of torch
        return False


def _advice(name: str) -> str:
    if name in ("output_attentions", "output_hidden_states"):
        return "leave it out, or ask the model of transformers for them"
    if name == "return_dict":
        return "leave it out; the classes of prunus.hf take return_dict when they are called"
    return "leave it out, or change the field there"
