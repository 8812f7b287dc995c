"""`torch.compile(..., backend="prunus")` against eager: answers, fallbacks, and changed weights."""

from __future__ import annotations

import copy
import warnings
from importlib.metadata import entry_points
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch
from torch import nn

from prunus import dynamo
from prunus.frontend.snapshot import COPIED_BYTES
from prunus.model import CompiledModel
from tests.dynamo.models import Perceptron, accelerate, assert_close, check, small_bert


class Broken(Perceptron):
    def forward(self, x: torch.Tensor) -> Any:
        hidden = torch.relu(self.first(x))
        torch._dynamo.graph_break()
        return self.second(self.between(hidden))


class Training(Perceptron):
    def between(self, x: Any) -> Any:
        return nn.functional.dropout(x, training=self.training)


class Counting(Perceptron):
    def between(self, x: Any) -> Any:
        self.get_buffer("scales").add_(1)
        return x


class Half(Perceptron):
    def between(self, x: Any) -> Any:
        return x.half().float()


class View(Perceptron):
    def forward(self, x: torch.Tensor) -> Any:
        return super().forward(x), x.view(-1)


class Writing(Perceptron):
    def forward(self, x: torch.Tensor) -> Any:
        return super().forward(x.add_(1))


# ---- answers ---------------------------------------------------------------------------------


def test_it_is_found_by_its_name() -> None:
    assert "prunus" in torch.compiler.list_backends()
    (entry,) = entry_points(group="torch_dynamo_backends", name="prunus")
    assert entry.load() is dynamo.backend


def test_perceptron_of_several_batches(compiled: list[CompiledModel]) -> None:
    model = Perceptron().eval()
    fast = accelerate(model)
    for batch in (3, 5, 6, 7):
        check(fast, model, torch.randn(batch, 8))
    first, second = compiled  # of one batch, and then of any
    (linear,) = (name for name in first.graph.inputs)
    assert first.graph.inputs[linear].shape == (3, 8)
    assert not isinstance(second.graph.inputs[linear].shape[0], int)
    assert first.options.threads == 1
    check(fast, model, torch.randn(1, 8))
    check(fast, model, torch.randn(8, 5).T)  # not contiguous


@pytest.mark.parametrize("dynamic", [None, True])
def test_bert(dynamic: bool | None, compiled: list[CompiledModel]) -> None:
    model = small_bert()
    fast = accelerate(model, dynamic=dynamic)
    for shape in ((2, 7), (3, 9), (4, 11)):
        ids, mask = torch.randint(0, 60, shape), torch.ones(shape, dtype=torch.int64)
        mask[0, 3:] = 0
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            found = fast(input_ids=ids, attention_mask=mask)
            expected = model(input_ids=ids, attention_mask=mask)
        assert type(found) is type(expected)
        assert_close(found.logits[mask.bool()], expected.logits[mask.bool()])
    assert len(compiled) == (1 if dynamic else 2)
    assert "padding: left out" in str(compiled[-1].explain())


def test_inference_mode_and_one_whole_graph(compiled: list[CompiledModel]) -> None:
    model = Perceptron().eval()
    fast, x = accelerate(model, fullgraph=True), torch.randn(2, 8)
    with torch.inference_mode():
        assert_close(fast(x), model(x))
    assert len(compiled) == 1


def test_a_model_that_switches_gradients_off_itself(compiled: list[CompiledModel]) -> None:
    model = Perceptron().eval()
    model.forward = torch.no_grad()(model.forward)  # type: ignore[method-assign]
    x = torch.randn(2, 8, requires_grad=True)
    assert_close(accelerate(model)(x), model(x))
    assert len(compiled) == 1


def test_graph_break_makes_two_graphs(compiled: list[CompiledModel]) -> None:
    model = Broken().eval()
    check(accelerate(model), model, torch.randn(3, 8))
    assert len(compiled) == 2


