"""The whole question on a tiny model; times are the simulated processor's where they are judged."""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

import prunus
from prunus.errors import InputError
from prunus.ir import Constant
from prunus.prediction import layer_times, times
from prunus.prediction import whatif as module
from prunus.prediction.pruned import find_layers, prune
from prunus.prediction.result import Built, Combination
from prunus.prediction.whatif import worth_a_look
from prunus.sparsity import BlockSparse, SparsityRecipe
from tests.prediction.simulated import measure, seconds_of
from tests.small_bert import SMALL

GRID: dict[str, Any] = {
    "sparsities": (0.5, 0.9), "patterns": ("1x1", "16x1", "2:4"), "shapes": ((1, 16), (2, 20)),
}  # fmt: skip


@pytest.fixture(scope="module")
def model() -> prunus.CompiledModel:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.BertConfig(**SMALL)
    return prunus.compile(transformers.BertModel(config).eval(), threads=1)


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is measured twice."""
    monkeypatch.setattr(module, "make_gauge", lambda _: lambda: 1e-3)


@pytest.fixture
def simulated(quiet: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers and the rest take what a formula says."""
    monkeypatch.setattr(module, "Times", lambda options, anew: times.Times(options, anew=True))
    monkeypatch.setattr(module, "LayerTimes", partial(layer_times.LayerTimes, measure=measure))
    monkeypatch.setattr(module, "rest_of", lambda *_: 1e-3)


@pytest.mark.usefixtures("quiet")
def test_the_grid_is_predicted_and_three_are_run(model: prunus.CompiledModel) -> None:
    told: list[str] = []
    found = prunus.whatif(model, **GRID, build=2, progress=lambda *of: told.append(of[2]))
    assert len(found.grid) == 2 * 5
    assert found.skipped == ("2:4 means 50 % zeros; 0.9 is left out for it",)
    assert [str(each.combination.recipe).partition("@")[0] for each in found.built] == [
        "0.9", "0.5",
    ] * 2  # fmt: skip
    assert all(0 < each.seconds < 1 and 0 < each.dense < 1 for each in found.built)
    assert any(text.startswith("timing 96×32") for text in told)
    again: list[str] = []
    prunus.whatif(model, **GRID, build=0, progress=lambda *of: again.append(of[2]))
    assert again == [], "all is remembered"


@pytest.mark.usefixtures("simulated")
def test_predictions_follow_the_formula(model: prunus.CompiledModel) -> None:
    found = prunus.whatif(model, **GRID, build=0, target=1.0, speedup=1.1)
    assert {layer.tokens for layer in found.predictor.layers} == {"batch*seq", "batch"}
    for each in found.grid:
        layers = found.predictor.layers
        pattern = each.pattern
        expected = 1e-3 + sum(
            found.predictor.layer_seconds(layer, pattern, each.recipe.sparsity, each.shape)
            for layer in layers
        )
        assert each.seconds == pytest.approx(expected)
        assert each.linear == pytest.approx(expected - 1e-3)
    frame = found.to_pandas()
    assert list(frame["predicted_seconds"]) == [each.seconds for each in found.grid]
    assert found.to_polars()["recipe"].to_list() == [str(each.recipe) for each in found.grid]
    assert found.to_csv().splitlines()[0].startswith("model,method,batch,length,pattern")
    assert "not a trained model" in str(found)


