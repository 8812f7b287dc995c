"""Checkpoints of tiny models in every form, against transformers itself, and unsuitable ones."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch
import transformers
from safetensors.torch import load_file, save_file

from prunus.errors import CheckpointError, PrunusError, UnsupportedError
from prunus.frontend import checkpoint, hub, weights

State = dict[str, torch.Tensor]

SMALL = {
    "vocab_size": 60,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 40,
}
FAMILIES = {
    "BertForQuestionAnswering": SMALL,
    "BertForMaskedLM": SMALL,  # its decoder is tied to the embeddings
    "BertModel": SMALL,
    "RobertaForTokenClassification": SMALL,
    "DistilBertForSequenceClassification": {
        "vocab_size": 60,
        "dim": 16,
        "n_layers": 2,
        "n_heads": 2,
        "hidden_dim": 24,
        "max_position_embeddings": 40,
    },
    "ElectraForSequenceClassification": {**SMALL, "embedding_size": 8},
}
ONE = "BertForQuestionAnswering"
WEIGHT = "bert.encoder.layer.1.output.dense.weight"


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models saved by transformers, each under the name of its class."""
    root = tmp_path_factory.mktemp("originals")
    torch.manual_seed(0)
    for name, fields in FAMILIES.items():
        model_class = getattr(transformers, name)
        model_class(model_class.config_class(**fields)).save_pretrained(root / name)
    return root


@pytest.fixture
def folder(originals: Path, tmp_path: Path) -> Path:
    """A copy of one saved model, to be changed by the test."""
    return Path(shutil.copytree(originals / ONE, tmp_path / "model"))


