"""Rows of a dataset embedded by two processes, as this one would embed them."""

import re
from pathlib import Path

import pytest

from tests.examples.scripts import run_example

pytest.importorskip("datasets", reason="datasets is not installed")
pytest.importorskip("transformers", reason="transformers is not installed")
pytestmark = [
    pytest.mark.wide,
    pytest.mark.usefixtures("minilm_folder"),
]


def check(printed: str, rows: int) -> None:
    size, difference = (
        float(re.findall(pattern, printed, re.MULTILINE)[0])
        for pattern in (r"travels as (\d+) bytes", r"the first row differs by (\S+) from")
    )
    assert size < 10_000 and difference <= 1e-5
    # One process may take both shards where the other is late.
    assert re.search(rf"^{rows} rows were embedded by [12] processes$", printed, re.MULTILINE)


def test_texts_of_its_own() -> None:
    check(run_example("map_dataset.py"), 64)


def test_a_csv(tmp_path: Path) -> None:
    lines = ["review,stars", *(f"Plum number {n},{n % 5}" for n in range(20))]
    (tmp_path / "reviews.csv").write_text("\n".join(lines), encoding="utf-8")
    csv = ("--csv", str(tmp_path / "reviews.csv"), "--column", "review")
    check(run_example("map_dataset.py", *csv), 20)
