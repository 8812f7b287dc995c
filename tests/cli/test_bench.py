"""`prunus bench` on tiny checkpoints."""

from __future__ import annotations

import csv
import io
import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from prunus.errors import InputError

QUICK = ("--rounds", "1", "--seconds", "0", "-t", "1", "-s", "8")
OURS = ("--engine", "prunus,prunus-dense")


def test_markdown_with_a_row_for_each_engine_and_shape(prunus: Any, pruned_folder: Path) -> None:
    ran = prunus("bench", pruned_folder, *QUICK, "-b", "1,3", *OURS)
    assert ran.status == 0, ran.stderr
    rows = [line for line in ran.stdout.splitlines() if line.startswith("| prunus")]
    assert [row.split("|")[1].strip() for row in rows] == ["prunus", "prunus-dense"] * 2
    assert "1 × 8" in rows[0] and "3 × 8" in rows[2]
    assert "% of its linear weights are not zero" in ran.stdout
    assert "opening" in ran.stderr and "opening" not in ran.stdout


def test_json_has_the_same_rows(prunus: Any, pruned_folder: Path) -> None:
    shapes = ("--rounds", "1", "--seconds", "0", "-t", "1", "--shape", "2x5,1x7")
    data = prunus("bench", pruned_folder, *shapes, *OURS, "--json").json()
    assert [(row["batch"], row["sequence"]) for row in data["rows"]] == [(2, 5)] * 2 + [(1, 7)] * 2
    assert data["threads"] == 1
    assert all(row["largest_difference"] <= 1e-4 for row in data["rows"])
    assert data["models"][0]["name"] == str(pruned_folder)
    assert data["models"][0]["linear_density"] == pytest.approx(0.1, abs=0.02)
    assert data["models"][0]["simulated"] is None


def test_csv_has_a_column_for_each_value(prunus: Any, pruned_folder: Path, tmp_path: Path) -> None:
    before = tmp_path / "before.json"
    asked = ("bench", pruned_folder, *QUICK, *OURS)
    data = prunus(*asked, "--save", before, "--json").json()
    ran = prunus(*asked, "--baseline", before, "--limit", "--csv")
    rows = list(csv.DictReader(io.StringIO(ran.stdout)))
    assert [row["engine"] for row in rows] == [row["engine"] for row in data["rows"]]
    for row in rows:
        assert 0 < float(row["p10_milliseconds"]) <= float(row["median_milliseconds"])
        assert float(row["limit_milliseconds"]) > 0 and float(row["change"]) > 0
        assert int(row["calls"]) >= 1
    plain = prunus(*asked, "--csv").stdout.splitlines()[0].split(",")
    assert "change" not in plain and "limit_milliseconds" not in plain
    both = prunus(*asked, "--csv", "--json")
    assert both.status == 2 and "give one of them" in both.stderr


def test_simulated_rows_stand_beside_the_dense_ones(prunus: Any, dense_folder: Path) -> None:
    simulate = ("--simulate", "0.9", "--simulate", "0.75@4x1", "--simulate", "0.90")
    data = prunus("bench", dense_folder, *QUICK, *OURS, *simulate, "--json").json()
    first, *others = data["models"]
    assert first["simulated"] is None
    assert [each["name"] for each in others] == ["simulated 0.9", "simulated 0.75@4x1"]
    assert all("random, seed 0" in each["simulated"] for each in others)
    assert others[0]["linear_density"] == pytest.approx(0.1, abs=0.02)
    assert [row["engine"] for row in data["rows"]] == ["prunus", "prunus-dense"] + ["prunus"] * 2
    text = prunus("bench", dense_folder, *QUICK, *OURS, *simulate).stdout
    assert text.count("**simulated**") == 2


def test_a_pruned_model_is_simulated_by_force_alone(prunus: Any, pruned_folder: Path) -> None:
    asked = ("bench", pruned_folder, *QUICK, *OURS, "--simulate", "0.9@4x1")
    for _ in range(2):  # the forced run between leaves the simulated graph in the cache
        refused = prunus(*asked)
        assert refused.status == 2
        assert "--force" in refused.stderr and "% zero" in refused.stderr
        forced = prunus(*asked, "--force", "--json").json()
        assert [each["simulated"] is None for each in forced["models"]] == [True, False]


def test_a_saved_folder_is_timed_as_it_is(prunus: Any, pruned_folder: Path, tmp_path: Path) -> None:
    assert prunus("compile", pruned_folder, "-o", tmp_path, "-t", "1").status == 0
    data = prunus("bench", tmp_path, *QUICK, *OURS, "--json").json()
    assert all(row["milliseconds"]["median"] > 0 for row in data["rows"])
    refused = prunus("bench", tmp_path, *QUICK, *OURS, "--simulate", "0.5", "--force")
    assert refused.status == 2
    assert "give the checkpoint" in refused.stderr