def load(path: Path) -> Any:
    """The module, where nothing is to be warned of."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return checkpoint.load_module(hub.resolve(path))


def rewrite(path: Path, change: Callable[[State], Any]) -> None:
    """Change the tensors of a saved model in place or by returning another dictionary."""
    state = load_file(path / weights.SAFETENSORS)
    state = {name: tensor.clone() for name, tensor in state.items()}
    changed = change(state)
    save_file(
        changed if isinstance(changed, dict) else state,
        path / weights.SAFETENSORS,
        {"format": "pt"},
    )


def to_pickle(path: Path, content: Any = None) -> None:
    """Store the weights as ``pytorch_model.bin`` alone."""
    state = load_file(path / weights.SAFETENSORS) if content is None else content
    torch.save(state, path / weights.PICKLE)
    (path / weights.SAFETENSORS).unlink()


def configure(path: Path, **fields: Any) -> None:
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | fields))


def reference(path: Path) -> Any:
    """What transformers itself loads from the folder."""
    model_class = getattr(transformers, hub.resolve(path).config["architectures"][0])
    return model_class.from_pretrained(path, dtype=torch.float32, attn_implementation="sdpa")


def assert_same(module: Any, expected: Any) -> None:
    """The same class, mode, tensors (also those that are not saved), ties and answers."""
    assert type(module) is type(expected)
    assert not module.training
    assert module.config._attn_implementation == "sdpa"
    for kind in ("named_parameters", "named_buffers"):
        found = dict(getattr(module, kind)(remove_duplicate=False))
        wanted = dict(getattr(expected, kind)(remove_duplicate=False))
        assert found.keys() == wanted.keys()
        for name, tensor in wanted.items():
            assert found[name].device.type == "cpu"
            assert found[name].dtype == tensor.dtype
            assert torch.equal(found[name], tensor), name
        for name in wanted:
            ties = {other for other in wanted if wanted[other] is wanted[name]}
            assert {other for other in found if found[other] is found[name]} == ties
    ids = torch.arange(14).reshape(2, 7)
    with torch.no_grad():
        assert torch.equal(module(input_ids=ids)[0], expected(input_ids=ids)[0])


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("form", ["safetensors", "sharded", "pickle", "sharded-pickle"])
def test_every_form_of_every_family(name: str, form: str, originals: Path, tmp_path: Path) -> None:
    expected = reference(originals / name)
    if form == "safetensors":
        path = originals / name
    else:
        path = Path(shutil.copytree(originals / name, tmp_path / name))
    if form == "sharded":
        (path / weights.SAFETENSORS).unlink()
        expected.save_pretrained(path, max_shard_size="8KB")
        assert len(list(path.glob("*.safetensors"))) > 2
    elif form == "pickle":
        to_pickle(path)
    elif form == "sharded-pickle":
        split_pickle(path)
    assert_same(load(path), expected)


def split_pickle(path: Path) -> None:
    """Store the weights as two pickles with an index, as transformers 4 did."""
    state = load_file(path / weights.SAFETENSORS)
    (path / weights.SAFETENSORS).unlink()
    names = sorted(state)
    parts = {"a.bin": names[::2], "b.bin": names[1::2]}
    for shard, members in parts.items():
        torch.save({name: state[name] for name in members}, path / shard)
    weight_map = {name: shard for shard, members in parts.items() for name in members}
    (path / weights.INDICES[1]).write_text(json.dumps({"weight_map": weight_map}))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_widened(dtype: str, folder: Path) -> None:
    rewrite(folder, lambda s: {name: t.to(getattr(torch, dtype)) for name, t in s.items()})
    configure(folder, dtype=dtype)
    state = checkpoint.load_state(hub.resolve(folder))
    assert {str(tensor.dtype) for tensor in state.values()} == {f"torch.{dtype}"}
    assert_same(load(folder), reference(folder))


def test_pickle_of_the_time_before_zip(folder: Path) -> None:
    state = load_file(folder / weights.SAFETENSORS)
    to_pickle(folder)
    torch.save(state, folder / weights.PICKLE, _use_new_zipfile_serialization=False)
    assert_same(load(folder), reference(folder))


def test_old_names_of_layer_norm_and_of_the_base_model(originals: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(originals / "BertModel", tmp_path / "old"))
    expected = load(path)

    def age(state: State) -> State:
        old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
        aged = {}
        for name, tensor in state.items():
            for new, former in old.items():
                name = name.replace(new, former)
            aged[f"bert.{name}"] = tensor
        return aged

    rewrite(path, age)
    assert_same(load(path), expected)


def test_left_over_weights_are_named_once_and_do_no_harm(folder: Path) -> None:
    expected = load(folder)

    def add(state: State) -> None:
        state["bert.embeddings.position_ids"] = torch.arange(40)[None]
        state["bert.pooler.dense.weight"] = torch.full((16, 16), float("nan"))
        state["cls.seq_relationship.bias"] = torch.zeros(2)

    rewrite(folder, add)
    with pytest.warns(UserWarning, match="left out") as caught:
        module = checkpoint.load_module(hub.resolve(folder))
    (warning,) = caught
    text = str(warning.message)
    assert "\n" not in text
    for name in ("embeddings.position_ids", "pooler.dense.weight", "cls.seq_relationship.bias"):
        assert text.count(name) == 1
    assert warning.filename == __file__
    assert_same(module, expected)


def test_a_base_model_of_a_checkpoint_without_a_pooler(folder: Path) -> None:
    with pytest.warns(UserWarning, match="qa_outputs"):
        module: Any = checkpoint.load_module(hub.resolve(folder), architecture="BertModel")
    assert module.pooler is None
    assert module(torch.zeros(1, 3, dtype=torch.int64)).last_hidden_state.shape == (1, 3, 16)
    lost = "bert.encoder.layer.0.output.dense.bias"
    rewrite(folder, lambda s: {name: tensor for name, tensor in s.items() if name != lost})
    with pytest.raises(CheckpointError, match="lacks weights"):
        checkpoint.load_module(hub.resolve(folder), architecture="BertModel")


def test_many_left_over_weights_share_a_name(folder: Path) -> None:
    rewrite(
        folder, lambda s: s.update({f"bert.extra.{i}.weight": torch.zeros(1) for i in range(9)})
    )
    with pytest.warns(
        UserWarning, match=r"BertForQuestionAnswering.* 9\): bert\.extra\.\*\.weight$"
    ):
        checkpoint.load_module(hub.resolve(folder))


def test_nothing_is_printed_and_the_settings_of_transformers_are_kept(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from transformers.utils import logging

    logging.set_verbosity_info()
    try:
        load(folder)
        assert logging.get_verbosity() == logging.INFO
    finally:
        logging.set_verbosity_warning()
    assert logging.is_progress_bar_enabled()
    assert capfd.readouterr() == ("", "")


def test_masks_of_torch_prune_are_folded(folder: Path) -> None:
    from torch.nn.utils import prune as untyped_prune

    prune: Any = untyped_prune

    module = reference(folder)
    for layer in module.bert.encoder.layer:
        prune.l1_unstructured(layer.output.dense, "weight", amount=0.9)
        prune.random_unstructured(layer.output.dense, "bias", amount=0.5)
    to_pickle(folder, module.state_dict())
    for layer in module.bert.encoder.layer:
        prune.remove(layer.output.dense, "weight")
        prune.remove(layer.output.dense, "bias")
    loaded = load(folder)
    assert (loaded.get_parameter(WEIGHT) == 0).float().mean() > 0.89
    # The reference's parameters were made anew by `remove`, so only their values are compared.
    wanted = module.state_dict()
    assert all(torch.equal(t, wanted[name]) for name, t in loaded.state_dict().items())


@pytest.mark.parametrize("field", ["quantization_config", "sparsity_config", "both"])
@pytest.mark.parametrize("form", ["dense", "sparse-bitmask", "sparse-24-bitmask"])
def test_settings_of_other_tools_decide_nothing(form: str, field: str, folder: Path) -> None:
    expected = load(folder)
    sparsity = {"format": form, "registry_requires_subclass": False, "sparsity_structure": "0:0"}
    quantiser = {"quant_method": "compressed-tensors", "format": form, "config_groups": {}}
    settings: dict[str, dict[str, Any]] = {
        "sparsity_config": {"sparsity_config": sparsity},
        "quantization_config": {"quantization_config": quantiser},
        "both": {"quantization_config": {**quantiser, "sparsity_config": sparsity}},
    }
    configure(folder, **settings[field])
    assert_same(load(folder), expected)


def test_a_model_that_its_settings_call_sparse_is_as_dense_as_its_weights(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import prunus

    monkeypatch.setenv("PRUNUS_CACHE_DIR", str(tmp_path / "cache"))
    configure(folder, sparsity_config={"format": "sparse-bitmask", "global_sparsity": 0.9})
    assert prunus.from_pretrained(folder, tune="cost").density == 1


def test_config_decides_the_class_not_the_folder(folder: Path) -> None:
    configure(folder, architectures=["BertModel"])
    rewrite(folder, lambda s: s.update(
        {"bert.pooler.dense.weight": torch.eye(16), "bert.pooler.dense.bias": torch.zeros(16)}
    ))  # fmt: skip
    with pytest.warns(UserWarning, match=r"BertModel has no use for .* 2\): qa_outputs\.bias"):
        module = checkpoint.load_module(hub.resolve(folder))
    assert type(module) is transformers.BertModel


# ---- what cannot be loaded: each with the words that help ------------------------------------


def drop(name: str) -> Callable[[State], Any]:
    return lambda state: state.pop(name)


def put(name: str, tensor: Any) -> Callable[[State], Any]:
    return lambda state: state.update({name: tensor})


def spoil(value: float) -> Callable[[State], Any]:
    return lambda state: state[WEIGHT].view(-1)[5:6].fill_(value)


NAN, INFINITE = float("nan"), float("-inf")
INT8 = torch.zeros(16, 24, dtype=torch.int8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            drop("qa_outputs.weight"),
            r"lacks weights .*BertForQuestionAnswering.*qa_outputs\.weight",
        ),
        (drop(WEIGHT), r"lacks weights .*bert\.encoder\.layer\.1\.output\.dense\.weight"),
        (put("qa_outputs.bias", torch.zeros(3)), r"qa_outputs\.bias .*\[3\].*expects \[2\]"),
        (spoil(NAN), rf"1 of the 384 values of {WEIGHT} are NaN"),
        (spoil(INFINITE), rf"1 of the 384 values of {WEIGHT} are NaN or infinite"),
        (put(f"{WEIGHT}_orig", torch.zeros(16, 24)), r"weight_mask is missing.*prune\.remove"),
        (put("bert.mask_scores", torch.zeros(3)), "unfinished movement pruning.*bertarize"),
        (put("bert.x.bitmask", torch.zeros(3)), r"bert\.x\.compressed is missing.*bitmask is dam"),
        (put("bert.x.zero_point", torch.zeros(3)), "int8 weights of neural-compressor"),
        (put(WEIGHT, INT8), rf"stores {WEIGHT} as torch\.int8.*dequantise"),
        (put(WEIGHT, INT8.to(torch.float8_e4m3fn)), r"as torch\.float8_e4m3fn.*dequantise"),
        (put("bert.x.weight_packed", INT8), "quantised weights"),
    ],
)
def test_weights_that_do_not_do(change: Callable[[State], Any], message: str, folder: Path) -> None:
    rewrite(folder, change)
    with pytest.raises(CheckpointError, match=message):
        checkpoint.load_module(hub.resolve(folder))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch will drop it, files remain
@pytest.mark.filterwarnings("ignore:.*quantize:UserWarning")
@pytest.mark.parametrize("settings", [{}, {"best_configure": {"approach": "post_training"}}])
def test_int8_model_of_neural_compressor(settings: dict[str, Any], folder: Path) -> None:
    quantize: Any = torch.ao.quantization.quantize_dynamic
    quantised = quantize(reference(folder), {torch.nn.Linear})
    to_pickle(folder, {**quantised.state_dict(), **settings})
    with pytest.raises(CheckpointError, match="int8 weights of neural-compressor: dequantise"):
        checkpoint.load_module(hub.resolve(folder))


def test_float16_that_overflowed_is_found(folder: Path) -> None:
    rewrite(folder, lambda s: {n: (t * 1e8).to(torch.float16) for n, t in s.items()})
    with pytest.raises(CheckpointError, match="NaN or infinite"):
        checkpoint.load_module(hub.resolve(folder))


def test_large_finite_weights_are_allowed(folder: Path) -> None:
    rewrite(folder, lambda s: s[WEIGHT].fill_(3e38))
    load(folder)


@pytest.mark.parametrize(
    ("fields", "kind", "message"),
    [
        ({"architectures": None}, CheckpointError, "names no architecture"),
        ({"architectures": []}, CheckpointError, "names no architecture"),
        ({"architectures": ["BertForQuestionAnswer"]}, UnsupportedError,
         "BertForQuestionAnswer,.*Did you mean BertForQuestionAnswering"),
        ({"architectures": ["TFBertModel"]}, UnsupportedError, "is a TFBertModel"),
        ({"architectures": ["BertConfig"]}, UnsupportedError, "is a BertConfig"),
        ({"hidden_size": 17}, CheckpointError, "cannot make a BertForQuestionAnswering"),
        ({"hidden_size": "wide"}, CheckpointError, "cannot make a BertForQuestionAnswering"),
        ({"vocab_size": 61}, CheckpointError, r"\[60, 16\].*expects \[61, 16\]"),
        ({"num_hidden_layers": 3}, CheckpointError, r"lacks weights.*layer\.2\..* and 10 more"),
        ({"vocab_size": 61, "pruned_heads": {"0": [1]}}, CheckpointError, "pruned_heads"),
    ],
)  # fmt: skip
def test_configurations_that_do_not_do(
    fields: dict[str, Any], kind: type[PrunusError], message: str, folder: Path
) -> None:
    configure(folder, **fields)
    with pytest.raises(kind, match=message):
        checkpoint.load_module(hub.resolve(folder))


def test_other_dtypes_are_refused(originals: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"bfloat16.*float32"):
        checkpoint.load_module(hub.resolve(originals / ONE), dtype="bfloat16")


def test_real_model(minilm_folder: Path) -> None:
    with pytest.warns(UserWarning, match=r"1\): embeddings\.position_ids$"):
        module = checkpoint.load_module(hub.resolve(minilm_folder))
    assert_same(module, reference(minilm_folder))
