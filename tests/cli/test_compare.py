"""`prunus compare`: its table, its data, its plot, and what it refuses."""

from __future__ import annotations

import csv
import io
import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

QUICK = ("-t", "1", "--shape", "1x9,2x9", "--rounds", "1", "--seconds", "0")


def test_two_checkpoints_with_a_metric(
    prunus: Any, dense_folder: Path, pruned_folder: Path, tmp_path: Path
) -> None:
    plot = tmp_path / "pareto.svg"
    ran = prunus("compare", dense_folder, pruned_folder, *QUICK, "--metric", "F1=88.5,87.25",
                 "--plot", plot)  # fmt: skip
    assert ran.status == 0, ran.stderr
    for part in (str(dense_folder), str(pruned_folder), "88.5", "87.25", "F1", "Batch 2, length 9"):
        assert part in ran.stdout
    texts = {text.strip() for text in ElementTree.parse(plot).getroot().itertext()}
    assert {str(dense_folder), str(pruned_folder), "F1"} <= texts


def test_recipes_of_one_model_as_data(prunus: Any, dense_folder: Path, tmp_path: Path) -> None:
    metrics = tmp_path / "metrics.json"
    names = [str(dense_folder), "simulated 0.9", "simulated 0.5@16x1"]
    values = dict(zip(names, (3.0, 3.5, 9.0), strict=True))
    metrics.write_text(json.dumps({"perplexity": values}))
    asked = ("compare", dense_folder, *QUICK, "--simulate", "0.9", "--simulate", "0.5@16x1",
             "--metrics", metrics, "--lower-is-better")  # fmt: skip
    data = prunus(*asked, "--json").json()
    assert [model["name"] for model in data["models"]] == names
    assert [round(model["linear_zeros"], 1) for model in data["models"]] == [0.0, 0.9, 0.5]
    assert data["models"][0]["timings"][0]["pareto"] is True, "none has a better metric"
    rows = list(csv.DictReader(io.StringIO(prunus(*asked, "--csv").stdout)))
    assert [(row["model"], row["batch"]) for row in rows] == [
        (name, batch) for name in names for batch in ("1", "2")
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "at least two models"),
        (("--json", "--csv"), "give one of them"),
        (("--simulate", "0.9", "--metric", "F1=1"), "has 1 values for 2 models"),
        (("--simulate", "0.9", "--metric", "F1=1,two"), "is not a number"),
        (("--simulate", "0.9", "--metric", "1,2"), "expected a name"),
        (("--simulate", "0.9", "--metric", "F1=1,nan"), "expected a finite number"),
        (("--simulate", "0.9", "--lower-is-better"), "none is given"),
        (("--simulate", "0.9", "--metrics", "no-such-file.csv"), "cannot be read"),
        (("--simulate", "0.9", "--plot", "pareto.pdf"), ".svg or .png"),
    ],
)
def test_what_is_refused(
    prunus: Any, dense_folder: Path, arguments: tuple[str, ...], said: str
) -> None:
    ran = prunus("compare", dense_folder, *arguments)
    assert ran.status == 2
    assert said in " ".join(ran.stderr.split())


@pytest.mark.parametrize("text", ["[" * 100_000, "[]", "3", '{"F1": 3}', '{"F1": {"a": [1]}}'])
def test_metrics_of_another_form_are_refused(
    prunus: Any, dense_folder: Path, tmp_path: Path, text: str
) -> None:
    metrics = tmp_path / "metrics.json"
    metrics.write_text(text)
    ran = prunus("compare", dense_folder, "--simulate", "0.9", "--metrics", metrics)
    assert ran.status == 2
    assert "metrics" in ran.stderr or "is not a number" in ran.stderr
