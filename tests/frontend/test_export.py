"""Modules made by hand are imported as graphs that compute the same, and errors say what to do."""

from __future__ import annotations

import dataclasses
from collections import namedtuple
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.nn import functional as F

from prunus.errors import InputError, UnsupportedError
from prunus.frontend.export import import_module
from tests.frontend.modules import Function, assert_same, normal, ops, run

# Sizes


@pytest.mark.parametrize("shape", [(3,), (1, 3), (1, 1, 3), (1, 1, 1, 3)])
def test_a_linear_layer_takes_every_size_but_of_its_features(shape: tuple[int, ...]) -> None:
    module = nn.Linear(3, 2)
    imported = import_module(module, (torch.ones(shape),))
    assert ops(imported) == ["linear"]
    assert list(imported.graph.constants) == ["weight", "bias"]
    for size in (1, 2, 5):
        assert_same(imported, module, normal(*(size,) * (len(shape) - 1), 3))


def test_the_smallest_layer() -> None:
    module = nn.Linear(1, 1, bias=False)
    assert_same(import_module(module, torch.ones(1, 1)), module, normal(4, 1))


def test_equal_sizes_of_an_example_share_a_name() -> None:
    module = Function(lambda ids, mask, x: (ids * mask).sum() + x.sum())
    example = (torch.ones(1, 1, dtype=torch.int64), torch.ones(1, 1).bool(), torch.ones(1, 1, 4))
    types = import_module(module, example).graph.inputs
    assert {name: str(type) for name, type in types.items()} == {
        "x": "i64[batch, seq]", "more_0": "bool[batch, seq]", "more_1": "f32[batch, seq, 4]",
    }  # fmt: skip


def test_different_sizes_of_an_example_do_not() -> None:
    module = Function(lambda x, y: x.sum(1) + y.sum(1))
    imported = import_module(module, (torch.ones(2, 3, 4), torch.ones(2, 5, 4)))
    assert str(imported.graph.inputs["x"]) == "f32[batch, seq, 4]"
    assert str(imported.graph.inputs["more_0"]) == "f32[batch, more_0_1, 4]"
    assert_same(imported, module, normal(1, 1, 4), normal(1, 7, 4))


def test_sizes_that_are_equal_by_the_module_share_a_name() -> None:
    module = Function(lambda x, bias: x @ x.mT + bias)
    imported = import_module(module, (torch.ones(1, 3, 4), torch.ones(1, 3, 3, dtype=torch.int64)))
    assert str(imported.graph.inputs["more_0"]) == "i64[batch, seq, seq]"
    assert_same(imported, module, normal(2, 5, 4), torch.ones(2, 5, 5, dtype=torch.int64))


def test_axes_that_broadcast_stay_one() -> None:
    module = Function(F.scaled_dot_product_attention)
    q, mask = normal(2, 3, 5, 4), torch.ones(1, 1, 5, 5, dtype=torch.bool).tril()
    imported = import_module(module, (q, q, q, mask))
    assert imported.graph.inputs["more_2"].shape[:2] == (1, 1)
    assert_same(imported, module, *(normal(1, 2, 7, 4),) * 3, torch.ones(1, 1, 7, 7).bool())


def test_dynamic_shapes_names_and_limits() -> None:
    module, ids = nn.Embedding(7, 3), torch.zeros(1, 1, dtype=torch.int64)
    named = import_module(module, (ids,), dynamic_shapes=({0: Dim("rows", max=9)},))
    assert str(named.graph.inputs["input"]) == "i64[rows, 1]"
    assert named.graph.limits == {"rows": 9}
    assert str(import_module(module, (ids,), dynamic_shapes=(None,)).graph.inputs["input"]) == (
        "i64[1, 1]"
    )
    every = import_module(module, (ids,), dynamic_shapes={"input": {0: Dim.AUTO, 1: Dim.STATIC}})
    assert str(every.graph.inputs["input"]) == "i64[batch, 1]"


