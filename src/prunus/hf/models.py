"""Compiled models in the form of transformers' own: one changed line in a program that has one."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, Self

import numpy as np

from prunus.errors import InputError, UnsupportedError
from prunus.frontend.keywords import (
    check_loading_dtype,
    take_loading,
)
from prunus.hf import tasks
from prunus.hf.loading import Origin, check_options, compile_checkpoint, open_saved
from prunus.hf.registry import import_answer_class, make_known
from prunus.hf.saving import check_saving
from prunus.hf.tasks import Task

if TYPE_CHECKING:
    import torch
    from huggingface_hub import CommitInfo
    from transformers import PreTrainedConfig

    from prunus.model import CompiledModel

_LOADING = ("revision", "token", "cache_dir", "subfolder", "local_files_only", "dtype")


class PrunusModel:
    """A compiled model that is called, answers and is saved as a model of transformers.

    It is no `torch.nn.Module`: it has no parameters to train or move, and what transformers'
    pipelines ask of a model is here. Make one with `from_pretrained`, or put one together from a
    compiled model and its configuration: `PrunusModelForMaskedLM(prunus.compile(m), m.config)`.

    Attributes:
        compiled: The compiled model, for `explain`, `benchmark` and the like.
        config: The configuration of transformers, with the labels.
        device: Always the processor: `torch.device("cpu")`.
        dtype: Always `torch.float32`.
        main_input_name: The input that a call must have.
        training: Always False.
    """

    task: ClassVar[Task]
    framework = "pt"
    training = False

    def __init__(self, compiled: CompiledModel, config: PreTrainedConfig) -> None:
        """Put a compiled model and its configuration together.

        Raises:
            InputError: the model does not answer as one of this class does.
        """
        import torch

        _check_task(type(self), compiled)
        make_known(type(self).__name__, self.task)
        import_answer_class(compiled.signature.answer)
        self.compiled, self.config = compiled, config
        self.device, self.dtype = torch.device("cpu"), torch.float32
        self.main_input_name = compiled.input_names[0]
        self.input_modalities = "image" if self.main_input_name == "pixel_values" else "text"
        self.base_model_prefix = config.model_type
        self._tensor = torch.Tensor
        self._named = bool(config.return_dict)
        self._parts = frozenset(map(str, compiled.signature.answer.keys))

    @classmethod
    def from_pretrained(
        cls,
        name: str | os.PathLike[str],
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        subfolder: str | None = None,
        local_files_only: bool = False,
        dtype: str | torch.dtype | None = "float32",
        **options: Any,
    ) -> Self:
        """Open a checkpoint, or a folder that `save_pretrained` wrote: by hub name or local.

        A checkpoint is compiled when it is first opened; the imported graph stays in the cache. A
        saved folder is opened without building a module of torch. `PrunusModel` itself picks the
        class that fits the configuration.

        Args:
            name: A name of the hub, or a folder.
            revision: A branch, a tag or a commit of the repository.
            token: For private and gated repositories.
            cache_dir: The hub's cache, where it is not the usual one.
            subfolder: Where in the repository or folder the model lies.
            local_files_only: Whether to do without the network.
            dtype: What to compute in: float32 is all there is, also for "auto".
            **options: Those of `prunus.compile`, such as `sparse` and `threads`. Keywords of
                transformers are taken where they change nothing: `torch_dtype` as `dtype`,
                `device_map="cpu"`, `attn_implementation="sdpa"`, `low_cpu_mem_usage`,
                `trust_remote_code=False`, `use_safetensors`, and the fields of a configuration, as
                `num_labels` or `config` itself, where they are those of the files.

        Raises:
            TypeError: an unknown keyword.
            CheckpointError: files that are missing or damaged, or weights without this head.
            SavedModelError: a saved folder that is damaged.
            InputError: options that cannot be used, or a saved model of another task.
            UnsupportedError: a model that cannot be exported, a dtype other than float32, another
                keyword of transformers that prunus cannot follow, or no class for this task.
        """
        check_options(options, _LOADING)
        check_loading_dtype(dtype)
        options, expectations = take_loading(options)
        origin = Origin(name, revision, token, cache_dir, subfolder, local_files_only)
        if (folder := origin.saved_folder()) is not None:
            expectations.check(folder)
            compiled, config = open_saved(folder, options)
            chosen = cls._fitting_answer(compiled)
        else:
            checkpoint = origin.checkpoint()
            expectations.check(checkpoint.folder)
            chosen = cls._fitting_config(checkpoint.name, checkpoint.config)
            compiled, config = compile_checkpoint(checkpoint, chosen.task, options)
        config.name_or_path = os.fspath(name)
        return chosen(compiled, config)

    @classmethod
    def _fitting_answer(cls, compiled: CompiledModel) -> type[Self]:
        """This class, or the one of its subclasses that answers as the compiled model does."""
        answer = compiled.signature.answer
        return next((each for each in cls._for_tasks() if each.task.has_answer(answer)), cls)

    @classmethod
    def _fitting_config(cls, name: str, config: dict[str, Any]) -> type[Self]:
        """This class, or the one of its subclasses whose task is that of the architecture."""
        classes = cls._for_tasks()
        if classes == [cls]:
            return cls
        own = str((config.get("architectures") or ["nothing"])[0])
        found = next((each for each in classes if each.task.has_architecture(own)), None)
        if found is None:
            raise UnsupportedError(
                f"{name} is made for {own} by its configuration, for which there is no class: call "
                f"from_pretrained of one of {', '.join(each.__name__ for each in classes)}"
            )
        return found

    @classmethod
    def _for_tasks(cls) -> list[type[Self]]:
        """The class itself if it is for a task, else its subclasses, which are."""
        return [cls] if hasattr(cls, "task") else cls.__subclasses__()

    def forward(
        self,
        *args: Any,
        return_dict: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        labels: Any = None,
        **inputs: Any,
    ) -> Any:
        """Answer as the model of transformers does, for torch tensors or for NumPy arrays.

        Inputs that may be left out are an `attention_mask` of ones and `token_type_ids` of zeros.

        Args:
            *args: Inputs by position, in the order of the model of transformers.
            return_dict: Whether to answer by name; None for what the configuration says.
            output_attentions: Not available, as the steps of attention are fused into one.
            output_hidden_states: Not available for a like reason.
            labels: Not available: nothing is trained, so there is no loss.
            **inputs: Inputs by name.

        Returns:
            A `ModelOutput` of transformers, or a tuple without `return_dict`; tensors for tensors,
            arrays for arrays.

        Raises:
            InputError: what is not available, tensors mixed with arrays, an unknown or missing
                input, a wrong dtype, shape or device, a gradient, an empty batch, an id outside the
                vocabulary, or a text beyond the model's limit.
        """
        if labels is not None or output_attentions or output_hidden_states:
            self._check_extras(labels, output_attentions, output_hidden_states)
        kinds = {type(each) for each in (*args, *inputs.values())}
        if np.ndarray in kinds and any(issubclass(kind, self._tensor) for kind in kinds):
            raise InputError(
                "some inputs are NumPy arrays and some are torch tensors: pass all in one form, in "
                "which the answer will be too"
            )
        answer = self.compiled(*args, **inputs)
        named = self._named if return_dict is None else return_dict
        return answer if named else answer.to_tuple()

    __call__ = forward

    def _check_extras(self, labels: Any, attentions: Any, hidden: Any) -> None:
        """Refuse what the compiled model has no answer for."""
        if labels is not None:
            raise InputError(
                "labels were given, but prunus only runs models: there is no loss to train with; "
                "leave them out, or train with the model of transformers"
            )
        for name, wanted in (("attentions", attentions), ("hidden_states", hidden)):
            if wanted and name not in self._parts:
                raise InputError(
                    f"output_{name}=True: they do not exist after fusion, which computes a layer "
                    "without writing them down; leave it out, or ask the model of transformers"
                )

    def save_pretrained(self, folder: str | os.PathLike[str], **keywords: Any) -> None:
        """Write a folder of data only, with configuration and tokenizer, that `from_pretrained`
        opens again for the same answers, bit by bit. See `CompiledModel.save_pretrained`.

        Args:
            folder: Where to write.
            **keywords: Of transformers, where they change nothing: `safe_serialization=True`,
                `push_to_hub=False`, a `max_shard_size` above that of the weights.

        Raises:
            InputError: the path cannot name a folder.
            SavedModelError: the folder cannot be written, or holds something else, or a file that
                came with the model is a link that leads out of its folder.
            TypeError: an unknown keyword.
            UnsupportedError: a keyword of transformers that prunus cannot follow.
        """
        check_saving(keywords, self.compiled.graph.constants)
        # Written elsewhere first, so that it is published with the model it belongs to.
        with TemporaryDirectory(prefix="prunus-config-") as staging:
            self.config.save_pretrained(staging)
            self.compiled.save_pretrained(folder, files=sorted(Path(staging).iterdir()))

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        token: str | bool | None = None,
        revision: str | None = None,
        commit_message: str = "Upload a model compiled by prunus",
        create_pr: bool = False,
        measure: bool = True,
    ) -> CommitInfo:
        """Upload what `save_pretrained` writes, with a model card, to a repository of the hub.

        Args:
            repo_id: `owner/name`; made if there is none.
            private: Whether a new repository is private; None for the owner's default.
            token: For writing; None for the one that `hf auth login` stored.
            revision: The branch; None for the main one.
            commit_message: The title of the commit.
            create_pr: Whether to open a pull request instead.
            measure: Whether the card has a table of times, which takes seconds to measure.

        Raises:
            SavedModelError: the model cannot be saved.
        """
        from prunus.hf.publish import push

        return push(
            self,
            repo_id,
            private=private,
            token=token,
            revision=revision,
            commit_message=commit_message,
            create_pr=create_pr,
            measure=measure,
        )

    def to(
        self,
        device: str | torch.device | torch.dtype | None = None,
        dtype: torch.dtype | None = None,
    ) -> Self:
        """The model itself, for the processor and float32; by keyword or position, as in torch.

        Raises:
            InputError: another device or dtype.
        """
        for each in (device, dtype):
            if each is not None and str(each) not in ("cpu", "cpu:0", "torch.float32"):
                raise InputError(
                    f"to({each!r}): prunus runs on the processor in float32 only; leave it where "
                    'it is, and give a pipeline device="cpu"'
                )
        return self

    def eval(self) -> Self:
        """The model itself, which is never in training."""
        return self

    def train(self, mode: bool = True) -> Self:
        """The model itself for `train(False)`.

        Raises:
            InputError: it is to be trained.
        """
        if mode:
            raise InputError("a compiled model cannot be trained: train that of transformers")
        return self

    def half(self) -> NoReturn:
        """Nothing: prunus computes in float32.

        Raises:
            InputError: always.
        """
        raise InputError("half(): prunus computes in float32 only; leave it out")

    def can_generate(self) -> bool:
        """False: encoders write no text."""
        return False

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.compiled!r})"


class PrunusModelForQuestionAnswering(PrunusModel):
    """Answers with `start_logits` and `end_logits`, each `[batch, tokens]`."""

    task = tasks.QUESTION_ANSWERING


class PrunusModelForSequenceClassification(PrunusModel):
    """Answers with `logits` `[batch, labels]`."""

    task = tasks.SEQUENCE_CLASSIFICATION


class PrunusModelForTokenClassification(PrunusModel):
    """Answers with `logits` `[batch, tokens, labels]`."""

    task = tasks.TOKEN_CLASSIFICATION


class PrunusModelForMaskedLM(PrunusModel):
    """Answers with `logits` `[batch, tokens, vocabulary]`."""

    task = tasks.MASKED_LM


class PrunusModelForFeatureExtraction(PrunusModel):
    """Answers with `last_hidden_state` `[batch, tokens, features]`, and `pooler_output` `[batch,
    features]` where the model has one.
    """

    task = tasks.FEATURE_EXTRACTION


class PrunusModelForImageClassification(PrunusModel):
    """Answers with `logits` `[batch, labels]` for `pixel_values` `[batch, channels, rows,
    columns]`.
    """

    task = tasks.IMAGE_CLASSIFICATION


def _check_task(cls: type[PrunusModel], compiled: CompiledModel) -> None:
    """Refuse a compiled model that answers otherwise than a class promises."""
    answer = compiled.signature.answer
    if not hasattr(cls, "task") or not cls.task.has_answer(answer):
        parts = ", ".join(map(str, answer.keys)) or answer.form
        if answer.form == "tuple":
            raise InputError(
                f"{compiled.source.name} answers with a tuple, without the names that "
                f"{cls.__name__} needs: set config.return_dict to True before prunus.compile, or "
                "open the checkpoint with from_pretrained of this class"
            )
        raise InputError(
            f"{compiled.source.name} answers with {parts} "
            f"({answer.origin.rpartition(':')[2] or 'of no class'}), which is no answer of "
            f"{cls.__name__}: take the class of its own task"
        )
