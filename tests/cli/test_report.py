"""`prunus report`: the page, its figures and its numbers, and what it refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.quick_limits import measure_limits_quickly

QUICK = ("-t", "1", "-b", "2", "-s", "9", "--rounds", "1", "--seconds", "0",
         "--engine", "prunus,prunus-dense,torch")  # fmt: skip


@pytest.fixture(autouse=True)
def quick_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits that are measured in no time, and are worth nothing."""
    measure_limits_quickly(monkeypatch)


@pytest.mark.wide
def test_the_page_says_what_was_measured(prunus: Any, pruned_folder: Path, tmp_path: Path) -> None:
    page, plots = tmp_path / "report.html", tmp_path / "plots"
    ran = prunus("report", pruned_folder, *QUICK, "-o", page, "--plots", plots, "--json")
    data = ran.json()
    text = page.read_text()
    rows = {row["engine"]: row for row in data["bench"]["rows"]}
    assert set(rows) == {"prunus", "prunus-dense", "torch"}
    zeros = data["explanation"]["linear_zeros"]
    assert f"{100 * zeros:.1f} %" in text
    for layer in data["explanation"]["layers"]:
        assert layer["name"] in text
    assert "prunus bench" in text and "PyTorch" in text
    # Nothing is fetched: no script, and no source or link that leaves the page.
    assert "<script" not in text
    assert not re.findall(r'(?:src|href)="(?!data:|#)[^"]*"', text)
    assert "@import" not in text and not re.findall(r"url\((?!#|['\"]?data:)", text)
    suffixes = {path.suffix for path in plots.iterdir()}
    assert suffixes == {".svg", ".png"}
    again = prunus("report", pruned_folder, *QUICK, "-o", page)
    assert again.status == 2 and "--force" in again.stderr


def test_rows_for_machines(prunus: Any, pruned_folder: Path) -> None:
    ran = prunus("report", pruned_folder, *QUICK, "--csv")
    assert ran.status == 0, ran.stderr
    title, *lines = ran.stdout.splitlines()
    assert title.startswith("layer,rows,columns,zeros,pattern,kernel,reason,sparse_ms,dense_ms")
    explained = json.loads(prunus("explain", pruned_folder, "--json").stdout)
    assert [line.partition(",")[0] for line in lines] == [
        layer["name"] for layer in explained["layers"]
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "nothing is asked for"),
        (("--json", "--csv"), "give one of them"),
        (("-o", "no-such-folder/report.html"), "there is no folder"),
        (("--json", "--dense"), "compiled densely"),
        (("--json", "--engine", "torch"), "name it too"),
    ],
)
def test_what_is_refused(
    prunus: Any, pruned_folder: Path, arguments: tuple[str, ...], said: str
) -> None:
    ran = prunus("report", pruned_folder, *arguments)
    assert ran.status == 2
    assert said in " ".join(ran.stderr.split())
