"""`prunus whatif`: its tables, its data, its plot, and what it refuses."""

from __future__ import annotations

import csv
import io
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

GRID = ("--sparsity", "0.5,0.9", "--pattern", "1x1,16x1,2:4", "--shape", "1x16", "-t", "1")


def test_tables_for_people(prunus: Any, dense_folder: Path, tmp_path: Path) -> None:
    plot = tmp_path / "gain.svg"
    ran = prunus("whatif", dense_folder, *GRID, "--build", "1", "--speedup", "1.01x",
                 "--plot", plot)  # fmt: skip
    assert ran.status == 0, ran.stderr
    for part in ("SIMULATED zeros", "not a trained model", "accuracy is not known",
                 "Batch 1, length 16", "Built and run", "Left out: 2:4 means 50 %",
                 "Least share of zeros for 1.01×", "faster than dense at 1x16"):  # fmt: skip
        assert part in ran.stdout
    assert "timing" in ran.stderr or "opening" in ran.stderr
    drawn = ElementTree.parse(plot).getroot()
    assert drawn.tag.endswith("svg")
    assert {"1x1", "16x1", "2:4"} <= {text.strip() for text in drawn.itertext()}
    again = prunus("whatif", dense_folder, *GRID, "--plot", plot)
    assert again.status == 2 and "--force" in again.stderr


def test_data_for_machines(prunus: Any, dense_folder: Path) -> None:
    data = prunus("whatif", dense_folder, *GRID, "--build", "0", "--json").json()
    assert data["simulated"] is True and len(data["grid"]) == 5
    ran = prunus("whatif", dense_folder, *GRID, "--build", "0", "--csv")
    rows = list(csv.DictReader(io.StringIO(ran.stdout)))
    assert [row["recipe"] for row in rows] == [row["recipe"] for row in data["grid"]]
    assert all(float(row["predicted_seconds"]) > 0 for row in rows)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--json", "--csv"), "give one of them"),
        (("--simulate", "0.9"), "--sparsity and --pattern instead"),
        (("--dense",), "leave it out"),
        (("--sparsity", "0.9", "--pattern", "2:4"), "the grid is empty"),
        (("--sparsity", ""), "empty part"),
        (("--target", "10"), "as in 10ms"),
        (("--speedup", "0.5"), "more than 1"),
        (("--shape", "1x4000"), "longer than"),
        (("--plot", "gain.pdf"), ".svg or .png"),
    ],
)
def test_what_is_refused(
    prunus: Any, dense_folder: Path, arguments: tuple[str, ...], said: str
) -> None:
    ran = prunus("whatif", dense_folder, *arguments)
    assert ran.status == 2
    assert said in " ".join(ran.stderr.split())
