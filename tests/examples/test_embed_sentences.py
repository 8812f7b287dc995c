"""The same vectors before and after the one line."""

import re
from pathlib import Path

import pytest

from tests.examples.scripts import run_example

pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
pytestmark = [
    pytest.mark.wide,
    pytest.mark.usefixtures("minilm_folder"),
]


def largest_distance(printed: str) -> float:
    return float(re.findall(r"^largest cosine distance .*: (\S+)$", printed, re.MULTILINE)[0])


def test_a_pruned_minilm() -> None:
    printed = run_example("embed_sentences.py", "--repeat", "1", "--threads", "1")
    for label in ("PyTorch", "prunus"):
        assert re.search(rf"^{label} +8 sentences, \d+ a second$", printed, re.MULTILINE), printed
    assert largest_distance(printed) <= 1e-5


def test_another_model_and_file(minilm_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("One.\nAnd another one.\n\n", encoding="utf-8")
    model, file = ("--model", str(minilm_folder)), ("--file", str(tmp_path / "lines.txt"))
    printed = run_example("embed_sentences.py", *model, *file, "--repeat", "2", "--threads", "1")
    assert "prunus   6 sentences" in printed
    assert largest_distance(printed) <= 1e-5
