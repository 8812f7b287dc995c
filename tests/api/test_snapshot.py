"""A compiled model is its module as it was at `compile`, whatever becomes of the module."""

from __future__ import annotations

import gc
import pickle
import timeit
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import prunus
from prunus import cache
from prunus.errors import InputError, ModuleChangedError
from prunus.frontend.snapshot import COPIED_BYTES
from prunus.model import CompiledModel
from prunus.prediction.whatif import whatif

OPTIONS: dict[str, Any] = {"threads": 1, "tune": "cost"}
VOCABULARY, FEATURES = 9_000, 32
IDS = torch.arange(40).reshape(2, 20) * 200

assert 4 * VOCABULARY * FEATURES > COPIED_BYTES


class Encoder(nn.Module):
    """Small weights of every kind, one large table, and one large layer that is sparse or not."""

    def __init__(self, *, density: float = 1.0) -> None:
        super().__init__()
        self.table = nn.Embedding(VOCABULARY, FEATURES)
        self.places = nn.Parameter(torch.randn(20, FEATURES))
        self.norm = nn.LayerNorm(FEATURES)
        self.wide = nn.Linear(FEATURES, VOCABULARY)
        self.head = nn.Linear(VOCABULARY, 3)
        for each in (self.wide, self.head):
            each.weight.data *= torch.rand_like(each.weight) < density

    def forward(self, ids: Tensor) -> Any:
        x = self.norm(self.table(ids) + self.places)
        return self.head(torch.relu(self.wide(x))), x


def compiled(module: nn.Module, **options: Any) -> CompiledModel:
    return prunus.compile(module, (IDS,), dynamic_shapes=({0: torch.export.Dim("batch")},),
                          **OPTIONS, **options)  # fmt: skip


def outputs(model: CompiledModel) -> list[np.ndarray]:
    return [each.numpy().copy() for each in model(IDS)]


def assert_equal(found: list[np.ndarray], expected: list[np.ndarray]) -> None:
    for own, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(own, other)


def train(module: nn.Module, fused: bool = False) -> None:
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.1, fused=fused)
    module(IDS)[0].sum().backward()
    optimizer.step()


def train_fused(module: nn.Module) -> None:
    """The kernels of fused optimizers, transformers' default, move no version of torch's."""
    train(module, fused=True)


def load(module: nn.Module) -> None:
    module.load_state_dict(Encoder().state_dict())


def copy_table(module: Any) -> None:
    with torch.no_grad():
        module.table.weight.copy_(torch.zeros(VOCABULARY, FEATURES))


def share(module: nn.Module) -> None:
    module.share_memory()


CHANGES = [train, train_fused, load, copy_table, share]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("density", [0.05, 1.0])
def test_a_changed_module_is_noticed(
    change: Callable[[nn.Module], None], density: float, tmp_path: Path
) -> None:
    module = Encoder(density=density)
    model = compiled(module)
    before = outputs(model)
    assert_equal(outputs(model.recompile()), before)
    change(module)
    for use in (
        lambda: model(IDS),
        lambda: model.recompile(sparse=False),
        lambda: model.save_pretrained(tmp_path / "saved"),
        lambda: pickle.dumps(model),
        lambda: model.benchmark((IDS,)),
        lambda: whatif(model, sparsities=(0.5,), patterns=("1x1",), shapes=((1, 8),)),
    ):
        with pytest.raises(ModuleChangedError, match=r"of Encoder was changed in place.*copy=True"):
            use()
    assert not (tmp_path / "saved").exists()
    assert compiled(module)(IDS) is not None, "compiling again is the way out"


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("density", [0.05, 1.0])
def test_a_copy_stays_as_it_was(
    change: Callable[[nn.Module], None], density: float, tmp_path: Path
) -> None:
    module = Encoder(density=density)
    model = compiled(module, copy=True)
    before = outputs(model)
    change(module)
    for parameter in module.parameters():
        parameter.data.fill_(7)
    assert_equal(outputs(model), before)
    assert_equal(outputs(model.recompile()), before)
    model.save_pretrained(tmp_path / "saved")
    assert_equal(outputs(prunus.load(tmp_path / "saved", **OPTIONS)), before)
    assert_equal(outputs(pickle.loads(pickle.dumps(model))), before)