def test_rivals_get_a_loader_for_each_model(
    prunus: Any, dense_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def run_bench(models: Any, **arguments: Any) -> None:
        asked.update(arguments, models=models)
        raise InputError("enough")

    monkeypatch.setattr("prunus.bench.run_bench", run_bench)
    engines = ("--engine", "openvino,prunus,torch")
    assert prunus("bench", dense_folder, *QUICK, *engines, "--simulate", "0.9").status == 2
    assert asked["engines"] == ("openvino", "prunus", "torch")
    assert asked["vocabulary"] == 90
    assert list(asked["models"]) == [str(dense_folder), "simulated 0.9"]
    zeros = []
    for loader in asked["module_loader"].values():
        module = pickle.loads(pickle.dumps(loader))()  # as it goes to the process of the rival
        weight = module.qa_outputs.weight
        zeros.append(int((weight == 0).sum()) / weight.numel())
    assert zeros[0] == 0
    assert zeros[1] == pytest.approx(0.9, abs=0.05)


def test_results_are_saved_and_compared(prunus: Any, pruned_folder: Path, tmp_path: Path) -> None:
    saved = tmp_path / "before.json"
    first = prunus("bench", pruned_folder, *QUICK, *OURS, "--json", "--save", saved)
    assert first.status == 0, first.stderr
    assert saved.read_text() == first.stdout
    again = prunus("bench", pruned_folder, *QUICK, *OURS, "--baseline", saved)
    assert again.status == 0, again.stderr
    assert f"- Baseline: {saved}, 2 rows in common" in again.stdout
    assert "÷ baseline" in again.stdout
    assert "Warning" not in again.stdout
    rows = [line for line in again.stdout.splitlines() if line.startswith("| prunus")]
    assert all(" by medians" in row for row in rows)


def test_the_limit_is_a_column_that_must_be_asked_for(prunus: Any, pruned_folder: Path) -> None:
    asked = ("bench", pruned_folder, *QUICK, "--engine", "prunus,prunus-dense")
    assert "limit ms" not in prunus(*asked).stdout
    assert "limit ms" in prunus(*asked, "--limit").stdout
    sparse, dense = prunus(*asked, "--limit", "--json").json()["rows"]
    assert 0 < sparse["limit_milliseconds"] < dense["limit_milliseconds"]
    reached = sparse["limit_milliseconds"] / sparse["milliseconds"]["median"]
    assert sparse["share_of_fma_peak"] == pytest.approx(reached)


def test_deepsparse_without_an_interpreter_is_left_out_with_the_reason(
    prunus: Any, pruned_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PRUNUS_DEEPSPARSE_PYTHON", raising=False)
    engines = ("--engine", "prunus,deepsparse")
    plain = prunus("bench", pruned_folder, *QUICK, *engines)
    assert "pip install 'deepsparse==1.8.*' 'numpy<2' 'onnx==1.14.*'" in plain.stdout
    named = ("--deepsparse-python", "no/such/python")
    data = prunus("bench", pruned_folder, *QUICK, *engines, *named, "--json").json()
    row = data["rows"][-1]
    assert (row["engine"], row["milliseconds"]) == ("deepsparse", None)
    assert row["left_out"].startswith("no/such/python cannot be run: No such file or directory")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--baseline", "none.json"), "none.json cannot be read"),
        (("--save", "none/report.json"), "a folder that is there"),
        (("--deepsparse-python", "python3.11"), "add deepsparse"),
    ],
)
def test_mistakes_are_told_before_anything_is_opened(
    prunus: Any, pruned_folder: Path, tmp_path: Path, options: tuple[str, str], says: str
) -> None:
    name, value = options
    place = value if name == "--deepsparse-python" else str(tmp_path / value)
    ran = prunus("bench", pruned_folder, *QUICK, *OURS, name, place)
    assert ran.status == 2
    assert says in " ".join(ran.stderr.split())
    assert "opening" not in ran.stderr


@pytest.mark.usefixtures("tiny_stand_ins")
@pytest.mark.parametrize(
    ("name", "says"),
    [("stand-in", "a stand-in for PruneBERT"), ("random:0.85@16x1", "BERT with random weights")],
)
def test_a_stand_in_says_so(prunus: Any, name: str, says: str) -> None:
    data = prunus("bench", name, *QUICK, *OURS, "--json").json()
    assert data["models"][0]["name"] == name
    assert data["models"][0]["simulated"].startswith(says)


def test_the_second_run_imports_no_torch(prunus: Any, pruned_folder: Path) -> None:
    arguments = ["bench", str(pruned_folder), *QUICK, *OURS, "--json"]
    assert prunus(*arguments).status == 0
    script = (
        "import sys; from prunus.cli.app import app\n"
        f"app({arguments!r}, standalone_mode=False)\n"
        "print(sorted({'torch', 'transformers'} & set(sys.modules)), file=sys.stderr)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr.splitlines()[-1] == "[]"
    assert len(json.loads(ran.stdout)["rows"]) == 2
