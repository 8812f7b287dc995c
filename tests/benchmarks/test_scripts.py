"""The scripts run from top to bottom with a tiny model; their arithmetic is right."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = [
    pytest.mark.wide,
    pytest.mark.skipif(
        importlib.util.find_spec("transformers") is None, reason="transformers is not installed"
    ),
]

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
QUICK = ("--rounds", "1", "--seconds", "0.001", "--threads", "1", "--size", "tiny")

Run = Callable[..., tuple[dict[str, Any], str]]


@pytest.fixture(autouse=True)
def on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python does so for a script by itself."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a script by name; gives its figures and the Markdown that it printed."""

    def script(name: str, *arguments: str) -> tuple[dict[str, Any], str]:
        path, file = BENCHMARKS / f"{name}.py", tmp_path / "figures.json"
        monkeypatch.setattr(sys, "argv", [str(path), *arguments, "--json", str(file)])
        runpy.run_path(str(path), run_name="__main__")
        printed = capsys.readouterr().out
        assert "- Processor: " in printed
        return json.loads(file.read_text()), printed

    return script


def test_cost_growth_measures_and_draws_every_panel(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    small = ("--lengths", "16", "48", "64", "--length", "16", "--step-end", "32", "--batches", "1",
             "2", "--recipes", "0", "0.8", "0.9", "--most-threads", "1")  # fmt: skip
    figures, printed = run("cost_growth", *QUICK, *small, "--plots", str(tmp_path / "plots"))
    assert list(figures["lengths"]) == ["16", "48", "64"]
    assert list(figures["step"]) == [str(length) for length in range(17, 33)]
    assert list(figures["batches"]) == ["1", "2"]
    assert len(figures["density"]) + len(figures["dense"]) == 3
    assert printed.count("## ") == 5
    assert "<svg" in (tmp_path / "plots" / "cost-growth.svg").read_text()
    assert (tmp_path / "plots" / "cost-growth.png").read_bytes().startswith(b"\x89PNG")


def test_padding_compares_equal_answers(run: Run) -> None:
    figures, _ = run("padding", *QUICK, "--recipes", "0.9", "--batches", "3", "--draws", "1")
    (row,) = figures["ragged"]
    assert row["largest_difference"] < 1e-4
    assert len(row["lengths"]) == 3
    assert figures["equal"][0]["ones_to_none"] > 0


@pytest.mark.isa("avx2")
def test_targets_times_both(run: Run) -> None:
    figures, printed = run("targets", *QUICK, "--recipes", "0", "0.9", "--length", "16")
    assert [row["zeros"] for row in figures["rows"]] == ["0", "0.9"]
    assert "llvm -mcpu=haswell ms" in printed


def test_hybrid_needs_fewer_operations(run: Run) -> None:
    figures, _ = run("hybrid", *QUICK, "--length", "16")
    operations = {row["model"]: row["operations"] for row in figures["rows"]}
    assert operations["dense"] == 1
    # What is empty is gone from the dense kernels too, and only what is empty.
    assert operations["hybrid"] < operations["hybrid, dense kernels"] < 0.7


def test_layer_choices_covers_layers_and_blocks(run: Run) -> None:
    small = ("--rounds", "1", "--hidden", "32", "--choices", "1", "--layers", "output", "up")
    figures, printed = run("layer_choices", *small, "--recipes", "0", "0.6", "0.8@4x1")
    assert [row["sparse_over_dense"] is None for row in figures["rows"]] == [True] * 2 + [False] * 4
    assert set(figures["sparse_is_faster_from"]) == {"output", "up"}
    assert "Largest loss: " in printed


def test_steady_counts_every_call_of_each(run: Run) -> None:
    pytest.importorskip("openvino")
    small = ("--rounds", "4", "--threads", "1", "--size", "tiny", "--length", "16")
    figures, _ = run("steady", *small, "--calls", "200")
    assert {name: len(taken) for name, taken in figures["seconds"].items()} == {
        "prunus": 200,
        "openvino": 200,
        "a loop": 200,
    }
    assert list(figures["memory"]) == ["100", "200"]


@pytest.mark.usefixtures("minilm_folder")
@pytest.mark.filterwarnings("ignore:.*left out what BertModel has no use for")
def test_soak_finds_no_fault(run: Run) -> None:
    short = ("--minutes", "0.1", "--callers", "2", "--cases", "4", "--threads", "1")
    figures, printed = run("soak", *short, "--batch", "2", "--length", "12")
    assert len(figures["minutes"]) == 3
    assert sum(each["calls"] for each in figures["minutes"]) > 4
    assert not any(each["errors"] for each in figures["minutes"])
    assert figures["problems"] == []
    assert "No error, no other output, no growth." in printed


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({}, ""),
        ({"memory": 180_000_000}, "memory grew from 100 to 180 MB"),
        ({"memory": 110_000_000}, ""),
        ({"handles": 9}, "handles grew from 8 to 9"),
        ({"threads": 7}, "threads grew from 6 to 7"),
        ({"calls": 0}, "no call ended"),
    ],
)
def test_soak_tells_growth(change: dict[str, int], problem: str) -> None:
    soak = importlib.import_module("soak")
    first = soak.Minute(10, 0, 100_000_000, 8, 6, 0.01, 0.02)
    found = soak.problems([first, dataclasses.replace(first, **change)], soak.Log())
    assert [text[: len(problem)] for text in found] == ([problem] if problem else [])