def test_dynamic_shapes_leaves_other_inputs_as_they_are() -> None:
    module = Function(lambda x, y: x.sum() + y)
    example = (torch.ones(2, 4), torch.ones(3, 4))
    imported = import_module(module, example, dynamic_shapes={"x": None})
    assert str(imported.graph.inputs["x"]) == "f32[2, 4]"
    assert str(imported.graph.inputs["more_0"]) == "f32[batch, 4]"


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"y": None}, "names 'y', expected one of x"),
        ((None, None), "2 entries"),
        ({"x": {2: Dim.AUTO}}, "the axis 2 of x"),
    ],
)
def test_dynamic_shapes_that_do_not_fit(shapes: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        import_module(Function(lambda x: x), (torch.ones(2, 4),), dynamic_shapes=shapes)


def test_a_table_read_by_a_slice_limits_the_size() -> None:
    class Positions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("table", normal(1, 16, 4))

        def forward(self, x: Tensor) -> Tensor:
            return x + self.get_buffer("table")[:, : x.shape[1]]

    module = Positions()
    imported = import_module(module, torch.ones(1, 1, 4))
    assert imported.graph.limits == {"seq": 16}
    assert_same(imported, module, normal(2, 16, 4))


@pytest.mark.parametrize(
    "condition",
    [
        lambda x: x.shape[1] == 1,
        lambda x: x.shape[0] == 1,
        lambda x: x.shape[1] % 2 == 1,
        lambda x: x.shape[1] == 16,
        lambda x: x.shape[1] > 5,
    ],
)
def test_a_module_with_another_way_for_some_sizes_is_refused(
    condition: Callable[[Tensor], bool],
) -> None:
    module = Function(lambda x: x + 1 if condition(x) else x)
    with pytest.raises(UnsupportedError, match="dynamic_shapes"):
        import_module(module, torch.ones(2, 7, 4))


def test_a_condition_that_changes_nothing_is_no_matter() -> None:
    module = Function(lambda x: x + 1 if x.shape[1] == 16 else 1 + x)
    assert_same(import_module(module, torch.ones(2, 7, 4)), module, normal(1, 16, 4))


# Inputs


class Scaled(nn.Module):
    """Has a default, a keyword and a parameter that the example leaves out."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(
        self, x: Tensor, mask: Tensor | None = None, *, scale: float = 2.0, twice: bool = False
    ) -> Tensor:
        x = self.layer(x) * scale
        x = x if mask is None else x * mask
        return x + x if twice else x


def test_examples_by_name_and_by_position() -> None:
    module = Scaled()
    by_name = import_module(module, {"x": np.ones((1, 4)), "mask": np.ones((1, 1), bool)})
    assert {name: type.dtype for name, type in by_name.graph.inputs.items()} == {
        "x": "f32", "mask": "bool",
    }  # fmt: skip
    assert_same(by_name, module, normal(3, 4), torch.ones(3, 1).bool())
    by_position = import_module(module, [torch.ones(1, 4)])
    assert_same(by_position, module, normal(3, 4))
    with pytest.raises(InputError, match="unknown input 'mask'; the model takes x"):
        run(by_position, normal(3, 4), normal(3, 4))


def test_numbers_in_an_example_are_fixed() -> None:
    module = Scaled()
    imported = import_module(module, {"x": torch.ones(1, 4), "scale": 3.0, "twice": True})
    with torch.no_grad():
        torch.testing.assert_close(
            run(imported, torch.ones(1, 4)), 6 * module.layer(torch.ones(4))[None]
        )
    with pytest.raises(InputError, match=r"scale is 2\.0, but the model was compiled for 3\.0"):
        run(imported, torch.ones(1, 4), scale=2.0)


def test_narrow_integers_become_64_bit() -> None:
    module = nn.Embedding(7, 3)
    imported = import_module(module, np.zeros((1, 1), np.int32))
    assert imported.graph.inputs["input"].dtype == "i64"
    assert run(imported, np.array([[6, 0]], np.int16)).shape == (1, 2, 3)


@pytest.mark.parametrize(
    ("example", "message"),
    [
        ({"y": torch.ones(1, 4)}, r"do not fit Scaled.forward\(x"),
        ((), "missing a required argument: 'x'"),
        ((torch.ones(1, 4),) * 3, "too many positional"),
        ({"x": 1.0}, "no tensor among"),
        ({"x": torch.ones(0, 4)}, "it is empty"),
        ({"x": torch.ones(1, 4, device="meta")}, "on the CPU"),
        ({"x": np.array(["text"])}, "expected numbers"),
        ({"x": torch.ones(1, 5)}, "does not take the example inputs: RuntimeError: mat1 and mat2"),
        (None, "example_inputs are needed for Scaled"),
    ],
)
def test_examples_that_do_not_fit(example: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        import_module(Scaled(), example)


def test_tensors_in_lists_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="the example of x is a list"):
        import_module(Scaled(), {"x": [torch.ones(1, 4)]})


def test_only_modules_on_the_cpu() -> None:
    with pytest.raises(InputError, match=r"expected an eager torch\.nn\.Module"):
        import_module(torch.ones(1), torch.ones(1))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="weight is on meta; move the module to the CPU"):
        import_module(nn.Linear(2, 2, device="meta"), torch.ones(1, 2))


# The module


def test_a_module_in_training_is_exported_as_eval_and_left_as_it_was() -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.Sequential(nn.Dropout(0.5)))
    module.train()
    module[2].eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    imported = import_module(module, torch.ones(1, 4))
    assert ops(imported) == ["linear"]
    assert [each.training for each in module.modules()] == [True, True, True, False, False]
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert all(each.requires_grad and each.grad is None for each in module.parameters())


def test_weights_are_shared_and_not_written_to() -> None:
    module = nn.Linear(3, 2)
    weight = import_module(module, torch.ones(1, 3)).graph.constants["weight"].dense()
    assert weight.ctypes.data == module.weight.data_ptr()
    assert weight.flags.c_contiguous and not weight.flags.writeable


def test_weights_of_16_bits_are_widened_and_transposed_ones_made_contiguous() -> None:
    module = nn.Linear(3, 2).to(torch.bfloat16)
    graph = import_module(module, torch.ones(1, 3, dtype=torch.bfloat16)).graph
    weight = graph.constants["weight"].dense()
    assert weight.dtype == np.float32
    np.testing.assert_array_equal(weight, module.weight.detach().float())
    assert {type.dtype for type in graph.types().values()} == {"f32"}
    plain = nn.Linear(3, 2)
    plain.weight = nn.Parameter(normal(3, 2).T)
    weight = import_module(plain, torch.ones(1, 3)).graph.constants["weight"].dense()
    assert weight.flags.c_contiguous
    np.testing.assert_array_equal(weight, plain.weight.detach())


def test_tied_weights_are_one_constant_under_their_first_name() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words = nn.Embedding(7, 4)
            self.head = nn.Linear(4, 7, bias=False)
            self.head.weight = self.words.weight

        def forward(self, ids: Tensor) -> Tensor:
            logits: Tensor = self.head(self.words(ids))
            return logits

    module = Tied()
    imported = import_module(module, torch.zeros(1, 1, dtype=torch.int64))
    assert list(imported.graph.constants) == ["words.weight"]
    assert_same(imported, module, torch.tensor([[3, 1, 6]]))


def test_masks_of_pruning_are_part_of_the_graph() -> None:
    from torch.nn.utils import prune

    module = nn.Linear(8, 4)
    prune.l1_unstructured(module, "weight", 0.5)  # type: ignore[no-untyped-call]
    assert_same(import_module(module, torch.ones(1, 8)), module, normal(3, 8))


def test_odd_names_stay_readable_by_the_graphs_text() -> None:
    from prunus.ir import parse_graph, print_graph

    module = nn.ModuleDict({"a b+c": nn.Linear(4, 4)})
    module.forward = lambda x: module["a b+c"](x)
    graph = import_module(module, torch.ones(1, 4)).graph
    assert print_graph(parse_graph(print_graph(graph), graph.constants)) == print_graph(graph)


def test_what_torch_compile_wraps() -> None:
    module = nn.Linear(3, 2)
    wrapped: Any = torch.compile(module)
    assert list(import_module(wrapped, torch.ones(1, 3)).graph.constants) == ["weight", "bias"]


def test_in_place_ops_and_blocks_with_another_gradient_mode() -> None:
    class InPlace(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=True))

        def forward(self, x: Tensor) -> Tensor:
            h: Tensor = self.body(x)
            h[:, 0].mul_(2)
            return h

    module = InPlace()
    with pytest.raises(UnsupportedError, match=r"aten\.\w*scatter"):
        import_module(module, torch.ones(1, 4))

    @torch.enable_grad()
    def triple(x: Tensor) -> Tensor:
        return x.add_(1) * 3

    plain = nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=True), Function(triple))
    imported = import_module(plain, torch.ones(1, 4))
    assert ops(imported) == ["linear", "relu", "add", "multiply"]
    assert_same(imported, plain, normal(3, 4))


# Answers

Pair = namedtuple("Pair", "first second")


@dataclasses.dataclass
class Parts:
    x: Tensor
    nothing: Tensor | None
    y: Tensor | None = None


torch.export.register_dataclass(Parts)

ANSWERS: Mapping[str, Callable[[Tensor], Any]] = {
    "tensor": lambda x: x * 2,
    "input": lambda x: x,
    "tuple": lambda x: (x * 2, x),
    "one": lambda x: (x * 2,),
    "list": lambda x: [x, x],
    "dict": lambda x: {"b": x, "a": (x * 2, None, 7), 3: "text"},
    "pair": lambda x: Pair(x * 2, 1.5),
    "dataclass": lambda x: Parts(x, None, x * 2),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_answers_have_the_modules_own_structure(name: str) -> None:
    module = Function(ANSWERS[name])
    imported = import_module(module, torch.ones(1, 4))
    found = run(imported, torch.arange(4.0)[None])
    expected = module(torch.arange(4.0)[None])
    assert type(found) is type(expected) and str(found) == str(expected)
    assert type(run(imported, np.ones((1, 4)))) is (
        np.ndarray if isinstance(expected, Tensor) else type(expected)
    )
    assert imported.signature.check_fits(imported.graph) is imported.signature


# Errors


def test_state_is_refused() -> None:
    class Counter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            self.get_buffer("calls").add_(1)
            return x

    with pytest.raises(UnsupportedError, match="writes to calls when it is called"):
        import_module(Counter(), torch.ones(1, 4))


def test_an_error_of_the_module_itself_is_shown_with_its_line() -> None:
    def wrong(x: Tensor) -> Tensor:
        raise KeyError("head")

    with pytest.raises(InputError, match=r"KeyError: 'head' \(.*test_export.py:\d+ in wrong"):
        import_module(Function(wrong), torch.ones(1, 4))
