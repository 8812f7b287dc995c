"""sentence-transformers: one changed line, and `encode` runs compiled.

model = prunus.st.accelerate(SentenceTransformer("all-MiniLM-L6-v2"))
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from prunus.errors import InputError, UnsupportedError

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer
    from transformers import PretrainedConfig

    from prunus.model import CompiledModel


class CompiledTransformer:
    """A compiled model in the place of that of transformers which it was made from.

    Attributes:
        compiled: The model itself, to be explained or profiled.
        config: The configuration of the model of transformers.
    """

    def __init__(self, compiled: CompiledModel, config: PretrainedConfig) -> None:
        self.compiled, self.config = compiled, config

    @property
    def device(self) -> torch.device:
        """The CPU, where its inputs must be."""
        import torch

        return torch.device("cpu")

    def forward(self, *, return_dict: bool = True, **inputs: Any) -> Any:
        """The answer with named parts.

        Raises:
            InputError: inputs that the compiled model does not take, or not as they are.
        """
        if not return_dict:
            raise InputError("return_dict=False: a compiled model answers by name; leave it out")
        return self.compiled(**inputs)

    def save_pretrained(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Say that there is nothing to save in the form of transformers."""
        raise UnsupportedError(
            "an accelerated SentenceTransformer holds no weights of transformers to save: save the "
            "model before accelerate(), and accelerate it again after loading"
        )


def accelerate(model: SentenceTransformer, **options: Any) -> SentenceTransformer:
    """Let a SentenceTransformer run its transformer compiled: the same embeddings, sooner.

    The model itself is changed and returned: what tokenizes, pools, projects and normalizes stays,
    the weights of the transformer go once nobody else uses them. `encode` takes all that it took
    before, pools of processes included: each worker opens the compiled model by reference, with as
    many threads as are chosen here.

    Args:
        model: On the CPU, in float32, with a text encoder as its first module.
        options: Those of `prunus.compile`: threads, sparse, target …

    Raises:
        InputError: another kind of model, on another device, in another precision, or accelerated
            already; or options that cannot be used.
        UnsupportedError: a first module that is no text encoder of transformers, or one that cannot
            be exported.
    """
    from prunus.api import compile

    transformer = _transformer(model)
    compiled = CompiledTransformer(compile(transformer.model, **options), transformer.config)
    del transformer.model  # a name of a torch module takes nothing but torch modules
    transformer.model = compiled
    return model


def _transformer(model: Any) -> Any:
    """The first module of the model, if it can be compiled."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Transformer

    if not isinstance(model, SentenceTransformer):
        raise InputError(
            f"a {type(model).__name__} was given, expected a SentenceTransformer; compile a model "
            "of transformers by prunus.compile"
        )
    first = model[0] if len(model) else None
    if not isinstance(first, Transformer):
        raise UnsupportedError(
            f"the first module is a {type(first).__name__}, expected a Transformer: only models of "
            "transformers can be compiled; leave this one as it is"
        )
    if isinstance(first.model, CompiledTransformer):
        raise InputError("the model is accelerated already; load it again for other options")
    methods = {params["method"] for params in first.modality_config.values()}
    if first.modalities != ["text"] or methods != {"forward"}:
        raise UnsupportedError(
            f"the first module takes {', '.join(map(str, first.modalities))} "
            f"(by {', '.join(sorted(methods))}), expected text alone, by forward; leave this model "
            "as it is"
        )
    _check_tensors(first)
    return first


def _check_tensors(transformer: Any) -> None:
    import torch

    if transformer.backend != "torch":
        raise InputError(
            f"the model runs on the backend {transformer.backend!r}; load it with backend='torch'"
        )
    for name, weight in transformer.model.named_parameters():
        if weight.device.type != "cpu":
            raise InputError(
                f"{name} is on {weight.device}; load the model with device='cpu', or call its cpu()"
            )
        if weight.dtype != torch.float32:
            raise InputError(
                f"{name} is {weight.dtype}, expected torch.float32; call the model's float()"
            )
