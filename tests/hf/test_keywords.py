"""Keywords of transformers: what changes nothing is taken, what would is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import prunus
from prunus import hf
from prunus.errors import CheckpointError, InputError, UnsupportedError
from prunus.hf import PrunusModel, PrunusModelForSequenceClassification
from tests.hf.tiny import checkpoint, reading

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
    "force_download": [False],
    "proxies": [None, {}],
    "use_auth_token": [None],
    "mirror": [None],
    "from_tf": [False],
    "from_flax": [False],
    "resume_download": [True],
    "num_labels": [None, 2],
    "id2label": [{0: "plum", 1: "cherry"}, {"0": "plum", "1": "cherry"}],
    "label2id": [{"plum": 0, "cherry": 1}],
    "output_attentions": [None, False],
    "output_hidden_states": [False],
    "return_dict": [True],
    "use_cache": [False],
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
    ("proxies", {"https": "proxy:80"}, "environment variable HTTPS_PROXY"),
    ("mirror", "tuna", "environment variable HF_ENDPOINT"),
    ("use_auth_token", True, "pass it as token"),
    ("from_flax", True, "convert it with transformers 4"),
    ("num_labels", 3, r"num_labels=3\): .*config\.json says 2"),
    ("id2label", {0: "a", 1: "b"}, "says {'0': 'plum', '1': 'cherry'}"),
    ("output_attentions", True, "says False.*ask the model of transformers"),
    ("output_attentions", np.zeros(2), "says False"),
    ("id2label", {0: np.zeros(2), 1: "cherry"}, "says {'0': 'plum'"),
    ("num_labels", torch.zeros(2), "says 2"),
    ("return_dict", False, "take return_dict when they are called"),
    ("offload_folder", "x", "weights stay in memory"),
    ("device_mesh", "x", "in one process"),
    ("config", "elsewhere", r"prunus reads .*config\.json"),
]
SAVE_REFUSED: list[tuple[str, Any, str]] = [
    ("safe_serialization", False, "never pickles"),
    ("push_to_hub", True, "call push_to_hub of the model"),
    ("is_main_process", False, "in the main process alone"),
    ("max_shard_size", 1000, r"the weights take \d+ bytes"),
    ("max_shard_size", "1KB", "one file of weights"),
    ("variant", "fp16", "one form of the weights"),
    ("state_dict", {}, "compiled weights"),
    ("save_function", print, "writes the files itself"),
    ("token", "hf_secret", "pass it to push_to_hub"),
    ("distributed_checkpoint", True, "one file of weights"),
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


def test_the_function_takes_the_keywords_of_the_classes(
    folder: Path, classifier: PrunusModel
) -> None:
    expected = classifier(IDS).logits
    for turn in range(max(map(len, HARMLESS.values()))):
        keywords = {name: values[turn % len(values)] for name, values in HARMLESS.items()}
        model = prunus.from_pretrained(folder, **keywords)
        assert torch.equal(model(IDS)["logits"], expected)


@pytest.mark.parametrize("load", [PrunusModel.from_pretrained, prunus.from_pretrained])
@pytest.mark.parametrize(("name", "value", "reason"), REFUSED)
def test_keywords_that_would_change_something_are_refused(
    name: str, value: Any, reason: str, load: Any, folder: Path
) -> None:
    with pytest.raises(UnsupportedError, match=reason) as info:
        load(folder, **{name: value})
    assert name in str(info.value)


@pytest.mark.parametrize("is_saved", [False, True])
def test_a_configuration_may_only_be_that_of_the_folder(
    is_saved: bool, folder: Path, classifier: PrunusModel, tmp_path: Path
) -> None:
    from transformers import AutoConfig, BertConfig, RobertaConfig

    place = tmp_path if is_saved else folder
    if is_saved:
        classifier.save_pretrained(place)
    own = AutoConfig.from_pretrained(place, output_attentions=False)
    for same in (own, place, str(place), place / "config.json"):
        model = PrunusModel.from_pretrained(place, config=same)
        assert torch.equal(model(IDS).logits, classifier(IDS).logits)
    others = (
        (AutoConfig.from_pretrained(place, num_labels=3), "id2label"),
        (AutoConfig.from_pretrained(place, layer_norm_eps=0.1), "layer_norm_eps"),
        (AutoConfig.from_pretrained(place, output_attentions=True), "output_attentions"),
        (BertConfig(), "hidden_size"),
        (RobertaConfig(), "model_type"),
    )
    for other, field in others:
        with pytest.raises(UnsupportedError, match=f"differs from .*{field}"):
            PrunusModel.from_pretrained(place, config=other)
    with pytest.raises(InputError, match="config is a dict, expected a configuration of trans"):
        PrunusModel.from_pretrained(place, config={})


def test_labels_without_names_are_those_of_transformers(tmp_path: Path) -> None:
    checkpoint(tmp_path, "Bert", "ForSequenceClassification")
    names = {0: "LABEL_0", 1: "LABEL_1"}
    PrunusModel.from_pretrained(tmp_path, num_labels=2, id2label=names)
    with pytest.raises(UnsupportedError, match=r"num_labels=3\): .*says 2"):
        prunus.from_pretrained(tmp_path, num_labels=3)


@pytest.mark.parametrize("name", ["pooling", "hidden_dropout_prob", "from_pt", "token_type"])
def test_distant_names_are_not_suggested(name: str, folder: Path) -> None:
    calls: list[tuple[Any, type[Exception]]] = [
        (PrunusModel.from_pretrained, TypeError),
        (prunus.from_pretrained, InputError),
    ]
    for load, error in calls:
        with pytest.raises(error, match=f"unknown keyword '{name}': it takes sparse") as info:
            load(folder, **{name: 1})
        assert "did you mean" not in str(info.value)


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
    with pytest.raises(InputError, match="use_safetensors='yes': expected True, False or None"):
        PrunusModel.from_pretrained(folder, use_safetensors="yes")
    classifier.save_pretrained(tmp_path / "saved")
    with pytest.raises(CheckpointError, match=r"=False: prunus reads .*saved/model\.safetensors"):
        PrunusModel.from_pretrained(tmp_path / "saved", use_safetensors=False)


def test_saving_takes_what_pipelines_pass(
    classifier: PrunusModelForSequenceClassification, tokenizer: Any, tmp_path: Path
) -> None:
    module = reading("ForSequenceClassification")
    model = PrunusModelForSequenceClassification(prunus.compile(module), module.config)
    pipe = hf.pipeline("text-classification", model, tokenizer)
    pipe.save_pretrained(tmp_path / "pipe", safe_serialization=True)
    assert hf.pipeline("text-classification", tmp_path / "pipe")("plum") == pipe("plum")
    with pytest.raises(TypeError, match="unknown keyword 'safe_serialisation', did you mean 'safe"):
        classifier.save_pretrained(tmp_path / "b", safe_serialisation=True)
    assert not (tmp_path / "b").exists()


def test_saving_takes_keywords_that_change_nothing(
    classifier: PrunusModelForSequenceClassification, tmp_path: Path
) -> None:
    for size in ("5GB", "200 MiB", 1 << 30, None):
        classifier.save_pretrained(
            tmp_path,
            is_main_process=True,
            push_to_hub=False,
            max_shard_size=size,
            save_function=torch.save,
            state_dict=None,
            token=None,
            variant=None,
        )
    assert torch.equal(PrunusModel.from_pretrained(tmp_path)(IDS).logits, classifier(IDS).logits)


@pytest.mark.parametrize(("name", "value", "reason"), SAVE_REFUSED)
def test_saving_refuses_keywords_that_would_change_something(
    name: str, value: Any, reason: str, classifier: PrunusModel, tmp_path: Path
) -> None:
    with pytest.raises(UnsupportedError, match=reason) as info:
        classifier.save_pretrained(tmp_path / "new", **{name: value})
    assert f"save_pretrained({name}=" in str(info.value)
    with pytest.raises(InputError, match="max_shard_size is 'plenty', expected"):
        classifier.save_pretrained(tmp_path / "new", max_shard_size="plenty")
    assert not (tmp_path / "new").exists()
