"""`prunus explain`, its passes and graphs."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from prunus.ir import parse_graph
from prunus.runtime.program_text import parse_program


def test_the_table(prunus: Any, pruned_folder: Path) -> None:
    ran = prunus("explain", pruned_folder, "-t", "1")
    assert ran.status == 0, ran.stderr
    assert ran.stdout.startswith(f"{pruned_folder}: ")
    assert "linear layers 9" in ran.stdout
    assert "SIMULATED" not in ran.stdout


def test_json_holds_every_layer(prunus: Any, pruned_folder: Path) -> None:
    data = prunus("explain", pruned_folder, "-t", "1", "--json").json()
    assert data["threads"] == 1
    assert all(layer["reason"] for layer in data["layers"])
    assert "passes" not in data and "graph" not in data


def test_dense_means_no_sparse_kernel(prunus: Any, pruned_folder: Path) -> None:
    data = prunus("explain", pruned_folder, "-t", "1", "--dense", "--json").json()
    assert all(layer["skipped"] == 0 for layer in data["layers"])


def test_passes_come_with_notes_and_graphs(prunus: Any, pruned_folder: Path) -> None:
    text = prunus("explain", pruned_folder, "-t", "1", "--passes").stdout
    assert text.startswith("graph as imported:\n")
    assert "pass fold_transposes\n" in text and "graph after sparsify:\n" in text
    assert "kernel and reason" in text
    data = prunus("explain", pruned_folder, "-t", "1", "--passes", "--json").json()
    records = data["passes"]
    assert all(one["after"] == two["before"] for one, two in pairwise(records))
    assert any(record["notes"] for record in records)
    assert all(record["changed"] or record["before"] == record["after"] for record in records)


def test_the_graph_parses(prunus: Any, pruned_folder: Path) -> None:
    from prunus import from_pretrained

    text = prunus("explain", pruned_folder, "-t", "1", "--graph", "--json").json()["graph"]
    model = from_pretrained(pruned_folder, threads=1)
    assert str(parse_graph(text, model.graph.constants)) == text
    assert text in prunus("explain", pruned_folder, "-t", "1", "--graph").stdout


def test_a_saved_folder_has_no_passes(prunus: Any, pruned_folder: Path, tmp_path: Path) -> None:
    assert prunus("compile", pruned_folder, "-o", tmp_path, "-t", "1").status == 0
    assert prunus("explain", tmp_path, "-t", "1").status == 0
    ran = prunus("explain", tmp_path, "-t", "1", "--passes")
    assert ran.status == 2
    assert "give the checkpoint" in ran.stderr


@pytest.mark.usefixtures("tiny_stand_ins")
@pytest.mark.parametrize("extra", [(), ("--passes",)])
def test_a_stand_in_says_so(prunus: Any, extra: tuple[str, ...]) -> None:
    text = prunus("explain", "stand-in", "-t", "1", *extra).stdout
    assert "SIMULATED zeros, not a trained model: a stand-in for PruneBERT" in text


@pytest.mark.usefixtures("tiny_stand_ins")
def test_a_stand_in_can_be_simulated_on(prunus: Any) -> None:
    data = prunus("explain", "random:0", "-t", "1", "--simulate", "0.5@2:4", "--json").json()
    assert data["simulated"].startswith("BERT with random weights")
    assert "and then 0.5@2:4 of all" in data["simulated"]


def test_the_program_reads_back(prunus: Any, pruned_folder: Path) -> None:
    text = prunus("explain", pruned_folder, "-t", "1", "--program", "--json").json()["program"]
    assert str(parse_program(text)) == text
    assert text in prunus("explain", pruned_folder, "-t", "1", "--program").stdout
