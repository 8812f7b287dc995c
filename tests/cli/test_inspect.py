"""`prunus inspect`: its lines, its data, that torch is not needed, and what it refuses."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file


def test_lines_for_people(prunus: Any, pruned_folder: Path) -> None:
    ran = prunus("inspect", pruned_folder)
    assert ran.status == 0, ran.stderr
    for part in ("bert.encoder.layer.0.attention.self.query", "linear", "row stream"):
        assert part in ran.stdout
    assert "word_embeddings.weight" not in ran.stdout
    assert "word_embeddings.weight" in prunus("inspect", pruned_folder, "--all").stdout


def test_zeros_are_those_in_the_files(prunus: Any, pruned_folder: Path) -> None:
    data = prunus("inspect", pruned_folder, "--json").json()
    every = load_file(pruned_folder / "model.safetensors")
    linear = [w for n, w in every.items() if w.ndim == 2 and "embeddings" not in n]
    zeros, elements = sum(int((w == 0).sum()) for w in linear), sum(w.size for w in linear)
    assert data["linear"]["zeros"] == zeros and data["linear"]["elements"] == elements
    assert data["linear"]["zero_share"] == zeros / elements
    # Compiling also takes out what has no effect, and counts it among the zeros.
    explained = prunus("explain", pruned_folder, "--json").json()
    assert zeros / elements <= explained["linear_zeros"] < zeros / elements + 0.02
    rows = list(csv.DictReader(io.StringIO(prunus("inspect", pruned_folder, "--csv").stdout)))
    weights = load_file(pruned_folder / "model.safetensors")
    assert {row["name"] for row in rows} == set(weights)
    for row in rows:
        assert int(row["zeros"]) == int(np.count_nonzero(weights[row["name"]] == 0))
    size = (pruned_folder / "model.safetensors").stat().st_size
    assert sum(int(row["bytes"]) for row in rows) == pytest.approx(size, rel=0.2)


def test_torch_is_not_imported(pruned_folder: Path) -> None:
    code = (
        "import sys, prunus; prunus.inspect(sys.argv[1]);"
        "print('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, str(pruned_folder)], capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "False"


def test_half_precision_and_shards_have_the_same_zeros(
    prunus: Any, pruned_folder: Path, tmp_path: Path
) -> None:
    weights = load_file(pruned_folder / "model.safetensors")
    folder = tmp_path / "shards"
    folder.mkdir()
    shutil.copy(pruned_folder / "config.json", folder)
    names = sorted(weights)
    where = {name: f"model-{1 + i % 2}.safetensors" for i, name in enumerate(names)}
    for shard in set(where.values()):
        part = {n: weights[n].astype(np.float16) for n in names if where[n] == shard}
        save_file(part, folder / shard)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": where}))
    whole = prunus("inspect", pruned_folder, "--json").json()
    halves = prunus("inspect", folder, "--json").json()
    assert halves["linear"]["zero_share"] == pytest.approx(whole["linear"]["zero_share"], abs=1e-3)
    (folder / "model-2.safetensors").unlink()
    ran = prunus("inspect", folder)
    assert ran.status == 2 and "missing" in ran.stderr


def test_a_folder_saved_by_prunus(prunus: Any, pruned_folder: Path, tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    assert prunus("compile", pruned_folder, "-o", saved).status == 0
    data = prunus("inspect", saved, "--json").json()
    files = prunus("inspect", pruned_folder, "--json").json()
    assert data["linear"]["zero_share"] == pytest.approx(files["linear"]["zero_share"], abs=0.01)
    assert data["linear"]["bytes"] < files["linear"]["bytes"], "sparse weights are compressed"


@pytest.mark.parametrize("damage", ["cut", "nan", "empty"])
def test_damaged_files_are_said(
    prunus: Any, pruned_folder: Path, tmp_path: Path, damage: str
) -> None:
    folder = tmp_path / damage
    shutil.copytree(pruned_folder, folder)
    file = folder / "model.safetensors"
    if damage == "nan":
        weights = load_file(file)
        name = next(name for name in weights if name.endswith("query.weight"))
        weights[name][3, 3] = np.nan
        save_file(weights, file)
    else:
        file.write_bytes(file.read_bytes()[: 0 if damage == "empty" else -100])
    ran = prunus("inspect", folder)
    assert ran.status == 2
    assert ("NaN" if damage == "nan" else "truncated or corrupt") in " ".join(ran.stderr.split())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("stand-in",), "lies in no file"),
        (("./no-such-model",), "There is no folder"),
        ((".", "--json", "--csv"), "give one of them"),
        ((".", "--json", "--all"), "leave it out"),
    ],
)
def test_what_is_refused(prunus: Any, arguments: tuple[str, ...], said: str) -> None:
    ran = prunus("inspect", *arguments)
    assert ran.status == 2
    assert said in " ".join(ran.stderr.split())