def test_soak_notes_another_output_and_an_exception() -> None:
    soak = importlib.import_module("soak")
    log, array = soak.Log(), np.zeros(3, np.float32)
    log.add(1, 0.1, soak.digest_of(array))
    log.add(1, 0.1, soak.digest_of({"logits": array}))
    assert log.errors == 0
    log.add(1, 0.1, soak.digest_of(-array))
    log.add(2, 0.1, "", "case 2: ValueError()")
    assert log.take() == ([0.1] * 4, 2)
    assert log.take() == ([], 0)
    assert "case 1 has another output" in log.messages[0]


def test_a_law_is_found_again() -> None:
    cost_growth = importlib.import_module("cost_growth")
    shapes = [(batch, length) for batch in (1, 4) for length in (16, 64, 256)]
    law = cost_growth.Law(per_call=1e-3, per_item=2e-5, per_square=3e-8)
    fitted = cost_growth.fit_shapes({(b, n): law.seconds(b * n, b * n**2) for b, n in shapes})
    assert fitted.per_call == pytest.approx(law.per_call)
    assert fitted.per_item == pytest.approx(law.per_item)
    assert fitted.per_square == pytest.approx(law.per_square)


@pytest.mark.parametrize(
    ("ratios", "expected"),
    [
        ([(0.4, 1.2), (0.5, 0.8), (0.6, 0.6)], "45 %"),
        ([(0.4, 0.8), (0.5, 0.7)], "below 40 %"),
        ([(0.4, 1.2)], "none measured"),
    ],
)
def test_break_even_lies_between_two_measurements(
    ratios: list[tuple[float, float]], expected: str
) -> None:
    assert importlib.import_module("layer_choices").break_even(ratios) == expected


def test_padding_hides_ids_and_draws_a_whole_mean() -> None:
    padding = importlib.import_module("padding")
    lengths = padding.draw_lengths(5, 3, 9, seed=1)
    assert lengths.sum() % 5 == 0
    assert 3 <= lengths.min() <= lengths.max() <= 9
    whole = padding.padded(
        {"input_ids": np.full((2, 3), 7), "attention_mask": np.ones((2, 3), np.int64)},
        np.array([1, 3]),
    )
    assert whole["input_ids"].tolist() == [[7, 0, 0], [7, 7, 7]]
    assert whole["attention_mask"].tolist() == [[1, 0, 0], [1, 1, 1]]


