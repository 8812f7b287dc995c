"""Shapes, inputs and differences."""

import numpy as np
import pytest

from prunus.bench.difference import largest_difference
from prunus.bench.inputs import random_inputs
from prunus.bench.shapes import all_shapes, parse_counts, parse_shapes
from prunus.errors import InputError


def test_shapes_are_read() -> None:
    assert parse_shapes("1x128, 8X384,2×16") == ((1, 128), (8, 384), (2, 16))
    assert parse_counts("1, 8") == (1, 8)
    assert all_shapes((1, 8), (32, 128)) == ((1, 32), (1, 128), (8, 32), (8, 128))


@pytest.mark.parametrize("text", ["", "1x", "x128", "1x128,", "0x128", "1x0", "-1x2", "1x2x3", "a"])
def test_what_is_no_shape_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"1x128|below 1"):
        parse_shapes(text)


@pytest.mark.parametrize("text", ["", "0", "1,,2", "-1", "1.5", "²", "x"])
def test_what_is_no_count_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="whole number"):
        parse_counts(text)


def test_sizes_below_one_are_refused() -> None:
    with pytest.raises(InputError, match="below 1"):
        all_shapes((0,), (128,))


def test_random_inputs_lie_inside_the_vocabulary_and_are_seeded() -> None:
    names = ("input_ids", "attention_mask", "token_type_ids", "position_ids")
    inputs = random_inputs(names, (3, 50), 7)
    assert set(np.unique(inputs["input_ids"])) == set(range(7))
    assert inputs["attention_mask"].all()
    assert not inputs["token_type_ids"].any()
    assert (inputs["position_ids"] == np.arange(50)).all()
    assert all(value.shape == (3, 50) and value.dtype == np.int64 for value in inputs.values())
    again = random_inputs(names, (3, 50), 7)
    assert (inputs["input_ids"] == again["input_ids"]).all()


def test_inputs_that_cannot_be_made_up_are_asked_for() -> None:
    with pytest.raises(InputError, match="vocabulary="):
        random_inputs(("input_ids",), (1, 4), None)
    with pytest.raises(InputError, match="'pixel_values'"):
        random_inputs(("pixel_values",), (1, 4), 7)


def test_the_difference_leaves_masked_positions_out() -> None:
    mask = np.array([[1, 1, 0], [1, 0, 0]])
    reference = {"logits": np.zeros((2, 3, 2), np.float32), "pooled": np.zeros((2, 5), np.float32)}
    outputs = {name: value.copy() for name, value in reference.items()}
    outputs["logits"][0, 2], outputs["logits"][1, 1:] = 100, np.nan
    assert largest_difference(outputs, reference, {"attention_mask": mask}) == 0
    outputs["logits"][0, 1, 1] = -0.5
    assert largest_difference(outputs, reference, {"attention_mask": mask}) == 0.5
    outputs["pooled"][1, 4] = 0.75
    assert largest_difference(outputs, reference, {"attention_mask": mask}) == 0.75


def test_a_nan_is_not_hidden() -> None:
    outputs = {"a": np.array([np.nan, 1.0]), "b": np.array([5.0])}
    reference = {"a": np.zeros(2), "b": np.zeros(1)}
    assert np.isnan(largest_difference(outputs, reference, {}))


def test_outputs_of_another_form_cannot_be_compared() -> None:
    with pytest.raises(InputError, match="cannot be compared"):
        largest_difference({"a": np.zeros(2)}, {"a": np.zeros(3)}, {})
    with pytest.raises(InputError, match="cannot be compared"):
        largest_difference({"a": np.zeros(2)}, {"b": np.zeros(2)}, {})
