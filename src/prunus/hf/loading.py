"""From a name or a folder to a compiled model with its configuration."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunus.api import load, open_checkpoint
from prunus.errors import CheckpointError, InputError, UnsupportedError
from prunus.frontend import hub, weights
from prunus.frontend.keywords import check_known, loading_names
from prunus.frontend.weights import in_one_line
from prunus.hf.tasks import Task
from prunus.plan import option_names
from prunus.runtime.companions import COMPANIONS, CONFIG, real_place
from prunus.runtime.saved_description import DESCRIPTION, WEIGHTS

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

    from prunus.model import CompiledModel

_FIELD_ERRORS = (
    *(OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError),
    ImportError,
)
"""What a class of transformers makes of fields that it does not expect. A want of memory, and what
a signal handler raises, say nothing of the file."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where to look for a model: the arguments of `PrunusModel.from_pretrained`."""

    name: str | os.PathLike[str]
    revision: str | None = None
    token: str | bool | None = None
    cache_dir: str | os.PathLike[str] | None = None
    subfolder: str | None = None
    local_files_only: bool = False

    def saved_folder(self) -> Path | None:
        """The folder that prunus saved, here or on the hub; None where it is something else."""
        place = Path(os.path.expanduser(self.name))
        folder = place / (self.subfolder or "")
        try:
            is_saved, is_local = (folder / DESCRIPTION).is_file(), place.exists()
        except OSError as error:
            raise weights.unreadable(folder, error) from error
        if is_saved:
            if self.revision is not None:
                raise InputError(
                    f"{folder} is a local folder, which has no revision {self.revision!r}: leave "
                    "it out"
                )
            return folder
        return (
            self._saved_on_hub(self.name) if isinstance(self.name, str) and not is_local else None
        )

    def checkpoint(self) -> hub.Checkpoint:
        """The checkpoint; see `prunus.frontend.hub.resolve` for the errors."""
        return hub.resolve(
            self.name,
            revision=self.revision,
            token=self.token,
            cache_dir=self.cache_dir,
            subfolder=self.subfolder,
            local_files_only=self.local_files_only,
        )

    def _saved_on_hub(self, name: str) -> Path | None:
        """The snapshot of a repository that a saved model was pushed to."""
        from huggingface_hub import errors, hf_hub_download, snapshot_download

        prefix = f"{self.subfolder}/" if self.subfolder else ""
        wanted: dict[str, Any] = {
            "revision": self.revision,
            "token": self.token,
            "cache_dir": self.cache_dir,
            "local_files_only": self.local_files_only,
        }
        try:
            description = hf_hub_download(name, prefix + DESCRIPTION, **wanted)
        except (OSError, ValueError, errors.EntryNotFoundError, errors.HfHubHTTPError):
            return None  # most often it is a checkpoint; whatever else is wrong, `checkpoint` says
        names = (DESCRIPTION, WEIGHTS, *COMPANIONS)
        commit = Path(description).parents[prefix.count("/")].name
        root = snapshot_download(
            name,
            **(wanted | {"revision": commit}),
            allow_patterns=[prefix + name for name in names],
        )
        return Path(root, prefix)


def open_saved(folder: Path, options: Mapping[str, Any]) -> tuple[CompiledModel, PreTrainedConfig]:
    """The model in a folder that prunus saved, without any module of torch.

    Raises:
        SavedModelError: a damaged folder, or a configuration that is not of the folder.
    """
    compiled = load(folder, **options)
    config = read_config(folder)
    # It is written out again by `save_pretrained`, so it obeys the rules of all that is copied.
    real_place(folder / CONFIG)
    return compiled, config


def compile_checkpoint(
    checkpoint: hub.Checkpoint, task: Task, options: Mapping[str, Any]
) -> tuple[CompiledModel, PreTrainedConfig]:
    """The model of a checkpoint, loaded as the class that transformers has for the task."""
    config = read_config(checkpoint.folder)
    architecture = task.architecture(checkpoint.config)
    if architecture is None:
        raise UnsupportedError(
            f"{checkpoint.name} is a {config.model_type}, for which transformers has no class for "
            f"{task.name}: take the class of another task"
        )
    own = checkpoint.config.get("architectures") or [None]
    config.architectures = [architecture]
    # Without an architecture of its own, the cache has it once for `prunus.from_pretrained` too.
    asked = None if architecture == own[0] else architecture
    # Classes answer by name, and make tuples of that themselves where the configuration says so.
    by_name = not checkpoint.config.get("return_dict", True)
    compiled = open_checkpoint(checkpoint, architecture=asked, by_name=by_name, **options)
    return compiled, config


def read_config(folder: Path) -> PreTrainedConfig:
    """The configuration of a folder, as a class of transformers; code in the folder is not run.

    Raises:
        CheckpointError: there is none, or transformers does not know its type.
    """
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig

    if not (folder / CONFIG).is_file():
        raise CheckpointError(
            f"{folder} has no {CONFIG}, which holds labels and architecture: copy it there "
            "from the checkpoint, or open the folder with `prunus.load`"
        )
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (*_FIELD_ERRORS, StrictDataclassError) as error:
        raise CheckpointError(
            f"transformers cannot read {folder / CONFIG} ({in_one_line(error)}): check that it "
            "is whole, and that its model_type is one of this version of transformers"
        ) from error


def check_options(options: Mapping[str, Any], others: tuple[str, ...]) -> None:
    """Refuse a keyword that is neither an option of `prunus.compile`, nor one of `others`, nor
    known from transformers.

    Raises:
        TypeError: it is unknown; the message names the closest known one.
    """
    check_known("from_pretrained", options, (*option_names(), *others), loading_names())
