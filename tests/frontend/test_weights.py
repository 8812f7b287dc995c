"""Weight files that are truncated, corrupt, hostile, incomplete, or of another format."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch
from safetensors.torch import load_file, save_file

from prunus.errors import CheckpointError
from prunus.frontend import checkpoint, hub, weights

STATE = {"first.weight": torch.arange(64.0).reshape(8, 8), "second.weight": torch.ones(100)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text("{}")
    save_file(STATE, tmp_path / weights.SAFETENSORS)
    return tmp_path


def to_pickle(folder: Path, content: Any = STATE, zipped: bool = True) -> None:
    """Store ``content`` as ``pytorch_model.bin`` alone."""
    (folder / weights.SAFETENSORS).unlink(missing_ok=True)
    torch.save(content, folder / weights.PICKLE, _use_new_zipfile_serialization=zipped)


def load(folder: Path) -> dict[str, torch.Tensor]:
    return checkpoint.load_state(hub.resolve(folder))


def assert_state(found: dict[str, torch.Tensor]) -> None:
    assert found.keys() == STATE.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in STATE.items())


@pytest.mark.parametrize("form", ["safetensors", "pickle"])
def test_a_variant_is_read_once_it_is_renamed_as_advised(form: str, folder: Path) -> None:
    """The shards of a variant have names of their own, by which the index finds them."""
    suffix, plain = ("safetensors", weights.SAFETENSORS), weights.INDICES[0]
    if form == "pickle":
        suffix, plain = ("bin", weights.PICKLE), weights.INDICES[1]
    stem = suffix[1].split(".")[0]
    (folder / weights.SAFETENSORS).unlink()
    shards = {name: f"{stem}.fp16-0000{i}-of-00002.{suffix[0]}" for i, name in enumerate(STATE, 1)}
    for name, shard in shards.items():
        save: Any = save_file if form == "safetensors" else torch.save
        save({name: STATE[name]}, folder / shard)
    index = folder / plain.replace(".json", ".fp16.json")
    index.write_text(json.dumps({"weight_map": shards}))
    with pytest.raises(CheckpointError, match="a variant in shards: rename it to") as info:
        load(folder)
    assert f"{index.name} (a variant" in str(info.value) and f"to {plain};" in str(info.value)
    index.rename(folder / plain)
    assert_state(load(folder))


@pytest.mark.parametrize("name", ["model.fp16.safetensors", "pytorch_model.fp16.bin"])
def test_a_variant_in_one_file_has_advice(name: str, folder: Path) -> None:
    (folder / weights.SAFETENSORS).rename(folder / name)
    with pytest.raises(CheckpointError, match=rf"only {name} \(a variant: rename it to"):
        load(folder)


def test_safetensors_come_before_a_pickle_and_the_whole_before_shards(folder: Path) -> None:
    torch.save({}, folder / weights.PICKLE)
    (folder / weights.INDICES[0]).write_text("not read")
    assert_state(load(folder))


@pytest.mark.parametrize("form", ["safetensors", "pickle", "old pickle"])
@pytest.mark.parametrize("kept", [None, 0, 7, 300, -100])
def test_truncated_files(form: str, kept: int | None, folder: Path) -> None:
    path = folder / weights.SAFETENSORS
    if form != "safetensors":
        to_pickle(folder, zipped=form == "pickle")
        path = folder / weights.PICKLE
    path.write_bytes(path.read_bytes()[:kept])
    if kept is None:
        assert_state(load(folder))
    else:
        with pytest.raises(CheckpointError, match=f"{path.name} is not .* truncated or corrupt"):
            load(folder)


def test_corrupt_header(folder: Path) -> None:
    path = folder / weights.SAFETENSORS
    content = bytearray(path.read_bytes())
    content[0:8] = (1 << 60).to_bytes(8, "little")  # a header longer than the file
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"model\.safetensors.*truncated or corrupt"):
        load(folder)


def test_git_lfs_pointer(folder: Path) -> None:
    (folder / weights.SAFETENSORS).write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(CheckpointError, match="git lfs pull"):
        load(folder)


class Hostile:
    """A pickle that makes a folder when it is loaded."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("opened",)


