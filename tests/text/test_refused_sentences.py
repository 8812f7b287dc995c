"""Settings of sentence-transformers that would change the vectors are refused by name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import prunus
import prunus.text
from prunus.errors import CheckpointError, PrunusError, UnsupportedError
from tests.text.sentence_models import change, dense, modules, pooled

library = pytest.importorskip("sentence_transformers")

Folders = Callable[[str], tuple[Path, Path]]

REFUSED: list[tuple[str, dict[str, Any], type[PrunusError], str]] = [
    ("1_Pooling/config.json", {"pooling_mode": "sum"}, UnsupportedError, "the pooling .*sum"),
    ("1_Pooling/config.json", {"pooling_mode": []}, UnsupportedError, r"the pooling \[\]"),
    ("1_Pooling/config.json", {"include_prompt": 1}, CheckpointError, "expected a bool"),
    (
        "2_Normalize/config.json",
        {"module_input_name": "token_embeddings"},
        UnsupportedError,
        "module_input_name = 'token_embeddings'",
    ),
    ("3_Dense/config.json", {"use_residual": True}, UnsupportedError, "use_residual = True"),
    ("3_Dense/config.json", {"activation_function": ["x"]}, UnsupportedError, "the activation"),
    (
        "3_Dense/config.json",
        {"activation_function": "torch.nn.modules.activation.GELU"},
        UnsupportedError,
        "the activation .*GELU.*prunus.st.accelerate",
    ),
    ("3_Dense/config.json", {"out_features": 9}, CheckpointError, "belongs to another model"),
    ("3_Dense/config.json", {"out_features": 1 << 40}, CheckpointError, "out_features = 1099511"),
    ("3_Dense/config.json", {"bias": False}, CheckpointError, "belongs to another model"),
    ("sentence_bert_config.json", {"max_seq_length": -1}, CheckpointError, "max_seq_length = -1"),
    ("sentence_bert_config.json", {"do_lower_case": "no"}, CheckpointError, "expected a bool"),
    (
        "sentence_bert_config.json",
        {"transformer_task": "fill-mask"},
        UnsupportedError,
        "transformer_task = 'fill-mask'",
    ),
    (
        "sentence_bert_config.json",
        {"processor_kwargs": {"use_fast": False}},
        UnsupportedError,
        "processor_kwargs = ",
    ),
    ("sentence_bert_config.json", {"query_length": 32}, UnsupportedError, "query_length = 32"),
    (
        "sentence_bert_config.json",
        {"modality_config": {"text": {"method": "get_text_features"}}},
        UnsupportedError,
        "modality_config",
    ),
    (
        "config_sentence_transformers.json",
        {"model_type": "SparseEncoder"},
        UnsupportedError,
        "describes a 'SparseEncoder'",
    ),
    (
        "config_sentence_transformers.json",
        {"similarity_fn_name": "maxsim"},
        UnsupportedError,
        "similarity_fn_name 'maxsim', expected one of cosine",
    ),
    (
        "config_sentence_transformers.json",
        {"default_prompt_name": "find"},
        CheckpointError,
        r"'find', expected one of its prompts \(query, document\)",
    ),
    (
        "config_sentence_transformers.json",
        {"default_prompt_name": ["query"]},
        CheckpointError,
        "expected one of its prompts",
    ),
    ("config_sentence_transformers.json", {"prompts": {"a": 0}}, CheckpointError, "expected a str"),
    ("config_sentence_transformers.json", {"prompts": ["a"]}, CheckpointError, "texts by name"),
    ("config_sentence_transformers.json", {"truncate_dim": 0}, CheckpointError, "truncate_dim = 0"),
]


@pytest.fixture(scope="module")
def sentence_folder(folders: Folders, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder saved by prunus, with a Pooling, a Normalize and a Dense."""
    import torch
    from sentence_transformers.base.modules import Transformer

    root = tmp_path_factory.mktemp("sentences")
    first = Transformer(str(folders("vectors")[0]))
    behind = [pooled("mean"), modules().Normalize(), dense(8, torch.nn.Tanh())]
    made = library.SentenceTransformer(modules=[first, *behind], device="cpu")
    made.save_pretrained(str(root / "made"))
    prunus.from_pretrained(root / "made", threads=1).save_pretrained(root / "saved")
    return root / "saved"


