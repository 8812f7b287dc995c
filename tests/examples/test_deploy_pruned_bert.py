"""The script and the notebook run from top to bottom, in small, each in a process of its own."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from prunus.frontend.stand_in import random_bert

pytestmark = [
    pytest.mark.wide,
    pytest.mark.skipif(
        importlib.util.find_spec("transformers") is None, reason="transformers is not installed"
    ),
]

EXAMPLES = Path(__file__).parents[2] / "examples"
# One thread: two of PyTorch spin for each other, which takes ages where the tests beside use both.
SMALL = ("--seq-len", "32", "--repeat", "2", "--number", "1", "--threads", "1")

# Runs cells in one namespace, as a notebook does; `cell 7` in a traceback is the seventh code cell.
RUN_CELLS = """
import json, sys
namespace = {"__name__": "__main__"}
for number, source in enumerate(json.load(sys.stdin), 1):
    exec(compile(source, f"cell {number}", "exec"), namespace)
"""


def run(*command: str, status: int = 0, stdin: str | None = None) -> str:
    """Run Python and return what it printed, in any stream."""
    ran = subprocess.run(
        [sys.executable, *command],
        input=stdin,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        timeout=300,
        check=False,
    )
    assert ran.returncode == status, ran.stdout
    return ran.stdout


def script(*arguments: str, status: int = 0) -> str:
    return run(str(EXAMPLES / "deploy_pruned_bert.py"), *arguments, *SMALL, status=status)


def differences(printed: str) -> list[float]:
    """Every difference between two answers that the text names."""
    return [float(number) for number in re.findall(r"\d+e[+-]\d+", printed)]


def test_the_script_takes_every_step() -> None:
    printed = script("--size", "tiny")
    headings = re.findall(r"^(\d)\. ", printed, re.MULTILINE)
    assert headings == list("12345678")
    assert "a STAND-IN for PruneBERT" in printed
    assert re.search(r"measured: 9\d % of its linear weights are zero", printed)
    for label in ("PyTorch, eager", "prunus, dense kernels", "prunus, skipping zeros"):
        assert re.search(rf"^  {label} +9\d % .* ms .*×", printed, re.MULTILINE), label
    for label in ("SIMULATED, 1×1 blocks", "SIMULATED, 16×1 blocks"):
        assert re.search(rf"^  {label} +8\d % .* ms .*×", printed, re.MULTILINE), label
    assert "torch and transformers in it: not imported" in printed
    assert len(differences(printed)) == 10 and max(differences(printed)) <= 1e-4


def test_the_script_takes_a_checkpoint(tmp_path: Path) -> None:
    random_bert(sparsity=0, size="tiny").save_pretrained(tmp_path)
    printed = script("--name", str(tmp_path), "--no-measure-sparse", "--batch-size", "2")
    assert f"{tmp_path}, a BertForQuestionAnswering" in printed and "STAND-IN" not in printed
    assert "measured: 0 % of its linear weights are zero" in printed
    assert "\n4. " not in printed
    assert len(differences(printed)) == 1 and max(differences(printed)) <= 1e-4


def test_the_script_says_what_is_wrong(tmp_path: Path) -> None:
    printed = script("--name", str(tmp_path / "nothing"), status=1)
    assert "error: There is no folder" in printed and "Traceback" not in printed


def notebook() -> Any:
    return json.loads((EXAMPLES / "deploy_pruned_bert.ipynb").read_text(encoding="utf-8"))


def test_the_notebook_runs_from_top_to_bottom() -> None:
    small = 'size, seq_len, repeat, number, threads = "tiny", 32, 2, 1, 1'
    cells = []
    for cell in notebook()["cells"]:
        if cell["cell_type"] == "code":
            cells.append("".join(cell["source"]))
            if "parameters" in cell["metadata"].get("tags", ()):
                cells.append(small)  # behind the defaults, where papermill would put it
    assert small in cells
    printed = run("-c", RUN_CELLS, stdin=json.dumps(cells))
    assert "a STAND-IN for PruneBERT" in printed
    assert re.search(r"^prunus, skipping zeros +9\d % .*×", printed, re.MULTILINE)
    assert re.search(r"^SIMULATED, 16×1 blocks +8\d % .*×", printed, re.MULTILINE)
    assert "SIMULATED: 0.85@16x1" in printed
    assert "torch and transformers in it: not imported" in printed
    assert len(differences(printed)) == 5 and max(differences(printed)) <= 1e-4


def test_the_notebook_is_stored_without_outputs() -> None:
    book = notebook()
    assert (book["nbformat"], book["nbformat_minor"]) == (4, 5)
    identifiers = [cell["id"] for cell in book["cells"]]
    assert len(set(identifiers)) == len(identifiers)
    for cell in book["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None