@pytest.mark.parametrize("form", ["torch", "old torch", "pickle"])
def test_pickle_with_code_is_refused_and_not_run(
    form: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    to_pickle(folder, {"weight": torch.zeros(2), "trap": Hostile()}, zipped=form == "torch")
    if form == "pickle":
        Path(weights.PICKLE).write_bytes(pickle.dumps({"trap": Hostile()}))
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin.*run code"):
        load(folder)
    assert not Path("opened").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "a list, expected a dictionary"),
        ({"epoch": 3, "model": {}}, "holds a int under 'epoch'"),
        ({"best_configure": {}}, "neural-compressor"),
        ({0: torch.zeros(2), "weight": torch.zeros(2)}, "key 0, a int, expected names"),
        ({("a", 1): torch.zeros(2)}, "a tuple, expected names"),
    ],
)
def test_pickles_that_are_not_a_state_dict(content: Any, message: str, folder: Path) -> None:
    to_pickle(folder, content)
    with pytest.raises(CheckpointError, match=message):
        load(folder)


@pytest.mark.filterwarnings("ignore:.*quantize:UserWarning")  # torch will drop them, files remain
def test_tensors_of_torch_quantisation(folder: Path) -> None:
    content = {"l.weight": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)}
    to_pickle(folder, content)
    with pytest.raises(CheckpointError, match=r"l\.weight as torch\.qint8.*dequantise"):
        load(folder)


def shard(folder: Path) -> Path:
    """Store the weights in two files with an index; return the index."""
    state = load_file(folder / weights.SAFETENSORS)
    (folder / weights.SAFETENSORS).unlink()
    weight_map = {name: f"part-{place}.safetensors" for place, name in enumerate(state)}
    for name, file in weight_map.items():
        save_file({name: state[name]}, folder / file)
    index = folder / weights.INDICES[0]
    index.write_text(json.dumps({"weight_map": weight_map}))
    return index


def test_missing_shard(folder: Path) -> None:
    shard(folder)
    assert_state(load(folder))
    (folder / "part-1.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"names the shard 'part-1.safetensors'.*missing"):
        load(folder)


def test_index_and_shards_of_different_models(folder: Path) -> None:
    index = shard(folder)
    content = json.loads(index.read_text())
    content["weight_map"]["third.weight"] = "part-0.safetensors"
    index.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=r"part-0\.safetensors lacks the tensor third"):
        load(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not readable JSON.*index of shards"),
        ("[]", "a list, expected a JSON object"),
        ("{}", "not an index of shards"),
        ('{"weight_map": {}}', "not an index of shards"),
        ('{"weight_map": {"a": 3}}', "not an index of shards"),
        ("[" * 100_000, "nested deeper than 64 levels"),
        ('{"weight_map": ' + "[" * 100 + "]" * 100 + "}", "nested deeper than 64 levels"),
        ('{"weight_map": {"a": "../secret.safetensors"}}', "without a folder"),
        ('{"weight_map": {"a": "/secret.safetensors"}}', "without a folder"),
    ],
)
def test_damaged_index(content: str, message: str, folder: Path) -> None:
    shard(folder).write_text(content)
    with pytest.raises(CheckpointError, match=message):
        load(folder)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tf_model.h5", r"tf_model\.h5.*TensorFlow.*from_tf=True"),
        ("tf_model-00001-of-00002.h5", r"TensorFlow.*transformers 4.*save_pretrained"),
        ("bert_model.ckpt.index", r"TensorFlow 1.*from_tf=True"),
        ("flax_model.msgpack", r"flax_model\.msgpack.*Flax.*transformers 4.*from_flax=True"),
        ("flax_model-00001-of-00002.msgpack", r"Flax"),
        ("quantized_weight.pt", "int8 weights of neural-compressor"),
        ("adapter_model.safetensors", "PEFT.*merge"),
        ("notes.txt", r"no weights: found config\.json, notes\.txt"),
    ],
)
def test_no_pytorch_weights(name: str, message: str, folder: Path) -> None:
    (folder / weights.SAFETENSORS).rename(folder / name)
    with pytest.raises(CheckpointError, match=message):
        load(folder)
    with pytest.raises(CheckpointError, match=message):  # what `from_pretrained` asks for first
        hub.resolve(folder).fingerprint()
