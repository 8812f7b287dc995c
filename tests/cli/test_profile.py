"""`prunus profile`: its tables, its data, its trace."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from prunus import from_pretrained
from prunus.errors import InputError
from tests.quick_limits import measure_limits_quickly

SHAPE = ("-t", "2", "-b", "2", "-s", "9", "--repeat", "3")


@pytest.fixture(autouse=True)
def quick_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits that are measured in no time, and are worth nothing."""
    measure_limits_quickly(monkeypatch)


def test_every_step_has_a_line(prunus: Any, pruned_folder: Path) -> None:
    ran = prunus("profile", pruned_folder, *SHAPE)
    assert ran.status == 0, ran.stderr
    first, second, *rest = ran.stdout.splitlines()
    assert first.startswith(f"{pruned_folder}: ") and "2 threads, batch 2, seq 9" in first
    assert first.endswith("median of 3 calls")
    assert "FMA peak" in second and "GB/s from L1" in second
    for part in ("kernels", "waiting at barriers", "outside the workers", "the call"):
        assert any(line.strip().startswith(part) for line in rest)
    for step in ("attention.self.query+key+value.weight", "bert.embeddings.add_1", "NumPy"):
        assert step in ran.stdout
    assert "SIMULATED" not in ran.stdout and "…" not in first


@pytest.mark.parametrize("by", ["step", "layer", "kernel", "op"])
def test_csv_has_the_lines_that_are_asked_for(prunus: Any, pruned_folder: Path, by: str) -> None:
    ran = prunus("profile", pruned_folder, *SHAPE, "--by", by, "--csv")
    rows = list(csv.DictReader(io.StringIO(ran.stdout)))
    name = "name" if by == "step" else by
    assert len({row[name] for row in rows}) == len(rows) > 1
    assert sum(float(row["share_of_call"]) for row in rows) < 1.5
    assert all(float(row["seconds"]) >= 0 and int(row["steps"]) >= 1 for row in rows)


@pytest.mark.parametrize(
    ("by", "line"),
    [("layer", "bert.encoder.layer.1"), ("kernel", "attention"), ("op", "layer_norm")],
)
def test_steps_are_grouped(prunus: Any, pruned_folder: Path, by: str, line: str) -> None:
    text = prunus("profile", pruned_folder, *SHAPE, "--by", by).stdout
    assert any(each.split()[:1] == [by] for each in text.splitlines())
    assert any(each.split()[:1] == [line] for each in text.splitlines())
    assert "attention.self.query+key+value.weight" not in text


def test_json_adds_up(prunus: Any, pruned_folder: Path) -> None:
    data = prunus("profile", pruned_folder, *SHAPE, "--json").json()
    assert data["calls"] == 3 and data["threads"] == 2 and data["trace"] is None
    assert data["sizes"] == {"batch": 2, "seq": 9}
    assert sum(data["parts"].values()) == pytest.approx(data["seconds"])
    steps = data["steps"]
    assert all(step["seconds"] > 0 for step in steps)
    model = from_pretrained(pruned_folder, threads=2)
    assert len(steps) == len(model.program.steps)
    for by in ("layer", "kernel", "op"):
        groups = data[f"by_{by}"]
        for amount in ("seconds", "flops", "nonzeros"):
            whole = sum(step[amount] for step in steps)
            assert sum(group[amount] for group in groups.values()) == pytest.approx(whole)


def test_a_trace_is_written(prunus: Any, pruned_folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "trace.json"
    ran = prunus("profile", pruned_folder, *SHAPE, "--trace", file)
    assert ran.status == 0, ran.stderr
    assert f"written to {file}" in ran.stdout
    events = json.loads(file.read_text())["traceEvents"]
    call = next(event for event in events if event.get("cat") == "call")
    of_caller = [e for e in events if e["ph"] == "X" and e["tid"] == call["tid"]]
    assert all(e["ts"] >= 0 and e["ts"] + e["dur"] <= call["dur"] + 1 for e in of_caller)
    assert {"work", "wait", "numpy"} <= {event.get("cat") for event in events}
    data = prunus("profile", pruned_folder, *SHAPE, "--trace", file, "--json").json()
    assert data["trace"] == str(file)


def test_a_trace_that_cannot_be_written(prunus: Any, pruned_folder: Path, tmp_path: Path) -> None:
    ran = prunus("profile", pruned_folder, *SHAPE, "--trace", tmp_path / "none" / "trace.json")
    assert ran.status == 2
    assert "cannot be written" in ran.stderr


@pytest.mark.usefixtures("tiny_stand_ins")
def test_a_simulated_model_says_so(prunus: Any) -> None:
    text = prunus("profile", "random:0.9", *SHAPE, "--by", "op").stdout
    assert "SIMULATED zeros, not a trained model: BERT with random weights" in text


@pytest.mark.parametrize("wrong", [("-b", "0"), ("--repeat", "0"), ("--by", "luck")])
def test_wrong_use(prunus: Any, pruned_folder: Path, wrong: tuple[str, str]) -> None:
    ran = prunus("profile", pruned_folder, *wrong)
    assert (ran.status, ran.stdout) == (2, "")
    assert wrong[0].strip("-") in ran.stderr


def test_a_length_beyond_the_model(prunus: Any, pruned_folder: Path) -> None:
    ran = prunus("profile", pruned_folder, "-t", "1", "-s", "50")
    assert ran.status == 2
    assert "at most 40" in ran.stderr


def test_a_profile_from_python(pruned_folder: Path) -> None:
    model = from_pretrained(pruned_folder, threads=1)
    ids = [[1, 2, 3]]
    by_name = model.profile({"input_ids": ids}, repeat=2)
    by_place = model.profile([ids], repeat=2)
    assert by_name.sizes == by_place.sizes == {"batch": 1, "seq": 3}
    assert sum(step.tally.flops for step in by_name.steps) == model.flops(input_ids=ids)
    assert by_name.limits.threads == 1 and "1 thread, batch 1, seq 3" in str(by_name)
    with pytest.raises(InputError, match="repeat=0"):
        model.profile({"input_ids": ids}, repeat=0)