@pytest.mark.parametrize("density", [0.05, 1.0])
def test_small_and_packed_weights_are_copies(density: float, tmp_path: Path) -> None:
    module = Encoder(density=density)
    model = compiled(module)
    before = outputs(model)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if not name.startswith("table"):
                parameter.fill_(7)
    assert_equal(outputs(model), before)
    if density == 1.0:  # their dense form is still shared
        with pytest.raises(ModuleChangedError, match=r"weight (wide|head)\.weight"):
            model.save_pretrained(tmp_path / "saved")
    else:
        model.save_pretrained(tmp_path / "saved")
        assert_equal(outputs(prunus.load(tmp_path / "saved", **OPTIONS)), before)


def test_large_weights_are_shared_not_copied() -> None:
    module = Encoder()
    model = compiled(module)
    table = model.graph.constants["table.weight"].dense()
    assert table.ctypes.data == module.table.weight.data_ptr()
    assert model.graph.constants["norm.weight"].dense().ctypes.data != module.norm.weight.data_ptr()


@pytest.mark.parametrize("kind", ["attribute", "strided", "tied", "buffer"])
def test_large_tensors_of_every_kind_are_watched(kind: str) -> None:
    class Other(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.source = torch.randn(VOCABULARY, 2 * FEATURES)
            if kind == "buffer":
                source = self.source
                del self.source
                self.register_buffer("source", source)
            elif kind == "tied":
                self.first = nn.Parameter(self.source)
                self.second = self.first

        def forward(self, ids: Tensor) -> Any:
            table = self.second if kind == "tied" else self.source
            if kind == "strided":  # has no translation, so torch computes it: a view
                table = table.as_strided((2 * VOCABULARY, FEATURES), (FEATURES, 1))
            return torch.nn.functional.embedding(ids, table)

    module = Other()
    model = prunus.compile(module, (IDS,), **OPTIONS)
    before = model(IDS).numpy().copy()
    np.testing.assert_array_equal(before, module(IDS).detach().numpy())
    with torch.no_grad():
        (module.first if kind == "tied" else module.source).mul_(2)
    with pytest.raises(ModuleChangedError):
        model(IDS)


def test_weights_that_torch_does_not_count_are_copied() -> None:
    class Uncounted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            with torch.inference_mode():
                self.source = torch.randn(VOCABULARY, FEATURES)

        def forward(self, ids: Tensor) -> Any:
            return torch.nn.functional.embedding(ids, self.source)

    module = Uncounted()
    model = prunus.compile(module, (IDS,), **OPTIONS)
    before = model(IDS).numpy().copy()
    with torch.inference_mode():
        module.source.fill_(7)
    np.testing.assert_array_equal(model(IDS), before)


def test_replaced_weights_do_not_matter() -> None:
    module = Encoder()
    model = compiled(module)
    before = outputs(model)
    module.load_state_dict(Encoder().state_dict(), assign=True)
    module.table.weight = nn.Parameter(torch.zeros(VOCABULARY, FEATURES))
    module.double()
    assert_equal(outputs(model), before)


def test_a_saved_model_may_be_pickled_after_a_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    module = Encoder()
    model = compiled(module)
    before = outputs(model)
    model.save_pretrained(tmp_path / "saved")
    train(module)
    reference = pickle.dumps(model)
    del model
    gc.collect()
    assert_equal(outputs(pickle.loads(reference)), before)


def test_neither_the_module_nor_its_gradients_are_kept() -> None:
    module = Encoder()
    model = compiled(module)
    module(IDS)[0].sum().backward()
    gradient, whole = weakref.ref(module.table.weight.grad), weakref.ref(module)
    del module
    gc.collect()
    assert gradient() is None
    assert whole() is None
    outputs(model)


def test_the_check_of_a_call_takes_microseconds() -> None:
    model = compiled(Encoder())
    check = min(timeit.repeat(lambda: model._read_in_place.check("x"), number=1000, repeat=9))
    assert check / 1000 < 5e-6


@pytest.mark.parametrize("value", [None, 1, "yes"])
def test_copy_is_true_or_false(value: Any) -> None:
    with pytest.raises(InputError, match=r"copy=.*expected True or False"):
        compiled(Encoder(), copy=value)