def test_a_float_is_a_constant(compiled: list[CompiledModel]) -> None:
    """With dynamic=True Dynamo passes floats, the eps of a LayerNorm among them, as tensors."""
    model = nn.Sequential(nn.Linear(8, 4), nn.LayerNorm(4, eps=0.5))
    check(accelerate(model, dynamic=True), model, torch.randn(3, 8))
    assert len(compiled) == 1


def test_sizes_that_were_equal_by_chance(compiled: list[CompiledModel]) -> None:
    layer = nn.Linear(8, 8)

    def scores(queries: torch.Tensor, keys: torch.Tensor) -> Any:
        return layer(queries) @ layer(keys).T

    fast = accelerate(scores)
    for counts in ((5, 5), (6, 6), (7, 6), (6, 6), (3, 4)):
        check(fast, scores, *(torch.randn(count, 8) for count in counts))


# ---- weights ---------------------------------------------------------------------------------


def test_changed_weights_are_compiled_again(compiled: list[CompiledModel]) -> None:
    model = Perceptron().eval()
    fast, x = accelerate(model), torch.randn(3, 8)
    other = copy.deepcopy(model)
    check(fast, model, x)
    check(fast, model, x)
    assert len(compiled) == 1
    with torch.no_grad():
        model.first.weight.mul_(2)
    check(fast, model, x)
    model.second.bias = nn.Parameter(torch.randn(4))
    check(fast, model, x)
    model.second.weight.data = torch.randn(4, 16)
    check(fast, model, x)
    model.get_buffer("scales").zero_()
    check(fast, model, x)
    model.load_state_dict(other.state_dict())
    check(fast, model, x)
    assert len(compiled) == 6


def test_changed_tables_that_are_shared_are_compiled_again(compiled: list[CompiledModel]) -> None:
    table = nn.Embedding(COPIED_BYTES // 16, 8)
    model = nn.Sequential(table, nn.Linear(8, 4)).eval()
    fast, ids = accelerate(model), torch.arange(12).reshape(3, 4)
    check(fast, model, ids)
    with torch.no_grad():
        table.weight.mul_(2)
    check(fast, model, ids)
    model.load_state_dict({name: 3 * tensor for name, tensor in model.state_dict().items()})
    check(fast, model, ids)
    assert len(compiled) == 3


def test_weights_may_be_inputs_of_a_function() -> None:
    def layer(x: torch.Tensor, weight: torch.Tensor) -> Any:
        return nn.functional.linear(x, weight)

    fast = accelerate(layer)
    for _ in range(2):
        check(fast, layer, torch.randn(3, 8), torch.randn(4, 8))


# ---- what is left to PyTorch -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Training().train(), r"aten\.dropout.*drops in eval mode"),
        (Counting().eval(), "writes to"),
        (Writing().eval(), "writes to"),
        (View().eval(), r"shares memory with its input L_x_: .*\.clone\(\)"),
        (Half().eval(), r"is float16, and prunus computes in float32"),
        (Perceptron().bfloat16().eval(), r"the weight first\.weight is bfloat16.*model\.float"),
        (Perceptron().double().eval(), r"the weight first\.weight is float64"),
    ],
)
def test_reasons(model: Any, message: str) -> None:
    twin, x = copy.deepcopy(model), torch.randn(3, 8).to(model.first.weight.dtype)
    same = x.clone()
    with torch.no_grad(), pytest.warns(UserWarning, match=f"prunus leaves .*{message}"):
        torch.manual_seed(1)
        found = accelerate(model)(x)
    with torch.no_grad():
        torch.manual_seed(1)
        expected = twin(same)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(x, same)
    torch.testing.assert_close(model.state_dict(), twin.state_dict())


def test_training_works_and_is_not_ours(compiled: list[CompiledModel]) -> None:
    model = Perceptron().eval()
    fast, x = accelerate(model), torch.randn(3, 8)
    with pytest.warns(UserWarning, match=r"inference only: call .* torch\.no_grad\(\)"):
        fast(x).sum().backward()
    found = model.first.weight.grad
    model.zero_grad()
    model(x).sum().backward()
    assert found is not None
    assert model.first.weight.grad is not None
    assert_close(found, model.first.weight.grad)
    assert not compiled
    check(fast, model, x)
    assert len(compiled) == 1


