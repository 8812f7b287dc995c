"""Image classification: the class, and the pipelines over it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from prunus import hf
from prunus.errors import InputError
from prunus.hf import PrunusModel, PrunusModelForImageClassification
from tests.hf.tiny import assert_same

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
SIDE = 32  # pixels
LABELS = {0: "plum", 1: "cherry", 2: "sloe"}


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A tiny vision transformer, saved with its image processor."""
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4}
    config = transformers.ViTConfig(
        **sizes, intermediate_size=48, image_size=SIDE, patch_size=16, id2label=LABELS
    )
    torch.manual_seed(0)
    made = transformers.ViTForImageClassification(config).eval()
    folder = tmp_path_factory.mktemp("vit")
    made.save_pretrained(folder)
    made.name_or_path = str(folder)
    transformers.ViTImageProcessorPil(size={"height": SIDE, "width": SIDE}).save_pretrained(folder)
    return made


@pytest.fixture(scope="module")
def model(module: Any) -> PrunusModel:
    return PrunusModel.from_pretrained(module.name_or_path)


@pytest.fixture(scope="module")
def pictures() -> list[Any]:
    random = np.random.default_rng(0)
    shapes = ((40, 50, 3), (32, 32, 3), (17, 64, 3))
    return [Image.fromarray(random.integers(0, 255, shape, np.uint8)) for shape in shapes]


def test_answers_of_transformers(model: PrunusModel, module: Any) -> None:
    assert type(model) is PrunusModelForImageClassification
    assert model.main_input_name == "pixel_values" and model.input_modalities == "image"
    pixels = torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = module(pixel_values=pixels)
    answer = model(pixel_values=pixels)
    assert type(answer) is type(expected)
    assert_same(answer, expected)
    assert isinstance(model(pixel_values=pixels.numpy()).logits, np.ndarray)


def test_what_cannot_be_called(model: PrunusModel) -> None:
    pixels = torch.zeros(1, 3, SIDE, SIDE)
    with pytest.raises(InputError, match="pixel_values requires a gradient, which prunus does not"):
        model(pixel_values=pixels.requires_grad_())
    with pytest.raises(InputError, match="pixel_values"):
        model(pixel_values=torch.zeros(1, 3, SIDE, SIDE // 2))


@pytest.mark.parametrize("make", [transformers.pipeline, hf.pipeline], ids=["theirs", "ours"])
def test_pipelines(make: Any, model: PrunusModel, module: Any, pictures: list[Any]) -> None:
    processor = transformers.AutoImageProcessor.from_pretrained(module.name_or_path)
    mine = make("image-classification", model=model, image_processor=processor)
    theirs = transformers.pipeline("image-classification", module, image_processor=processor)
    assert mine.device == torch.device("cpu")
    for options in ({}, {"batch_size": 2, "top_k": 2}):
        for found, expected in zip(
            mine(pictures, **options), theirs(pictures, **options), strict=True
        ):
            assert [each["label"] for each in found] == [each["label"] for each in expected]
            for one, other in zip(found, expected, strict=True):
                assert one["score"] == pytest.approx(other["score"], abs=1e-4)


def test_a_saved_folder_brings_its_processor(
    model: PrunusModel, pictures: list[Any], tmp_path: Path
) -> None:
    model.save_pretrained(tmp_path)
    assert (tmp_path / "preprocessor_config.json").is_file()
    pipe = hf.pipeline("image-classification", tmp_path)
    assert {each["label"] for each in pipe(pictures[0])} == set(LABELS.values())