def test_a_wrong_answer_of_the_padded_batch_shows() -> None:
    padding = importlib.import_module("padding")
    lengths = np.array([2, 4])
    ids = np.arange(8, dtype=np.int64).reshape(2, 4)
    whole = padding.padded({"input_ids": ids, "attention_mask": np.ones_like(ids)}, lengths)

    def model(**inputs: Any) -> dict[str, Any]:
        wrong = 0.5 if len(inputs["input_ids"]) > 1 else 0.0
        return {"logits": inputs["input_ids"].astype(np.float32) + wrong}

    assert padding.difference(model, whole, padding.alone(whole, lengths)) == 0.5


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (164.6, "165"),
        (50.27, "50.3"),
        (8.123, "8.12"),
        (0.01234, "0.0123"),
        (-0.0309, "-0.0309"),
        (0.0, "0.00"),
    ],
)
def test_figures_have_three_digits(value: float, shown: str) -> None:
    assert importlib.import_module("harness").figure(value) == shown


def test_families_have_their_times_and_steps_beside_each_other(run: Run) -> None:
    models = ("MPNetModel", "ViTModel")
    figures, printed = run("families", *QUICK, "--models", *models)
    assert [row["model"] for row in figures["rows"]] == list(models)
    assert all(row["difference"] < 1e-4 and row["speedup"] > 0 for row in figures["rows"])
    assert all(name in printed for name in models)


def test_one_line_times_three_scripts(run: Run) -> None:
    pytest.importorskip("sentence_transformers")
    figures, printed = run("one_line", *QUICK, "--repeat", "1")
    assert [row["before"] > 0 and row["after"] > 0 for row in figures["rows"]] == [True] * 3
    assert "µs to a call" in printed


def test_prediction_sets_every_prediction_beside_its_measurement(run: Run) -> None:
    few = ("--models", "4 layers of 512", "--patterns", "16x1", "--grid", "16x1")
    figures, printed = run("prediction", "--threads", "1", "--size", "tiny", *few)
    rows = figures["rows"]
    assert len(rows) == 4 * 2
    for row in rows:
        assert row["error"] == pytest.approx(
            row["predicted_ms"] * row["slowed"] / row["measured_ms"] - 1
        )
    assert f"of {len(rows)}, largest" in printed
    assert 0 < figures["warm_seconds"] < figures["cold_seconds"]


def test_layers_alone_are_set_beside_the_layers_of_a_model(run: Run) -> None:
    few = ("--recipes", "0.9@16x1", "--shapes", "1x16")
    figures, printed = run(
        "layers_in_model", "--rounds", "2", "--threads", "1", "--size", "tiny", *few
    )
    (row,) = figures["rows"]
    assert 0 < row["layers"] < 20 and 0 < row["rest"] < 20 and 0 < row["share"] < 1
    assert {"layers", "rest"} <= row.keys() and "| 0.9@16x1" in printed


def test_questions_are_asked_in_processes_of_their_own(run: Run) -> None:
    few = ("--patterns", "16x1", "--engines", "prunus,prunus-dense")
    figures, printed = run("questions", "--rounds", "1", "--threads", "1", "--size", "tiny", *few)
    for name, each in figures["runs"].items():
        assert f"prunus {name}" in printed
        assert 0 < each["seconds"] < 200 and each["peak_bytes"] > 10**7
    cold, warm = (figures["runs"][f"whatif, {what} remembered"] for what in ("nothing", "all"))
    assert warm["seconds"] < cold["seconds"]
    assert f"{figures['page_bytes'] / 1e6:.2f} MB" in printed


def test_planning_has_every_stage_of_every_depth(run: Run) -> None:
    figures, printed = run("planning", "--rounds", "1", "--threads", "1", "--size", "tiny")
    assert [len(stages) for stages in figures["seconds"].values()] == [7] * 3
    assert "place buffers" in printed