@pytest.mark.usefixtures("simulated")
def test_a_busy_machine_is_told(
    model: prunus.CompiledModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    readings = itertools.chain([1e-3, 1e-3], itertools.repeat(2e-3))
    monkeypatch.setattr(module, "make_gauge", lambda _: partial(next, readings))
    found = prunus.whatif(model, **GRID, build=0)
    assert found.disturbed > 1 and found.to_dict()["disturbed"] == found.disturbed
    assert f"busy with other things during {found.disturbed} measurements" in str(found)
    layer = found.predictor.layers[0]
    assert found.predictor.dense_seconds(layer, (1, 16)) == pytest.approx(
        seconds_of(layer, None, 0, 16)
    ), "the first was measured on a quiet machine"


@pytest.mark.usefixtures("simulated")
def test_magnitude_tells_the_norm_and_the_distance(model: prunus.CompiledModel) -> None:
    found = prunus.whatif(model, **GRID, method="magnitude", build=1)
    norms = {(each.pattern, each.recipe.sparsity): each.norm or 0 for each in found.grid}
    assert 0 < norms["1x1", 0.9] < norms["1x1", 0.5] < 1
    assert norms["16x1", 0.9] < norms["1x1", 0.9]
    distance = found.built[0].distance
    assert distance is not None and 0 < distance < 10


def test_zeros_come_where_a_recipe_says(model: prunus.CompiledModel) -> None:
    layers = find_layers(model.graph)
    recipe = SparsityRecipe.parse("0.75@16x1")
    graph = prune(model.graph, {layers[0].name: recipe}, "magnitude")
    made, kept = graph.constants[layers[0].name], model.graph.constants[layers[0].name].dense()
    assert isinstance(made.value, BlockSparse) and made.value.block == (16, 1)
    dense = made.dense()
    assert np.count_nonzero(dense) == dense.size // 4
    np.testing.assert_array_equal(dense[dense != 0], kept[dense != 0])
    for layer in layers[1:]:
        assert graph.constants[layer.name] is model.graph.constants[layer.name]


def test_magnitude_prunes_queries_keys_and_values_each_by_itself(
    model: prunus.CompiledModel,
) -> None:
    (name, *_) = (each.name for each in find_layers(model.graph) if "+" in each.name)
    sizes = np.repeat([1, 100, 10_000], model.graph.constants[name].type.sizes({})[0] // 3)
    scaled = Constant(model.graph.constants[name].dense() * sizes[:, None].astype(np.float32))
    graph = replace(model.graph, constants={**model.graph.constants, name: scaled})
    made = prune(graph, {name: SparsityRecipe.parse("0.75")}, "magnitude").constants[name].dense()
    assert [np.count_nonzero(each) for each in np.split(made, 3)] == [made.size // 12] * 3


def test_a_person_looks_at_what_meets_the_target_first() -> None:
    def cell(recipe: str, seconds: float) -> Combination:
        return Combination(SparsityRecipe.parse(recipe), (1, 8), seconds, 1.0, seconds)

    grid = [cell("0.5", 0.8), cell("0.9", 0.3), cell("0.95", 0.2), cell("0.8@16x1", 0.25),
            cell("0.9@16x1", 0.2)]  # fmt: skip
    assert [str(each) for each in worth_a_look(grid, (1, 8), 0.31)][:2] == ["0.8@16x1", "0.9"]
    assert [str(each) for each in worth_a_look(grid, (1, 8), float("inf"))] == [
        "0.9@16x1", "0.95", "0.8@16x1", "0.5",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"shapes": ()}, "the grid is empty: it has no shape"),
        ({"shapes": ((1, 41),)}, "longer than the 40 tokens"),
        ({"shapes": ((0, 8),)}, "a size below 1"),
        ({"sparsities": ()}, "it has no share of zeros"),
        ({"sparsities": (1.0,)}, "is not a share of zeros"),
        ({"patterns": ("3x",)}, "is not understood"),
        ({"target": 0.0}, "target=0.0"),
        ({"speedup": 1.0}, "speedup=1.0"),
        ({"build": -1}, "build=-1"),
    ],
)
def test_what_cannot_be_asked(
    model: prunus.CompiledModel, changed: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        prunus.whatif(model, **{**GRID, **changed})


def test_a_model_without_linear_layers_is_refused() -> None:
    class Doubled(torch.nn.Module):
        def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
            return 2.0 * input_ids.float()

    compiled = prunus.compile(Doubled(), {"input_ids": torch.ones(2, 3, dtype=torch.long)})
    with pytest.raises(InputError, match="no linear layer"):
        prunus.whatif(compiled, **GRID)


def test_an_error_is_of_what_a_quiet_machine_would_take() -> None:
    combination = Combination(
        SparsityRecipe(0.9, None, None), (1, 16), seconds=2.0, dense=8.0, linear=1.0
    )
    assert Built(combination, seconds=2.5, dense=8.0).error == pytest.approx(-0.2)
    assert Built(combination, seconds=3.0, dense=12.0, slowed=1.5).error == pytest.approx(0.0)
