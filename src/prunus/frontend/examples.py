"""Example inputs: the arguments of a module's call, by the names that inputs will have."""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import NoneType
from typing import TYPE_CHECKING, Any

import numpy as np

from prunus.errors import InputError, UnsupportedError
from prunus.frontend.structure import Plain

PLAIN = frozenset({bool, int, float, str, NoneType})

OF_TOKENIZERS = ("attention_mask", "token_type_ids", "special_tokens_mask")
"""Tensors `[batch, tokens]` that a tokenizer makes, whether the model reads them or not."""

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """One call of a module.

    Attributes:
        signature: Of the module's forward.
        values: Tensors, plain values and None by the names that inputs have: those of parameters,
            and `args_0`, `args_1` for `*args`.
        positional_rest: The names of what goes into `*args`.
        options: Plain values that go into `**kwargs`, and not into `call`: the forward of a module
            is to be bound to them, as torch.export takes none.
        is_made_up: Whether prunus made the example, as the caller gave none.
    """

    signature: inspect.Signature
    values: Mapping[str, Any]
    positional_rest: tuple[str, ...]
    options: Mapping[str, Plain]
    is_made_up: bool = False

    @property
    def tensors(self) -> dict[str, torch.Tensor]:
        """The tensors by name."""
        return {name: value for name, value in self.values.items() if hasattr(value, "dtype")}

    @property
    def fixed(self) -> dict[str, Plain]:
        """The numbers, texts and booleans by name."""
        plain = {name: v for name, v in self.values.items() if not hasattr(v, "dtype")}
        return {name: v for name, v in {**plain, **self.options}.items() if v is not None}

    @property
    def positional(self) -> tuple[str, ...]:
        """The names of positional parameters, inputs or not."""
        named = (
            name
            for name, parameter in self.signature.parameters.items()
            if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        )
        return (*named, *self.positional_rest)

    def by_parameter(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Values in the form of the parameters that the example gives; None where there is none."""
        arguments: dict[str, Any] = {}
        for name, parameter in self.signature.parameters.items():
            if parameter.kind is parameter.VAR_POSITIONAL and self.positional_rest:
                arguments[name] = tuple(values.get(each) for each in self.positional_rest)
            elif name in self.values:
                arguments[name] = values.get(name)
        return arguments

    def call(self, tensors: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Positional and named arguments of a call with other tensors."""
        bound = inspect.BoundArguments(self.signature, {})
        bound.arguments.update(self.by_parameter({**self.values, **tensors}))
        return bound.args, bound.kwargs


def read_example(module: torch.nn.Module, given: Any) -> Example:
    """The example as a call of the module's forward.

    Args:
        module: The module.
        given: Inputs by name, a positional sequence, one tensor, or None for an encoder of
            transformers.

    Raises:
        InputError: the inputs do not fit forward, or there is no tensor among them.
        UnsupportedError: tensors inside lists or dicts.
    """
    import torch

    if is_made_up := given is None:
        given = _of_encoder(module)
    elif isinstance(given, torch.Tensor | np.ndarray):
        given = (given,)
    signature = inspect.signature(module.forward)
    try:
        by_name = isinstance(given, Mapping)
        bound = signature.bind(**given) if by_name else signature.bind(*given)
    except TypeError as error:
        raise InputError(
            f"the example inputs do not fit {type(module).__name__}.forward{signature}: {error}"
        ) from error
    return replace(_sorted_out(module, signature, bound.arguments), is_made_up=is_made_up)


def _sorted_out(
    module: torch.nn.Module, signature: inspect.Signature, given: Mapping[str, Any]
) -> Example:
    values: dict[str, Any] = {}
    positional_rest: list[str] = []
    options: dict[str, Plain] = {}
    for name, value in given.items():
        kind = signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_POSITIONAL:
            rest = {f"{name}_{i}": each for i, each in enumerate(value)}
            values.update(rest)
            positional_rest += rest
        elif kind is inspect.Parameter.VAR_KEYWORD:
            # A model of transformers takes what its tokenizer makes, and may not read it.
            skipped = OF_TOKENIZERS if is_of_transformers(module) else ()
            options.update({key: each for key, each in value.items() if key not in skipped})
        else:
            values[name] = value
    floats = {each.dtype for each in module.parameters() if each.is_floating_point()}
    read = {name: _read(name, value, floats) for name, value in values.items()}
    example = Example(signature, read, tuple(positional_rest), options)
    for name, option in options.items():
        if type(option) not in PLAIN:  # a misspelt name, and the module would ignore it
            raise InputError(
                f"{type(module).__name__}.forward has no parameter {name}; it has "
                f"{', '.join(signature.parameters)}"
            )
    if not example.tensors:
        raise InputError("there is no tensor among the example inputs; a model needs one at least")
    return example


def _read(name: str, value: Any, floats: set[Any]) -> Any:
    """A tensor on the CPU in a dtype that the graph knows, or a plain value."""
    import torch

    if type(value) in PLAIN:
        return value
    if isinstance(value, np.ndarray | np.generic):
        value = _from_numpy(name, np.asarray(value), floats)
    if not isinstance(value, torch.Tensor):
        raise UnsupportedError(
            f"the example of {name} is a {type(value).__name__}; inputs are tensors by themselves, "
            "so give the module a forward that takes each of them as an argument"
        )
    if value.device.type != "cpu" or value.layout != torch.strided:
        raise InputError(
            f"the example of {name} is {value.layout} on {value.device}; pass a dense tensor on "
            "the CPU"
        )
    if 0 in value.shape:
        raise InputError(f"the example of {name} has the shape {list(value.shape)}: it is empty")
    if value.dtype in (torch.int8, torch.int16, torch.int32):
        value = value.long()  # ids and masks; the caller may use any width
    return value.detach()


def _from_numpy(name: str, array: np.ndarray, floats: set[Any]) -> torch.Tensor:
    import torch

    if array.dtype.kind not in "biuf":
        raise InputError(f"the example of {name} is {array.dtype}; expected numbers")
    tensor = torch.from_numpy(np.array(array))
    if tensor.is_floating_point() and floats:
        # NumPy's floats have 64 bits unless one says otherwise, and nobody means that.
        return tensor if tensor.dtype in floats else tensor.to(next(iter(floats)))
    return tensor


def _of_encoder(module: torch.nn.Module) -> dict[str, Any]:
    """Inputs of an encoder of transformers, for texts or images."""
    config: Any = getattr(module, "config", None)
    generates = getattr(module, "can_generate", None)
    reads = getattr(module, "main_input_name", None)
    if (
        not is_of_transformers(module)
        or reads not in ("input_ids", "pixel_values")
        or getattr(config, "is_encoder_decoder", False)
        or (callable(generates) and generates())
    ):
        raise InputError(
            f"example_inputs are needed for {type(module).__name__}: only for text and image "
            "encoders of transformers are they known. Pass a dict by argument name, or a tuple"
        )
    return _texts(module, config) if reads == "input_ids" else _images(config)


def _texts(module: torch.nn.Module, config: Any) -> dict[str, Any]:
    import torch

    parameters = inspect.signature(module.forward).parameters
    shape = (2, 3, 7) if type(module).__name__.endswith("ForMultipleChoice") else (2, 7)
    vocabulary = int(getattr(config, "vocab_size", 2))
    ids = torch.arange(math.prod(shape)).reshape(shape) % vocabulary
    inputs = {"input_ids": ids}
    if "attention_mask" in parameters:
        inputs["attention_mask"] = torch.ones_like(ids)
    if "token_type_ids" in parameters and getattr(config, "type_vocab_size", 0) >= 1:
        inputs["token_type_ids"] = torch.zeros_like(ids)
    if "bbox" in parameters:  # the place of each token on a page: left, top, right, bottom
        inputs["bbox"] = torch.zeros((*shape, 4), dtype=torch.int64)
    return inputs


def _images(config: Any) -> dict[str, Any]:
    """Two images of the size that the model was made for, which is the only one that it takes."""
    import torch

    config = getattr(config, "vision_config", config)
    size = config.image_size
    height, width = size if isinstance(size, list | tuple) else (size, size)
    channels = getattr(config, "num_channels", 3)
    pixels = torch.linspace(-1, 1, 2 * channels * height * width)
    return {"pixel_values": pixels.reshape(2, channels, height, width)}


def is_of_transformers(module: torch.nn.Module) -> bool:
    """Whether the module is a model of transformers."""
    transformers: Any = sys.modules.get("transformers")
    return transformers is not None and isinstance(module, transformers.PreTrainedModel)
