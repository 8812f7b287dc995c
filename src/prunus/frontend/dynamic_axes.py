"""Which axes of the inputs may vary, and what their sizes are called."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from prunus.errors import InputError
from prunus.frontend.examples import Example

if TYPE_CHECKING:
    import torch

Axis: TypeAlias = tuple[str, int]
"""An input's name and one of its axes."""

IMAGES = "pixel_values"
"""`[batch, channels, height, width]`, as transformers calls them."""

MASK = "attention_mask"
"""Its last axis are keys, also where it is numbers that are added to scores."""

EXAMPLE_SIZES = (2, 7, 3, 5, 11, 13, 17)
"""Sizes for axes whose example is 1: torch.export fixes what it sees as 1."""


@dataclass(frozen=True, slots=True, eq=False)
class DynamicAxes:
    """Which axes may vary.

    Attributes:
        names: What the size of each such axis is called; equal names are equal sizes.
        dims: The `torch.export.Dim` of the names that the caller gave one for.
        sizes: The example's size of each such axis, as the caller gave it.
    """

    names: Mapping[Axis, str]
    dims: Mapping[str, Any]
    sizes: Mapping[Axis, int]

    def without(self, axes: Collection[Axis]) -> DynamicAxes:
        """The same with some axes fixed."""
        names = {axis: name for axis, name in self.names.items() if axis not in axes}
        return DynamicAxes(names, self.dims, self.sizes)

    def larger_sizes(self) -> dict[str, int]:
        """Sizes by name as the example has them, but from 2 on: torch.export takes 1 for fixed."""
        given = {name: self.sizes[axis] for axis, name in self.names.items()}
        free = iter([size for size in EXAMPLE_SIZES if size not in given.values()])
        return {
            name: size if size > 1 else next(free, EXAMPLE_SIZES[-1])
            for name, size in given.items()
        }

    def resize(
        self, tensors: Mapping[str, torch.Tensor], sizes: Mapping[str, int]
    ) -> dict[str, torch.Tensor]:
        """The tensors repeated or cut along dynamic axes to sizes that are given by name."""
        resized = dict(tensors)
        for (name, axis), size_name in self.names.items():
            tensor, size = resized[name], sizes[size_name]
            counts = [1] * tensor.ndim
            counts[axis] = -(-size // tensor.shape[axis])
            resized[name] = tensor.repeat(counts).narrow(axis, 0, size)
        return resized


def dynamic_axes(example: Example, dynamic_shapes: Any) -> DynamicAxes:
    """The axes that may vary: those that `dynamic_shapes` says (as in `torch.export`), and of
    inputs that it does not mention all, but the last of a float input that is no attention mask;
    of the images of transformers the batch alone, as a model is made for one size.

    Axes of one position and size in the example share a name: `batch`, `seq`, or one of their own.

    Raises:
        InputError: `dynamic_shapes` does not fit the inputs.
    """
    given = _given(example, dynamic_shapes)
    sizes: dict[Axis, int] = {}
    own: dict[Axis, Any] = {}
    for name, tensor in example.tensors.items():
        spec = given[name] if name in given else _every(name, tensor)
        for axis, dim in _axes_of(name, tensor, spec):
            sizes[name, axis] = tensor.shape[axis]
            if hasattr(dim, "__name__"):
                own[name, axis] = dim
    return _named(example, sizes, own)


def _every(name: str, tensor: torch.Tensor) -> dict[int, Any]:
    if name == IMAGES:
        return {0: "any"}
    has_features = tensor.is_floating_point() and name != MASK
    return dict.fromkeys(range(tensor.ndim - has_features), "any")


def _given(example: Example, dynamic_shapes: Any) -> dict[str, Any]:
    """What the caller says of each input."""
    if dynamic_shapes is None:
        return {}
    parameters = example.by_parameter({})
    if not isinstance(dynamic_shapes, Mapping):
        if len(dynamic_shapes) > len(parameters):
            raise InputError(
                f"dynamic_shapes has {len(dynamic_shapes)} entries, but the example inputs are "
                f"{len(parameters)}: {', '.join(parameters)}"
            )
        dynamic_shapes = dict(zip(parameters, dynamic_shapes, strict=False))
    given: dict[str, Any] = {}
    for name, spec in dynamic_shapes.items():
        if isinstance(parameters.get(name), tuple) and isinstance(spec, tuple | list):
            given.update(zip(example.positional_rest, spec, strict=False))
        elif name in example.tensors:
            given[name] = spec
        elif name not in parameters:
            raise InputError(
                f"dynamic_shapes names {name!r}, expected one of {', '.join(example.tensors)}"
            )
    return given


def _axes_of(name: str, tensor: torch.Tensor, spec: Any) -> Iterator[tuple[int, Any]]:
    """The dynamic axes of one input, each with its Dim, or with whatever stands for any size."""
    if spec is None:
        return
    items = spec.items() if isinstance(spec, Mapping) else enumerate(spec)
    for axis, dim in items:
        if not isinstance(axis, int) or not -tensor.ndim <= axis < tensor.ndim:
            raise InputError(f"dynamic_shapes names the axis {axis} of {name}, a {tensor.ndim}-D")
        if dim is not None and not isinstance(dim, int) and "STATIC" not in str(dim):
            yield axis % tensor.ndim, dim


def _named(example: Example, sizes: Mapping[Axis, int], own: Mapping[Axis, Any]) -> DynamicAxes:
    def kind(axis: Axis) -> tuple[int, int]:
        return axis[1], sizes[axis]

    integers = [axis for axis in sizes if not example.tensors[axis[0]].is_floating_point()]
    ordered = [*integers, *(axis for axis in sizes if axis not in integers)]
    groups = {kind(axis): dim.__name__ for axis, dim in own.items()}
    for name, position in ordered:
        if kind((name, position)) not in groups:
            taken = set(groups.values())
            common = _common_name(example.tensors[name], position)
            is_free = common is not None and common not in taken
            groups[kind((name, position))] = common if is_free and common else f"{name}_{position}"
    names = {axis: own[axis].__name__ if axis in own else groups[kind(axis)] for axis in sizes}
    return DynamicAxes(names, {dim.__name__: dim for dim in own.values()}, sizes)


def _common_name(tensor: torch.Tensor, axis: int) -> str | None:
    if axis == 0:
        return "batch"
    is_sequence = tensor.ndim == 3 if tensor.is_floating_point() else tensor.ndim >= 2
    return "seq" if axis == 1 and is_sequence else None
