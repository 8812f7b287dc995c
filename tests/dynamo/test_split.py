"""A graph with operators that have no translation: only these stay in PyTorch."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils._pytree import tree_leaves
from transformers import BertModel

from prunus.dynamo.split import SplitModel
from prunus.errors import ModuleChangedError, UnsupportedError
from prunus.frontend.snapshot import COPIED_BYTES
from prunus.model import CompiledModel
from tests.dynamo.models import OPTIONS, Perceptron, accelerate, assert_close, check, small_bert
from tests.frontend.modules import Function

Middle = Callable[[Any, torch.Tensor], Any]


class Layers(Perceptron):
    """Three linear layers; a function comes before, between or behind them."""

    def __init__(self, where: str = "", function: Middle = lambda model, x: x) -> None:
        super().__init__()
        self.middle, self.norm = nn.Linear(16, 16), nn.LayerNorm(16)
        self.register_buffer("turns", torch.polar(torch.ones(16), torch.rand(16)))
        self.where, self.function = where, function

    def forward(self, x: torch.Tensor) -> Any:
        x = self.function(self, x) if self.where == "start" else x
        hidden = torch.relu(self.first(x))
        hidden = self.function(self, hidden) if self.where == "middle" else hidden
        answer = self.second(self.norm(torch.tanh(self.middle(hidden))))
        return self.function(self, answer) if self.where == "end" else answer


def fourier(model: Any, x: torch.Tensor) -> Any:
    return torch.fft.fft(x).real


def flattened(model: Any, x: torch.Tensor) -> Any:
    """Sizes that are products on both sides of the operator."""
    flat = fourier(model, x.view(-1, 16))
    return model.middle(flat).view(x.shape)


def repeated(model: Any, x: torch.Tensor) -> Any:
    for _ in range(3):
        x = model.middle(fourier(model, x))
    return x


def two_results(model: Any, x: torch.Tensor) -> Any:
    values, places = x.topk(16, -1)
    return values + places


def positions(model: Any, x: torch.Tensor) -> Any:
    """The largest values have a translation, their positions have none."""
    values, places = x.max(-1)
    return x + values[..., None] + places[..., None]


def complex_weight(model: Any, x: torch.Tensor) -> Any:
    return (x * model.turns).real


def written_to(model: Any, x: torch.Tensor) -> Any:
    """The operator reads what is written to afterwards, and a view sees it."""
    hidden = model.middle(x)
    view, before = hidden[..., :4], fourier(model, hidden)
    hidden.add_(1)
    return hidden + before + view.sum()


def unequal_sizes(model: Any, x: torch.Tensor) -> Any:
    return x + torch.special.i0(x.sum(-1, keepdim=True)) * x.shape[0]


def warned(fast: Any, model: Any, x: torch.Tensor) -> str:
    """Both answer the same for `x`; gives what is said."""
    with torch.no_grad(), pytest.warns(UserWarning, match="prunus leaves") as caught:
        found = fast(x)
    assert_close(found, model(x).detach())
    (text,) = {str(each.message) for each in caught}
    return text


def count(models: list[CompiledModel], op: str) -> int:
    return sum(node.op == op for model in models for node in model.graph.nodes)


@pytest.mark.parametrize(
    ("where", "function", "parts", "layers"),
    [
        ("start", fourier, 1, 3),
        ("middle", fourier, 2, 3),
        ("end", fourier, 1, 3),
        ("middle", flattened, 2, 4),
        ("middle", repeated, 4, 6),
        ("middle", two_results, 2, 3),
        ("middle", positions, 2, 3),
        ("middle", complex_weight, 2, 3),
        ("middle", written_to, 2, 4),
        ("middle", unequal_sizes, 2, 3),
    ],
)
def test_only_the_operator_stays_in_pytorch(
    where: str,
    function: Middle,
    parts: int,
    layers: int,
    compiled: list[CompiledModel],
) -> None:
    model = Layers(where, function).eval()
    fast = accelerate(model)
    text = warned(fast, model, torch.randn(2, 3, 8))
    assert "test_split.py" in text
    assert f"parts: {parts}" in text
    assert len(compiled) == parts
    assert count(compiled, "linear") == layers
    for batch, length in ((3, 5), (4, 6), (5, 5)):
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            x = torch.randn(batch, length, 8)
            assert_close(fast(x), model(x))
    assert len(compiled) == 2 * parts, "once for the first sizes, once for all others"


def test_the_warning_names_the_operator_and_the_line() -> None:
    model = Layers("middle", fourier).eval()
    fast, x = accelerate(model), torch.randn(3, 8)
    text = warned(fast, model, x)
    assert "aten.fft_fft" in text
    assert "in fourier: return torch.fft.fft(x).real: this op has no translation" in text
    assert "also left to PyTorch: aten.real" in text
    check(fast, model, x)  # said once


def test_a_part_has_a_heavy_operator(compiled: list[CompiledModel]) -> None:
    def light(x: torch.Tensor) -> Any:
        return torch.fft.fft(x.tanh() * 2 + 1).real.relu()

    fast, x = accelerate(light), torch.randn(3, 8)
    assert "prunus leaves a graph" in warned(fast, light, x)
    assert not compiled


def test_changed_weights_are_compiled_again(compiled: list[CompiledModel]) -> None:
    model = Layers("middle", fourier).eval()
    fast, x = accelerate(model), torch.randn(3, 8)
    other = copy.deepcopy(model)
    warned(fast, model, x)
    with torch.no_grad():
        model.first.weight.mul_(2)
    warned(fast, model, x)
    model.load_state_dict(other.state_dict())
    warned(fast, model, x)
    check(fast, model, x)
    assert len(compiled) == 3 * 2


def test_changed_tables_that_are_shared_are_compiled_again(compiled: list[CompiledModel]) -> None:
    table = nn.Embedding(COPIED_BYTES // 16, 8)

    class Embedded(Layers):
        def __init__(self) -> None:
            super().__init__("middle", fourier)
            self.table = table

        def forward(self, ids: torch.Tensor) -> Any:
            return super().forward(self.table(ids))

    model = Embedded().eval()
    fast, ids = accelerate(model), torch.arange(12).reshape(3, 4)
    warned(fast, model, ids)
    parts = list(compiled)
    with torch.no_grad():
        table.weight.mul_(2)
    with pytest.raises(ModuleChangedError, match="changed in place"):
        for part in parts:
            part.check_weights()
    warned(fast, model, ids)
    model.load_state_dict({name: 3 * tensor for name, tensor in model.state_dict().items()})
    warned(fast, model, ids)
    assert len(compiled) == 3 * 2


def test_a_part_refuses_a_weight_that_was_changed() -> None:
    table = nn.Embedding(COPIED_BYTES // 16, 16)
    model = nn.Sequential(table, nn.Linear(16, 16), Function(lambda x: torch.fft.fft(x).real))
    ids = torch.arange(12).reshape(3, 4)
    split = SplitModel(model, [ids], None, OPTIONS)
    (answer,) = tree_leaves(split(ids))
    assert_close(answer, model(ids).detach())
    model.load_state_dict({name: 3 * tensor for name, tensor in model.state_dict().items()})
    with pytest.raises(ModuleChangedError, match=r"0\.weight of part of a graph was changed"):
        split(ids)


def test_random_numbers_are_those_of_torch(compiled: list[CompiledModel]) -> None:
    model = Layers("middle", lambda model, x: F.dropout(x, training=True)).eval()
    fast = accelerate(model, dynamic=True)
    for batch in (3, 4):
        x = torch.randn(batch, 5, 8)
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            torch.manual_seed(1)
            found, following = fast(x), torch.rand(1)
            torch.manual_seed(1)
            assert_close(found, model(x))
            assert following == torch.rand(1)
    assert len(compiled) == 2


def test_training_is_not_split(compiled: list[CompiledModel]) -> None:
    model = Layers("middle", fourier)
    with pytest.warns(UserWarning, match="inference only"):
        accelerate(model)(torch.randn(3, 8)).sum().backward()
    assert model.first.weight.grad is not None
    assert not compiled


def test_padding_is_computed_where_torch_reads_it(compiled: list[CompiledModel]) -> None:
    bert = small_bert(BertModel)

    class Mixed(nn.Module):
        """Every token of the answer depends on padding."""

        def __init__(self) -> None:
            super().__init__()
            self.bert, self.head = bert, nn.Linear(16, 4)

        def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> Any:
            hidden = self.bert(input_ids=ids, attention_mask=mask).last_hidden_state
            return self.head(torch.fft.fft(hidden, dim=1).real)

    model = Mixed().eval()
    fast = accelerate(model, dynamic=True)
    for shape in ((2, 7), (3, 9)):
        ids, mask = torch.randint(0, 60, shape), torch.ones(shape, dtype=torch.int64)
        mask[0, 3:] = 0
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            assert_close(fast(ids, mask), model(ids, mask))
    encoder, head = compiled
    assert count([encoder], "attention") == 2
    assert "values of padding are read outside" in str(encoder.explain())
    assert encoder.recompile(sparse=False).options.may_pack is False
    assert head.options.may_pack


def test_a_bert_that_normalizes_its_vectors(compiled: list[CompiledModel]) -> None:
    bert = small_bert(BertModel)

    def embed(ids: torch.Tensor, mask: torch.Tensor) -> Any:
        hidden = bert(input_ids=ids, attention_mask=mask).last_hidden_state
        weights = mask[..., None].float()
        mean = (hidden * weights).sum(1) / weights.sum(1).clamp(min=1e-9)
        vectors = F.normalize(mean)
        return F.cosine_similarity(vectors[:1], vectors, dim=1), vectors

    fast = accelerate(embed, dynamic=True)
    ids, mask = torch.randint(0, 60, (3, 9)), torch.ones(3, 9, dtype=torch.int64)
    mask[0, 4:] = 0
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        found = fast(ids, mask)
    for own, expected in zip(found, embed(ids, mask), strict=True):
        assert_close(own, expected.detach())
    assert count(compiled, "attention") == 2


def test_another_way_for_some_sizes() -> None:
    class Branching(Layers):
        def forward(self, x: torch.Tensor) -> Any:
            return super().forward(x) * (2 if x.shape[0] == 1 else 1)

    model = Branching("middle", fourier).eval()
    batch = torch.export.Dim("batch")
    with pytest.raises(UnsupportedError, match=r"inputs of \[1, 8\] it takes another way"):
        SplitModel(model, [torch.randn(3, 8)], ({0: batch},), OPTIONS)