def test_autocast(compiled: list[CompiledModel]) -> None:
    model, x = Perceptron().eval(), torch.randn(3, 8)
    fast = accelerate(model)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        with pytest.warns(UserWarning, match=r"is bfloat16.*outside of torch\.autocast"):
            found = fast(x)
        assert found.dtype == torch.bfloat16
        assert torch.equal(found, model(x))
    assert not compiled


def test_empty_batch() -> None:
    fast = accelerate(Perceptron().eval())
    with torch.no_grad(), pytest.warns(UserWarning, match="it is empty"):
        assert fast(torch.randn(0, 8)).shape == (0, 4)


def test_weights_made_in_inference_mode() -> None:
    with torch.inference_mode():
        model = Perceptron().eval()
    x = torch.randn(3, 8)
    with torch.inference_mode(), pytest.warns(UserWarning, match="make the model outside"):
        assert_close(accelerate(model)(x), model(x))


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ((2, 3, 4), "L_factor_ is a number that varies.*dynamic=False"),
        ((0.25, 0.5, 0.75, 1.5), r"its numbers were \[0\.5\] and are \[0\.75\] now"),
    ],
)
def test_numbers_that_vary(numbers: tuple[float, ...], message: str) -> None:
    layer, x = nn.Linear(8, 4), torch.randn(3, 8)

    def scaled(x: torch.Tensor, factor: float) -> Any:
        return layer(x) * factor

    fast = accelerate(scaled)
    with torch.no_grad(), pytest.warns(UserWarning, match=message) as caught:
        for number in numbers:
            assert_close(fast(x, number), scaled(x, number))
    assert len(caught) == 1
    torch.compiler.reset()
    fast = accelerate(scaled, dynamic=False)
    for number in numbers:
        check(fast, scaled, x, number)


# ---- options ---------------------------------------------------------------------------------


def test_options_of_compile(compiled: list[CompiledModel]) -> None:
    model = nn.Linear(8, 8)
    with torch.no_grad():
        model.weight.mul_(torch.rand(8, 8) < 0.1)
        x = torch.randn(3, 8)
        torch.compile(model, backend="prunus", options={"sparse": False, "tune": "cost"})(x)
    assert not compiled[0].options.sparse
    assert compiled[0].density < 0.3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"thread": 1}, "unknown option 'thread' .*it knows sparse, .*threads"),
        ({"threads": -1}, "threads=-1"),
        ({"copy": True}, "unknown option 'copy'"),  # changed weights are compiled again anyway
        ({"sparse": "yes"}, "sparse='yes': expected True or False"),
        ({"target": "llvm -mcpu=none"}, "none"),
    ],
)
def test_options_that_do_not_do(options: dict[str, Any], message: str) -> None:
    fast = torch.compile(nn.Linear(8, 8), backend="prunus", options=options)
    with torch.no_grad(), pytest.raises(Exception, match=message):
        fast(torch.randn(3, 8))


@pytest.mark.parametrize(
    "mode", ["default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"]
)
def test_modes_of_torch(mode: str, compiled: list[CompiledModel]) -> None:
    model = Perceptron().eval()
    check(torch.compile(model, backend="prunus", mode=mode), model, torch.randn(3, 8))
    assert compiled[0].options.tune == "race"


def test_an_unknown_mode() -> None:
    fast = torch.compile(nn.Linear(8, 8), backend="prunus", mode="fastest")
    with torch.no_grad(), pytest.raises(Exception, match=r"unknown mode 'fastest'.*reduce-over"):
        fast(torch.randn(3, 8))


@pytest.mark.parametrize("fused", [False, True])
def test_a_step_of_an_optimizer_is_compiled_again(fused: bool) -> None:
    model = Perceptron()
    fast = accelerate(model)
    x = torch.rand(3, 8)
    check(fast, model, x)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.5, fused=fused)
    model(x).sum().backward()
    optimizer.step()
    check(fast, model, x)
