"""`prunus.inspection.inspect` on whole models: numbers, decisions, sizes, memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prunus.errors import CheckpointError, InputError
from prunus.inspection import Inspection, TensorReport, inspect
from prunus.sparsity import measure
from tests.inspection.checkpoints import weight, write

SMALL = {
    "vocab_size": 90,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "max_position_embeddings": 40,
}


def report(inspection: Inspection, name: str) -> TensorReport:
    return next(each for each in inspection.tensors if each.name == name)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A tiny pruned BERT in a folder, and the module."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    module = transformers.BertForQuestionAnswering(transformers.BertConfig(**SMALL)).eval()
    with torch.no_grad():
        for child in module.modules():
            if isinstance(child, torch.nn.Linear):
                child.weight *= torch.rand_like(child.weight) >= 0.9
        module.bert.encoder.layer[1].attention.self.value.weight[16:48] = 0
        module.bert.encoder.layer[1].attention.output.dense.weight[:, :16] = 0
    folder = tmp_path_factory.mktemp("bert")
    module.save_pretrained(folder)
    return folder, module


def test_zeros_are_those_of_the_compiled_model(bert: tuple[Path, Any]) -> None:
    import prunus

    folder, module = bert
    found, explained = inspect(folder), prunus.compile(module, threads=1, tune="cost").explain()
    # Compiling also takes out what has no effect, and counts it among the zeros.
    assert 0 <= explained.linear_zeros - found.linear.zero_share < 0.03
    state = module.state_dict()
    for each in found.tensors:
        assert each.zeros == int((state[each.name] == 0).sum()), each.name
        assert each.elements == state[each.name].numel()
        if each.role == "linear":
            assert each.pattern == measure(state[each.name].numpy())
    assert {t.name for t in found.tensors} == set(state)
    assert found.whole.elements == sum(p.numel() for p in state.values())
    kernels = {d.name: (d.kernel, d.reason) for d in explained.layers}
    name = "bert.encoder.layer.0.output.dense.weight"
    assert kernels[name] == (report(found, name).kernel, report(found, name).reason)


def test_roles_and_heads(bert: tuple[Path, Any]) -> None:
    found = inspect(bert[0])
    heads = {each.name: each.empty_heads for each in found.tensors if each.empty_heads is not None}
    assert len(heads) == 2 * 4
    assert heads.pop("bert.encoder.layer.1.attention.self.value.weight") == 2
    assert heads.pop("bert.encoder.layer.1.attention.output.dense.weight") == 1
    assert set(heads.values()) == {0}
    tables = [each.name for each in found.tensors if each.role == "embedding"]
    assert len(tables) == 3 and all("_embeddings." in name for name in tables)
    assert found.linear.tensors == 13
    assert report(found, tables[0]).kernel is None


def test_bytes_are_those_of_the_files(bert: tuple[Path, Any], tmp_path: Path) -> None:
    import prunus

    folder, _ = bert
    found = inspect(folder)
    header = (folder / "model.safetensors").read_bytes()
    length = int.from_bytes(header[:8], "little")
    assert found.whole.bytes == len(header) - 8 - length
    prunus.from_pretrained(folder, threads=1, tune="cost").save_pretrained(tmp_path / "saved")
    saved = inspect(tmp_path / "saved")
    written = (tmp_path / "saved" / "model.safetensors").read_bytes()
    assert saved.whole.bytes == len(written) - 8 - int.from_bytes(written[:8], "little")
    assert saved.whole.compressed_bytes == saved.whole.bytes
    # Compiling takes out the empty heads and joins query, key and value.
    assert saved.whole.bytes <= found.whole.compressed_bytes < 1.2 * saved.whole.bytes
    assert saved.linear.zero_share == pytest.approx(found.linear.zero_share, abs=0.02)
    merged = [each for each in saved.tensors if each.name.endswith("query+key+value.weight")]
    assert merged and all(each.empty_heads == 0 for each in merged)
    assert {each.role for each in saved.tensors} == {"linear", "embedding", "other"}


def test_patterns(tmp_path: Path) -> None:
    blocks = np.kron(np.asarray(weight(16, 64, 0.8) != 0, np.float32), np.ones((8, 1), np.float32))
    groups = weight(128, 64)
    groups[:, 0::4] = groups[:, 2::4] = 0
    groups[::2, [0, 1]] = groups[::2, [1, 0]]
    rows = weight(128, 64)
    rows[:40] = 0
    rows[:, :8] = 0
    found = inspect(
        write(
            tmp_path,
            {
                "dense.weight": weight(128, 64),
                "loose.weight": weight(128, 64, 0.9),
                "blocks.weight": blocks,
                "rows.weight": rows,
                "empty.weight": np.zeros((128, 64), np.float32),
            },
        )
    )
    kinds = {each.name: each.pattern.kind for each in found.tensors if each.pattern}
    assert kinds == {
        "dense.weight": "dense",
        "loose.weight": "unstructured",
        "blocks.weight": "block",
        "rows.weight": "rows-columns",
        "empty.weight": "empty",
    }
    assert report(found, "blocks.weight").kernel == "8×1 blocks"
    pattern = report(found, "rows.weight").pattern
    assert pattern is not None and (pattern.empty_rows, pattern.empty_columns) == (40, 8)
    dense = report(found, "dense.weight")
    assert (dense.kernel, dense.speedup) == ("dense", 1.0)
    assert dense.compressed_bytes == dense.bytes == 4 * 128 * 64
    loose = report(found, "loose.weight")
    nonzeros = loose.elements - loose.zeros
    assert loose.compressed_bytes == 6 * nonzeros + 4 * 129
    assert loose.speedup is not None and loose.speedup > 2
    assert f"{loose.speedup:.1f} times as fast as dense (estimated)" in loose.reason
    assert report(found, "blocks.weight").compressed_bytes < loose.compressed_bytes * 2


def test_transposed_weights(tmp_path: Path) -> None:
    """GPT-2 stores [inputs, outputs]; the heads of the joined layer are thirds of its outputs."""
    joined = weight(32, 96, 0.8)
    joined[:, [8 * third + i for third in (0, 4, 8) for i in range(8)]] = 0
    square = weight(32, 32)
    square[:, 5:9] = 0
    found = inspect(
        write(
            tmp_path,
            {
                "h.0.attn.c_attn.weight": joined,
                "h.0.attn.c_attn.bias": np.ones(96, np.float32),
                "h.0.attn.c_proj.weight": square,
                "h.0.attn.c_proj.bias": np.ones(32, np.float32),
                "h.0.mlp.c_proj.weight": weight(128, 32, 0.5),
                "h.0.mlp.c_proj.bias": np.ones(32, np.float32),
            },
            n_head=4,
        )
    )
    attention = report(found, "h.0.attn.c_attn.weight")
    assert attention.shape == (32, 96)
    assert attention.pattern == measure(joined.T)
    assert attention.empty_heads == 1
    projection = report(found, "h.0.attn.c_proj.weight").pattern
    assert projection is not None and (projection.empty_rows, projection.empty_columns) == (4, 0)


def test_rows_and_frames(bert: tuple[Path, Any]) -> None:
    found = inspect(bert[0])
    rows = found.records()
    assert len(rows) == len(found.tensors)
    assert all(row.keys() == rows[0].keys() for row in rows)
    assert len(found.to_pandas()) == len(rows)
    assert found.to_csv().count("\n") == len(rows) + 1
    data = json.loads(json.dumps(found.to_dict()))
    assert data["linear"]["zeros"] == sum(
        each.zeros for each in found.tensors if each.role == "linear"
    )
    assert data["whole"]["bytes"] == sum(each.bytes for each in found.tensors)
    assert data["tensors"][0]["name"] == rows[0]["name"]


def test_text(bert: tuple[Path, Any], tmp_path: Path) -> None:
    found = inspect(bert[0])
    text = str(found)
    assert f"{100 * found.linear.zero_share:.1f} %" in text
    for each in found.tensors:
        assert (each.name[-47:] in text) == (each.role == "linear"), each.name
    none = str(inspect(write(tmp_path, {"norm.weight": np.ones(8, np.float32)})))
    assert "no linear layer" in none and "tensor " not in none


def test_simulated_zeros_are_said(bert: tuple[Path, Any], tmp_path: Path) -> None:
    import prunus

    module = prunus.simulate(bert[1], 0.5, force=True)
    prunus.compile(module, threads=1, tune="cost").save_pretrained(tmp_path / "saved")
    found = inspect(tmp_path / "saved")
    assert found.simulated and "SIMULATED" in str(found)
    with pytest.raises(InputError, match="revision means nothing"):
        inspect(tmp_path / "saved", revision="main")


def test_the_number_of_threads_changes_nothing(bert: tuple[Path, Any]) -> None:
    said: list[str] = []
    assert inspect(bert[0], threads=1, progress=said.append) == inspect(bert[0], threads=2)
    assert 1 <= len(said) <= 10 and said[-1].startswith("measured 39 of 39 tensors")


def test_a_tensor_is_named_where_it_is_not_finite(tmp_path: Path) -> None:
    for name, value in (("dense.weight", np.nan), ("dense.bias", np.inf)):
        arrays = {"dense.weight": weight(8, 8), "dense.bias": np.ones(8, np.float32)}
        arrays[name].reshape(-1)[3] = value
        with pytest.raises(CheckpointError, match=f"{name} holds NaN or infinity"):
            inspect(write(tmp_path, arrays))


@pytest.mark.parametrize("shape", [(0, 8), (8, 0), (0,), ()])
def test_tensors_without_elements_or_dimensions(tmp_path: Path, shape: tuple[int, ...]) -> None:
    found = inspect(write(tmp_path, {"dense.weight": np.zeros(shape, np.float32)}))
    assert found.whole.elements == int(np.prod(shape))
    assert found.tensors[0].compressed_bytes == 4 * found.whole.elements


MEASURE = """
import json, resource, sys, time
from prunus.inspection import inspect
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
inspect(sys.argv[1])
before = peak()
found = inspect(sys.argv[2])
print(json.dumps({
    "more": peak() - before, "zeros": found.linear.zeros,
    "imported": [name for name in ("torch", "transformers") if name in sys.modules],
}))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss counts kilobytes on Linux")
def test_memory_and_imports(tmp_path: Path) -> None:
    """Eight tensors of 32 MB, of which no more than a few bands are ever held."""
    small = write(tmp_path / "small", {"dense.weight": weight(64, 64, 0.5)})
    array = weight(4096, 2048, 0.75)
    large = write(tmp_path / "large", {f"layer.{i}.weight": array for i in range(8)})
    ran = subprocess.run(
        [sys.executable, "-c", MEASURE, small, large], capture_output=True, text=True, check=True
    )
    answer = json.loads(ran.stdout)
    assert answer["imported"] == []
    assert answer["zeros"] == 8 * int((array == 0).sum())
    assert answer["more"] < array.nbytes