@pytest.mark.parametrize(("name", "fields", "error", "says"), REFUSED)
def test_settings_that_prunus_lacks_are_refused(
    sentence_folder: Path, tmp_path: Path, name: str, fields: Any, error: Any, says: str
) -> None:
    folder = shutil.copytree(sentence_folder, tmp_path / "st")
    change(folder, name, **fields)
    with pytest.raises(error, match=says):
        prunus.text.load(folder, threads=1)


MODULES: list[tuple[list[tuple[str, str]], type[PrunusError], str]] = [
    ([("", "Transformer")], UnsupportedError, "expected first a Transformer in '' and a Pooling"),
    ([("0_T", "Transformer"), ("1_Pooling", "Pooling")], UnsupportedError, "Transformer in '0_T'"),
    ([("", "StaticEmbedding"), ("1_Pooling", "Pooling")], UnsupportedError, "StaticEmbedding"),
    (
        [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_LayerNorm", "LayerNorm")],
        UnsupportedError,
        "a module LayerNorm, .*prunus.st.accelerate",
    ),
    (
        [("", "Transformer"), ("1_Pooling", "Pooling"), ("1_Pooling", "Pooling")],
        UnsupportedError,
        "a module Pooling",
    ),
    (
        [("", "Transformer"), ("1_Pooling", "Pooling"), ("4_Dense", "Dense")],
        CheckpointError,
        "4_Dense/config.json is not readable",
    ),
    ([("", "Transformer"), ("../../x", "Pooling")], CheckpointError, "outside of its folder"),
]


@pytest.mark.parametrize(("listed", "error", "says"), MODULES)
def test_modules_that_prunus_lacks_are_refused(
    sentence_folder: Path, tmp_path: Path, listed: Any, error: Any, says: str
) -> None:
    folder = shutil.copytree(sentence_folder, tmp_path / "st")
    document = [{"path": path, "type": f"sentence_transformers.models.{k}"} for path, k in listed]
    (folder / "modules.json").write_text(json.dumps(document))
    with pytest.raises(error, match=says):
        prunus.text.load(folder, threads=1)


@pytest.mark.parametrize(
    ("text", "error", "says"),
    [
        ('{"type": 1}', CheckpointError, "holds a dict, expected a list of modules"),
        ("[1]", CheckpointError, "no list of modules"),
        ("[]", CheckpointError, r"is an empty list, expected .* a Transformer and a Pooling"),
        (
            '[{"type": "sentence_transformers.models.Transformer", "path": ""}]',
            UnsupportedError,
            "has the modules Transformer in '', expected first a Transformer",
        ),
        ("[", CheckpointError, "not readable JSON"),
        ('[{"type": "my_code.Transformer", "path": ""}]', UnsupportedError, "my_code.Transformer"),
    ],
)
def test_hostile_modules(
    sentence_folder: Path, tmp_path: Path, text: str, error: Any, says: str
) -> None:
    folder = shutil.copytree(sentence_folder, tmp_path / "st")
    (folder / "modules.json").write_text(text)
    with pytest.raises(error, match=says):
        prunus.text.load(folder, threads=1)


def test_weights_of_a_module_that_are_damaged_or_missing(
    sentence_folder: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(sentence_folder, tmp_path / "st")
    weights = folder / "3_Dense" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-3])
    with pytest.raises(CheckpointError, match="cannot be read"):
        prunus.text.load(folder, threads=1)
    weights.unlink()
    with pytest.raises(UnsupportedError, match="expected the weights of the module"):
        prunus.text.load(folder, threads=1)
