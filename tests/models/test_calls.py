"""Calls of encoders with unusual inputs, and modules with unusual settings."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch.export import Dim

import prunus
from prunus.errors import InputError, PrunusError, UnsupportedError
from prunus.frontend.export import import_module
from tests.frontend.modules import run
from tests.models.encoders import POSITIONS, SIZES, SMALL, tiny

SOURCE = str(Path(__file__).parents[2] / "src")
IDS = torch.arange(3, 17).reshape(2, 7)


def same(found: Any, module: Any, *args: Any, **kwargs: Any) -> None:
    with torch.no_grad():
        expected = module(*args, **kwargs)[0]
    torch.testing.assert_close(found[0], expected, rtol=1e-4, atol=1e-4)


def test_positions_beyond_the_table_are_an_input_error() -> None:
    module = tiny("Bert", "Model")
    places = torch.arange(7).expand(2, 7)
    example = {"input_ids": IDS, "position_ids": places}
    model = prunus.compile(module, example, threads=1, tune="cost")
    largest = places + POSITIONS - 7
    same(model(IDS, position_ids=largest), module, IDS, position_ids=largest)
    message = f"position_ids holds the id {POSITIONS}, but .* 0 to {POSITIONS - 1}; pass values"
    for wrong in (largest + 1, largest.flip(0) + 1):
        with pytest.raises(InputError, match=message):
            model(IDS, position_ids=wrong)
    with pytest.raises(InputError, match="position_ids holds the id -1, but"):
        model(IDS, position_ids=places - 1)


def test_a_mask_of_numbers_has_any_length() -> None:
    module = tiny("Bert", "Model")
    hidden = torch.zeros(2, 1, 7, 7)
    imported = import_module(module, {"input_ids": IDS, "attention_mask": hidden})
    for batch, length in ((2, 7), (3, 12), (1, 1)):
        ids = torch.randint(3, 60, (batch, length))
        mask = torch.zeros(batch, 1, length, length)
        mask[..., length // 2 + 1 :] = torch.finfo(torch.float32).min
        same(run(imported, ids, attention_mask=mask), module, ids, attention_mask=mask)
    with pytest.raises(InputError, match=r"attention_mask has the shape \[2, 1, 7, 7\].*seq = 12"):
        model = prunus.compile(
            module, {"input_ids": IDS, "attention_mask": hidden}, threads=1, tune="cost"
        )
        model(torch.ones(2, 12, dtype=torch.int64), attention_mask=hidden)


def test_a_fixed_size_is_named_as_such() -> None:
    module = torch.nn.Linear(4, 2)
    model = prunus.compile(module, [torch.ones(2, 4)], threads=1, tune="cost")
    with pytest.raises(InputError) as info:
        model(torch.ones(2, 5))
    assert "has the shape [2, 5]" in str(info.value) and "4 = 4" not in str(info.value)
    assert "the size 4 was fixed when the model was compiled" in str(info.value)


@pytest.mark.parametrize("size", [4, 7])
def test_a_feed_forward_network_in_chunks_takes_any_length(size: int) -> None:
    config = transformers.BertConfig(**SMALL, **SIZES, chunk_size_feed_forward=size)
    module = transformers.BertModel(config).eval()
    imported = import_module(module)
    assert module.encoder.layer[0].chunk_size_feed_forward == size
    for length in (size, 2 * size):  # the module takes only multiples
        ids = torch.randint(3, 60, (2, length))
        same(run(imported, ids), module, ids)
    assert run(imported, torch.randint(3, 60, (2, size + 1)))[0].shape == (2, size + 1, 32)


def test_inputs_that_prunus_made_up_are_not_called_the_users() -> None:
    config = transformers.LiltConfig(**SMALL, **SIZES)  # 32 features are no multiple of 6
    module = transformers.LiltModel(config).eval()
    with pytest.raises(InputError) as info:
        import_module(module)
    message = str(info.value)
    assert "does not take the inputs that prunus made up for it, as none were given" in message
    assert "bbox [2, 7, 4]" in message and message.endswith("Pass example_inputs that it takes")
    given = {"input_ids": IDS, "bbox": torch.zeros(2, 7, 4, dtype=torch.int64)}
    with pytest.raises(InputError, match="LiltModel does not take the example inputs: RuntimeE"):
        import_module(module, given)


def test_deberta_of_the_first_version_follows_the_advice() -> None:
    options: dict[str, Any] = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]}
    options |= {"position_biased_input": False, "type_vocab_size": 0}
    torch.manual_seed(0)
    module = transformers.DebertaModel(transformers.DebertaConfig(**SMALL, **SIZES, **options))
    module.eval()
    with pytest.raises(UnsupportedError, match="can be compiled for one length") as info:
        import_module(module)
    advice = re.search(r"dynamic_shapes=(\{.*\})\)$", str(info.value))
    assert advice is not None and advice[1] == "{'input_ids': {0: torch.export.Dim('batch')}}"
    imported = import_module(
        module, {"input_ids": IDS}, dynamic_shapes={"input_ids": {0: Dim("batch")}}
    )
    for batch in (1, 3):
        ids = torch.randint(3, 60, (batch, 7))
        same(run(imported, ids), module, ids)


def test_masks_of_another_rank_are_refused_with_those_that_are_taken() -> None:
    module = tiny("Bert", "Model")
    model = prunus.compile(module, threads=1, tune="cost")
    for shape in ([2, 7, 7], [2, 1, 7, 7], [7]):
        with pytest.raises(InputError) as info:
            model(IDS, torch.ones(shape))
        message = str(info.value)
        assert f"attention_mask is int64{shape}, expected i64[batch, seq]" in message
        assert (
            "[batch, tokens], 1 for a token and 0 for padding. For a mask [batch, heads" in message
        )
    full = torch.ones(2, 1, 7, 7, dtype=torch.bool)
    example = {"input_ids": IDS, "attention_mask": full}
    model = prunus.compile(module, example, threads=1, tune="cost")
    same(model(IDS, full), module, IDS, full)
    with pytest.raises(InputError, match=r"For a mask \[batch, tokens\], 1 for a token"):
        model(IDS, torch.ones(2, 7, dtype=torch.bool))


@pytest.mark.parametrize("shape", [(2, 7, 7), (3, 7, 7)])
def test_an_example_with_a_mask_of_rank_3_is_refused_with_those_that_are_taken(shape: Any) -> None:
    example = {"input_ids": IDS, "attention_mask": torch.ones(shape)}
    with pytest.raises(PrunusError, match=r"models of transformers take a mask \[batch, tokens\]"):
        prunus.compile(tiny("Bert", "Model"), example, threads=1, tune="cost")


BROKEN_LILT = """
import sys, torch, transformers, prunus
from prunus.errors import InputError
sizes = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48}
ids = torch.arange(14).reshape(2, 7)
given = {"input_ids": ids, "bbox": torch.zeros(2, 7, 4, dtype=torch.int64)}
for fields, example in (
    ({"hidden_size": 32}, None),
    ({"hidden_size": 32}, given),
    ({"hidden_size": 48, "channel_shrink_ratio": 5}, None),
):
    config = transformers.LiltConfig(vocab_size=60, **sizes, **fields)
    try:
        prunus.compile(transformers.LiltModel(config), example)
    except InputError as error:
        print("refused", error)
"""


def test_only_the_error_of_prunus_is_printed_when_an_export_fails() -> None:
    """In a process of its own, as pytest replaces the handlers of loggers."""
    ran = subprocess.run(
        [sys.executable, "-c", BROKEN_LILT],
        env={**os.environ, "PYTHONPATH": SOURCE},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("refused LiltModel does not take") == 3
    assert ran.stderr == ""
