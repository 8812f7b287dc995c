"""Which calls are compared, and what is put into them."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import prunus
from prunus.check.cases import LENGTHS, MASKS, Calls, Case, make_mask
from tests.check.tiny import LIMIT, bert

SMALL = {
    "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24,
}  # fmt: skip


@cache
def calls() -> Calls:
    module = bert("Model", pad_token_id=5)
    return Calls(prunus.compile(module, tune="cost"), module.config)


@cache
def of_images() -> Calls:
    config = transformers.ViTConfig(image_size=16, patch_size=8, **SMALL)
    example = {"pixel_values": np.zeros((2, 3, 16, 16), np.float32)}
    return Calls(prunus.compile(transformers.ViTModel(config).eval(), example, tune="cost"))


def test_lengths_lie_around_the_edges_up_to_the_limit() -> None:
    cases = calls().cases(None, None)
    lengths = list(dict.fromkeys(case.length for case in cases))
    assert lengths == [*(each for each in LENGTHS if each < LIMIT), LIMIT]
    assert {1, 2, 15, 16, 17, 63, 64, 65, 127, 128} <= set(LENGTHS)


def test_lengths_masks_and_batches_all_meet() -> None:
    cases = calls().cases(None, (1, 3, 8))
    long = [case for case in cases if case.length and case.length > 1]
    for length in {case.length for case in long}:
        here = [case for case in long if case.length == length]
        assert sorted(case.mask for case in here) == sorted(MASKS)
        assert {case.batch for case in here} == {1, 3, 8}
    for mask in MASKS[:-1]:
        assert {case.batch for case in long if case.mask == mask} == {1, 3, 8}
    hidden = {case.batch for case in cases if case.mask == "one row hidden"}
    assert hidden == {3, 8}, "alone, a hidden row leaves nothing to compare"
    assert "one row hidden" not in {case.mask for case in calls().cases((4,), (1,))}


@pytest.mark.parametrize("mask", MASKS)
def test_masks_are_what_they_are_called(mask: str) -> None:
    made = make_mask(mask, (5, 40), np.random.default_rng(0))
    rows = made[made.any(1)]
    assert len(rows) == (4 if mask == "one row hidden" else 5)
    falling, rising = (np.diff(rows.astype(int)) <= 0).all(), (np.diff(rows.astype(int)) >= 0).all()
    match mask:
        case "none" | "full":
            assert made.all()
        case "right padding" | "one row hidden":
            assert falling and len(set(rows.sum(1))) > 1
        case "left padding":
            assert rising and len(set(rows.sum(1))) > 1
        case "holes":
            assert not falling and not rising


def test_every_row_shows_a_token() -> None:
    random = np.random.default_rng(0)
    for mask in MASKS[:-1]:
        for length in (1, 2, 3):
            assert make_mask(mask, (50, length), random).any(1).all()


def test_inputs_are_drawn_from_what_the_model_knows() -> None:
    made = calls().inputs(Case(8, 60, "right padding"))
    assert list(made) == ["input_ids", "attention_mask", "token_type_ids"]
    seen = made["attention_mask"] == 1
    assert (made["input_ids"][~seen] == 5).all(), "padding is where the mask hides"
    assert made["input_ids"].min() >= 0 and 80 < made["input_ids"].max() < 90
    assert set(made["token_type_ids"].ravel()) == {0, 1}
    again = calls().inputs(Case(8, 60, "right padding"))
    np.testing.assert_equal(made, again)


def test_nothing_masked_leaves_out_what_may_be() -> None:
    assert list(calls().inputs(Case(3, 7, "none"))) == ["input_ids"]
    assert calls().inputs(Case(3, 7, "full"))["attention_mask"].all()


def test_images_come_in_batches() -> None:
    cases = of_images().cases(None, None)
    assert [str(case) for case in cases] == ["1 image", "3 images", "8 images"]
    made = of_images().inputs(cases[1])["pixel_values"]
    assert made.shape == (3, 3, 16, 16) and made.dtype == np.float32 and made.std() > 0.5


def test_choices_and_boxes() -> None:
    config = transformers.BertConfig(vocab_size=60, max_position_embeddings=40, **SMALL)
    ids = np.ones((2, 3, 7), np.int64)
    module = transformers.BertForMultipleChoice(config).eval()
    example = {"input_ids": ids, "attention_mask": ids}
    choices = prunus.compile(module, example, tune="cost")
    assert choices.longest == 40
    made = Calls(choices, config).inputs(Case(3, 9, "holes"))
    assert made["input_ids"].shape == (3, 2, 9) and made["attention_mask"].any(-1).all()
    layout = transformers.LayoutLMConfig(vocab_size=60, max_position_embeddings=40, **SMALL)
    ids = np.ones((2, 7), np.int64)
    example = {"input_ids": ids, "bbox": np.zeros((2, 7, 4), np.int64)}
    model = prunus.compile(transformers.LayoutLMModel(layout).eval(), example, tune="cost")
    boxes = Calls(model, layout).inputs(Case(3, 9, "full"))["bbox"]
    assert boxes.shape == (3, 9, 4)
    assert (boxes[..., :2] <= boxes[..., 2:]).all() and 0 <= boxes.min() < boxes.max() <= 1000


@pytest.mark.parametrize(
    ("lengths", "batches", "says"),
    [
        ((0,), None, "at least 1"),
        ((), None, "at least 1"),
        (None, (0, 1), "at least 1"),
        ((LIMIT + 1,), None, f"limit of {LIMIT} tokens"),
    ],
)
def test_sizes_that_cannot_be(lengths: Any, batches: Any, says: str) -> None:
    with pytest.raises(prunus.InputError, match=says):
        calls().cases(lengths, batches)


def test_sizes_that_a_model_does_not_take() -> None:
    with pytest.raises(prunus.InputError, match="takes images"):
        of_images().cases((4,), None)
    ids = np.ones((2, 7), np.int64)
    fixed = Calls(prunus.compile(bert(), (ids,), dynamic_shapes=({},), tune="cost"))
    assert {(case.batch, case.length) for case in fixed.cases(None, None)} == {(2, 7)}
    with pytest.raises(prunus.InputError, match="takes 7 only"):
        fixed.cases((7, 8), None)
    with pytest.raises(prunus.InputError, match="takes 2 only"):
        fixed.cases(None, (1,))


class Shifted(torch.nn.Module):
    """Takes an input by which nothing is looked up."""

    def forward(self, input_ids: Any, shift: Any) -> Any:
        return input_ids + shift


class Doubled(torch.nn.Module):
    """Takes neither ids nor images."""

    def forward(self, x: Any) -> Any:
        return 2 * x


def test_inputs_that_cannot_be_made_up() -> None:
    ids = np.ones((2, 7), np.int64)
    example = {"input_ids": ids, "shift": ids}
    strange = Calls(prunus.compile(Shifted(), example, tune="cost"))
    with pytest.raises(prunus.InputError, match="for the input 'input_ids'"):
        strange.inputs(Case(2, 7, "none"))
    with pytest.raises(prunus.InputError, match="takes x"):
        Calls(prunus.compile(Doubled(), {"x": np.ones((2, 3), np.float32)}, tune="cost"))
