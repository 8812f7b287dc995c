"""Keywords of transformers: what changes nothing is taken, what would is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from prunus import hf
from prunus.errors import CheckpointError, UnsupportedError
from prunus.hf import PrunusModel, PrunusModelForSequenceClassification
from tests.hf.tiny import reading

IDS = torch.tensor([[5, 6, 7, 8]])
CPU = torch.device("cpu")
HARMLESS: dict[str, list[Any]] = {
    "torch_dtype": [None, "auto", "float32", torch.float32],
    "dtype": [None, "auto", "float32", torch.float32],
    "device_map": [None, "cpu", CPU, {"": "cpu"}, {"": CPU}],
    "attn_implementation": [None, "sdpa", "eager"],
    "low_cpu_mem_usage": [None, True, False],
    "trust_remote_code": [None, False],
    "use_safetensors": [None, True],
    "variant": [None],
    "weights_only": [True],
}
REFUSED: list[tuple[str, Any, str]] = [
    ("torch_dtype", torch.float16, r"torch_dtype torch.float16: prunus computes in float32"),
    ("dtype", "bfloat16", "dtype 'bfloat16': prunus computes in float32"),
    ("device_map", "cuda", r"device_map='cuda'\): prunus runs on the processor"),
    ("device_map", "auto", 'pass device_map="cpu"'),
    ("device_map", {"": 0}, "prunus runs on the processor"),
    ("device_map", {"bert": "cpu", "classifier": "cuda"}, "prunus runs on the processor"),
    ("attn_implementation", "flash_attention_2", "prunus has its own kernels for attention"),
    ("trust_remote_code", True, "prunus runs no code of a repository: load the model with"),
    ("variant", "fp16", "prunus reads the files without a variant"),
    ("ignore_mismatched_sizes", True, "no layer is initialised at random"),
    ("quantization_config", {"bits": 4}, "prunus computes in float32"),
    ("load_in_8bit", True, "prunus computes in float32"),
    ("output_loading_info", True, "without a report"),
    ("force_download", True, "hub's cache"),
    ("weights_only", False, "runs no code that a pickle holds"),
    ("low_cpu_mem_usage", "yes", "it is a boolean"),
]


@pytest.mark.parametrize("is_saved", [False, True])
def test_keywords_that_change_nothing_are_taken(
    is_saved: bool, folder: Path, classifier: PrunusModel, tmp_path: Path
) -> None:
    if is_saved:
        classifier.save_pretrained(tmp_path)
    for turn in range(max(map(len, HARMLESS.values()))):
        keywords = {name: values[turn % len(values)] for name, values in HARMLESS.items()}
        model = PrunusModel.from_pretrained(tmp_path if is_saved else folder, **keywords)
        assert torch.equal(model(IDS).logits, classifier(IDS).logits)


@pytest.mark.parametrize(("name", "value", "reason"), REFUSED)
def test_keywords_that_would_change_something_are_refused(
    name: str, value: Any, reason: str, folder: Path
) -> None:
    with pytest.raises(UnsupportedError, match=reason) as info:
        PrunusModel.from_pretrained(folder, **{name: value})
    assert name in str(info.value)


def test_the_form_of_the_weights(folder: Path, classifier: PrunusModel, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    torch.save(load_file(folder / "model.safetensors"), tmp_path / "pytorch_model.bin")
    model = PrunusModel.from_pretrained(tmp_path, use_safetensors=False, tune="cost")
    torch.testing.assert_close(model(IDS).logits, classifier(IDS).logits)
    with pytest.raises(CheckpointError, match=r"=True: prunus reads .*pytorch_model\.bin, as"):
        PrunusModel.from_pretrained(tmp_path, use_safetensors=True)
    with pytest.raises(CheckpointError, match=r"=False: prunus reads .*/model\.safetensors, as"):
        PrunusModel.from_pretrained(folder, use_safetensors=False)
    classifier.save_pretrained(tmp_path / "saved")
    with pytest.raises(CheckpointError, match=r"=False: prunus reads .*saved/model\.safetensors"):
        PrunusModel.from_pretrained(tmp_path / "saved", use_safetensors=False)


def test_saving_takes_what_pipelines_pass(
    classifier: PrunusModelForSequenceClassification, tokenizer: Any, tmp_path: Path
) -> None:
    import prunus

    module = reading("ForSequenceClassification")
    model = PrunusModelForSequenceClassification(prunus.compile(module), module.config)
    pipe = hf.pipeline("text-classification", model, tokenizer)
    pipe.save_pretrained(tmp_path / "pipe", safe_serialization=True)
    assert hf.pipeline("text-classification", tmp_path / "pipe")("plum") == pipe("plum")
    classifier.save_pretrained(tmp_path / "a", push_to_hub=False, is_main_process=True)
    for name, value in {
        "safe_serialization": False, "push_to_hub": True, "is_main_process": False,
        "max_shard_size": "1GB", "variant": "fp16", "state_dict": {},
    }.items():  # fmt: skip
        with pytest.raises(UnsupportedError, match=rf"save_pretrained\({name}="):
            classifier.save_pretrained(tmp_path / "b", **{name: value})
    with pytest.raises(TypeError, match="unknown keyword 'safe_serialisation', did you mean 'safe"):
        classifier.save_pretrained(tmp_path / "b", safe_serialisation=True)
    assert not (tmp_path / "b").exists()
