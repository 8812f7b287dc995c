"""Answers of a graph have PyTorch's strides, and share memory where PyTorch's do."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from itertools import combinations
from typing import Any

import pytest
import torch
from torch import nn

from prunus.dynamo.layout import Place, _memory
from prunus.model import CompiledModel
from tests.dynamo.models import accelerate, assert_close

Body = Callable[[Any, torch.Tensor], Any]


class Layer(nn.Module):
    """A linear layer and a function that calls it."""

    def __init__(self, body: Body) -> None:
        super().__init__()
        self.layer, self.body = nn.Linear(32, 32), body

    def forward(self, x: torch.Tensor) -> Any:
        return self.body(self.layer, x)


def kept_copy(layer: Any, x: torch.Tensor) -> Any:
    hidden = layer(x)
    kept = hidden.clone()
    torch._dynamo.graph_break()
    hidden.mul_(0)
    return layer(kept)


def equal_expressions(layer: Any, x: torch.Tensor) -> Any:
    one, other = torch.relu(layer(x)), torch.relu(layer(x))
    torch._dynamo.graph_break()
    one.add_(5)
    return other + 0


def view_of_an_answer(layer: Any, x: torch.Tensor) -> Any:
    hidden = layer(x)
    first = hidden[:, 0]
    torch._dynamo.graph_break()
    hidden.mul_(0)
    return first + 1


def views_of_one_value(layer: Any, x: torch.Tensor) -> Any:
    hidden = layer(x)
    left, right = hidden[:, :20], hidden[:, 10:]
    torch._dynamo.graph_break()
    left.mul_(0)
    return right + 1


def view_of_the_view(layer: Any, x: torch.Tensor) -> Any:
    hidden = layer(x)
    turned, wide = hidden.t(), hidden.expand(2, *hidden.shape)
    torch._dynamo.graph_break()
    turned[0] = 7
    return hidden + 1, wide + 1


def contiguous(layer: Any, x: torch.Tensor) -> Any:
    hidden = layer(x).t().contiguous()
    torch._dynamo.graph_break()
    return hidden.view(-1)


def turned(layer: Any, x: torch.Tensor) -> Any:
    hidden = layer(x).t()
    torch._dynamo.graph_break()
    return hidden.t().view(-1), hidden.is_contiguous()


def windows(layer: Any, x: torch.Tensor) -> Any:
    return torch.as_strided(layer(x).t().contiguous(), (4, 3), (2, 1)) + 0


def windows_of_turned(layer: Any, x: torch.Tensor) -> Any:
    return torch.as_strided(layer(x).t() * 2, (4, 3), (2, 1)) + 0


BODIES: list[Body] = [
    kept_copy,
    equal_expressions,
    view_of_an_answer,
    views_of_one_value,
    view_of_the_view,
    contiguous,
    turned,
    windows,
    windows_of_turned,
]


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("body", BODIES, ids=lambda body: body.__name__)
def test_code_after_a_graph_break_computes_what_pytorch_does(
    body: Body, dynamic: bool, compiled: list[CompiledModel]
) -> None:
    model = Layer(body).eval()
    fast = accelerate(model, dynamic=dynamic)
    for batch in (6, 4, 6):
        x = torch.randn(batch, 32)
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # as_strided has no translation
            expected, found = model(x), fast(x)
        expected = expected if isinstance(expected, tuple) else (expected,)
        for one, other in zip(found if len(expected) > 1 else (found,), expected, strict=True):
            if isinstance(other, torch.Tensor):
                assert_close(one, other)
            else:
                assert one == other
    assert compiled


ANSWERS: list[Body] = [
    lambda layer, x: (layer(x), layer(x).clone()),
    lambda layer, x: (lambda h: (h[:, 0], h, h.t(), h[:, 3:]))(layer(x)),
    lambda layer, x: (lambda h: (h[:, 0], h[:, 1], h.clone(), h.unfold(1, 8, 2)))(layer(x)),
    lambda layer, x: (lambda h: (h[:, :1].expand(x.shape[0], 32), h[:, 1:]))(layer(x)),
    lambda layer, x: (layer(x).t(), layer(x).t().contiguous(), layer(x)[:, 1::2]),
    lambda layer, x: (lambda h: (h.view(-1), h.view(-1, 2, 16).transpose(1, 2)))(layer(x)),
]


def shared(tensors: Any) -> list[bool]:
    """Of each two: whether they lie in one storage."""
    return [a.untyped_storage()._cdata == b.untyped_storage()._cdata
            for a, b in combinations(tensors, 2)]  # fmt: skip


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("index", range(len(ANSWERS)))
def test_answers_lie_in_memory_as_in_pytorch(
    index: int, dynamic: bool, compiled: list[CompiledModel]
) -> None:
    model = Layer(ANSWERS[index]).eval()
    fast = accelerate(model, dynamic=dynamic)
    for batch in (6, 5):
        x = torch.randn(batch, 32)
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # where an operator has no translation
            found, expected = fast(x), model(x)
        for one, other in zip(found, expected, strict=True):
            assert_close(one, other)
            assert one.stride() == other.stride()
            assert one.storage_offset() == other.storage_offset()
        assert shared(found) == shared(expected)
    assert compiled


def test_what_lies_around_a_view_is_left_to_pytorch(compiled: list[CompiledModel]) -> None:
    model = Layer(lambda layer, x: torch.as_strided(layer(x)[:, 0], (3, 4), (32, 1)) + 0).eval()
    x = torch.randn(6, 32)
    with torch.no_grad(), pytest.warns(UserWarning, match="may read memory outside of the view"):
        found = accelerate(model)(x)
    assert_close(found, model(x).detach())
    assert not compiled


def test_an_answer_that_lies_as_it_should_is_not_copied() -> None:
    place, answer = Place((2, 3), (3, 1), 0, 6), torch.ones(2, 3)
    assert _memory([place], [answer], set()) is None
    first = Place((2,), (3,), 0, 6)
    assert _memory([first, place], [answer[:, 0], answer], set()) is answer
    taken = _memory([place], [answer], {answer.untyped_storage().data_ptr()})
    assert taken is not None and taken.data_ptr() != answer.data_ptr()


def test_what_is_known_of_a_place() -> None:
    place = Place((2, 3), (3, 1), 0, 6)
    assert place.is_all and place.end == 6
    assert not Place((2, 3), (1, 2), 0, 6).is_all
    assert not Place((2, 3), (3, 1), 0, 9).is_all
    assert Place((1, 3), (99, 1), 0, 3).is_all, "the step of an axis of 1 has no meaning"
    assert Place((0, 3), (3, 1), 4, 9).end == 4


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("before", [0, 1])
def test_a_constant_index_counts_from_the_end(
    before: int, dynamic: bool, compiled: list[CompiledModel]
) -> None:
    def select(layer: Any, x: torch.Tensor) -> Any:
        return layer(x)[(slice(None),) * before + (torch.tensor([-1, 0, -2]),)]

    model = Layer(select).eval()
    fast = accelerate(model, dynamic=dynamic)
    for batch in (6, 3):
        x = torch.randn(batch, 32)
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            assert_close(fast(x), model(x))
    assert compiled
