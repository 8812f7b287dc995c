"""Reports saved, read back, and compared: what changed, and what is noise."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunus.bench.baseline import Quotient, compare
from prunus.bench.machine import Machine
from prunus.bench.rounds import Summary
from prunus.bench.saved import read_report, save_report
from prunus.bench.table import Report, Row, with_ratios
from prunus.errors import InputError

MACHINE = Machine("AMD EPYC", "25", "17", 2, 2, {"L2": 1024**2}, "Linux x86_64")
SHAPE = (1, 128)


def row(
    engine: str, milliseconds: float, spread: float = 0.01, *, model: str = "bert", batch: int = 1
) -> Row:
    """A row whose 10th and 90th percentile lie so far from its median."""
    median = milliseconds / 1e3
    low, high = median * (1 - spread), median * (1 + spread)
    seconds = Summary(median, low, high, low, 15)
    dense = engine not in ("prunus", "deepsparse")
    return Row(model, engine, dense, (batch, 128), seconds, reference="torch", flops=1e9)


def report(*rows: Row, **fields: Any) -> Report:
    plain = Report(
        machine=MACHINE,
        peak=231.6e9,
        threads=2,
        rounds=5,
        versions={"python": "3.11.7", "openvino": "2026.4.1"},
        rows=with_ratios(rows),
        simulated={"bert": "0.9, seed 0"},
        density={"bert": 0.1},
    )
    return dataclasses.replace(plain, **fields)


def changes(now: Report, then: Report) -> dict[str, Any]:
    """What became of each engine's row."""
    compared = compare(now, then, "before.json")
    return {each.engine: each.change for each in compared.rows}


def test_ratios_to_a_dense_rival_are_compared_where_both_runs_have_it() -> None:
    then = report(row("prunus", 10), row("openvino", 50), row("torch", 100))
    # Everything takes twice as long now, and prunus three times.
    now = report(row("prunus", 30), row("openvino", 100), row("torch", 200))
    found = changes(now, then)
    assert found["prunus"].quotient.value == pytest.approx(1.5)
    assert found["prunus"].rival == "openvino"
    assert not found["prunus"].within_noise
    # The rival itself is compared by another one.
    assert (found["openvino"].quotient.value, found["openvino"].rival) == (1, "torch")
    assert found["openvino"].within_noise


def test_without_a_common_rival_medians_are_compared() -> None:
    then = report(row("prunus", 10), row("prunus-dense", 40), row("openvino", 50))
    now = report(row("prunus", 20), row("prunus-dense", 40), row("torch", 200))
    found = changes(now, then)
    # prunus-dense is no rival: what changes in prunus may change it too.
    assert (found["prunus"].quotient.value, found["prunus"].rival) == (2, None)
    assert str(found["prunus"]) == "2.00 by medians"
    assert found["torch"] is None


def test_a_rival_counts_only_at_the_same_shape_and_for_the_same_model() -> None:
    then = report(row("prunus", 10), row("openvino", 50, batch=8), row("torch", 9, model="other"))
    now = report(row("prunus", 5), row("openvino", 50, batch=8), row("torch", 9, model="other"))
    assert changes(now, then)["prunus"].rival is None


def test_rows_that_one_run_lacks_are_not_compared() -> None:
    absent = Row("bert", "openvino", True, None, reason="not installed")
    untimed = Row("bert", "torch", True, SHAPE, reason="failed")
    then = report(row("prunus", 10, batch=8), untimed, absent)
    compared = compare(report(row("prunus", 10), row("torch", 9), absent), then, "before.json")
    assert [each.change for each in compared.rows] == [None] * 3
    assert "before.json, 0 rows in common" in compared.to_markdown()


@pytest.mark.parametrize(("milliseconds", "noise"), [(10.3, True), (9.7, True), (12, False)])
def test_what_the_spread_allows_is_noise(milliseconds: float, noise: bool) -> None:
    then = report(row("prunus", 10, 0.02))
    change = changes(report(row("prunus", milliseconds, 0.02)), then)["prunus"]
    assert change.within_noise == noise
    assert ("within noise" in str(change)) == noise


def test_the_noise_of_the_rival_counts() -> None:
    then, now = row("prunus", 10), row("prunus", 12)
    steady = changes(report(now, row("torch", 50)), report(then, row("torch", 50)))
    shaky = changes(report(now, row("torch", 50, 0.2)), report(then, row("torch", 50)))
    assert (steady["prunus"].within_noise, shaky["prunus"].within_noise) == (False, True)


times = st.lists(st.floats(1e-3, 1e3), min_size=3, max_size=3).map(sorted)


@given(times, times, st.floats(0, 1), st.floats(0, 1))
def test_the_bounds_hold_every_quotient_of_times_within_the_spread(
    a: list[float], b: list[float], x: float, y: float
) -> None:
    quotient = Quotient(a[1], a[0], a[2]) / Quotient(b[1], b[0], b[2])
    one = a[0] + x * (a[2] - a[0])
    other = b[0] + y * (b[2] - b[0])
    rounding = 1e-9
    assert quotient.least * (1 - rounding) <= one / other <= quotient.largest * (1 + rounding)
    assert quotient.least <= quotient.value <= quotient.largest


def test_the_table_and_the_json_say_how_it_was_compared() -> None:
    then = report(row("prunus", 10), row("openvino", 50))
    compared = compare(report(row("prunus", 10.1), row("openvino", 50)), then, "before.json")
    text = compared.to_markdown()
    assert "- Baseline: before.json, 2 rows in common; below 1 is faster now" in text
    assert "Warning" not in text
    assert "| ÷ baseline" in " ".join(text.split())
    assert "| 1.01 by openvino, within noise |" in " ".join(text.split())
    plain = json.loads(json.dumps(compared.to_dict(), allow_nan=False))
    assert plain["baseline"] == {"name": "before.json", "compared": 2, "differs": []}
    assert plain["rows"][0]["change"]["value"] == pytest.approx(1.01)
    assert plain["rows"][0]["change"]["compared"] == "openvino"
    assert plain["rows"][0]["change"]["within_noise"] is True
    assert "change" not in then.to_dict()["rows"][0]


def test_what_else_differs_is_warned_of() -> None:
    now = report(row("prunus", 10))
    then = dataclasses.replace(
        now,
        machine=dataclasses.replace(MACHINE, name="Intel Xeon"),
        threads=4,
        versions={"python": "3.12.1", "openvino": "2026.4.1", "torch": "2.6"},
        density={"bert": 0.05},
    )
    (warning,) = (
        line for line in compare(now, then, "x").to_markdown().splitlines() if "Warning" in line
    )
    assert "the machine was Intel Xeon" in warning
    assert "threads were 4 (now 2)" in warning
    assert "python was 3.12.1 (now 3.11.7)" in warning
    assert "bert was 5.0 % nonzero, 0.9, seed 0 (now 10.0 % nonzero, 0.9, seed 0)" in warning
    assert "torch" not in warning and "openvino" not in warning


def test_a_report_survives_being_saved(tmp_path: Path) -> None:
    rows = (
        dataclasses.replace(row("prunus", 10), difference=float("nan"), note="a note"),
        row("torch", 50),
        Row("bert", "openvino", True, None, reason="not installed"),
    )
    saved = report(*rows)
    save_report(saved, tmp_path / "report.json")
    read = read_report(tmp_path / "report.json")
    assert read.to_markdown() == saved.to_markdown()
    assert read.machine == saved.machine
    assert changes(saved, read)["prunus"].rival == "torch"


def test_a_report_that_was_compared_can_be_a_baseline(tmp_path: Path) -> None:
    first = report(row("prunus", 10))
    save_report(compare(first, first, "itself"), tmp_path / "report.json")
    assert read_report(tmp_path / "report.json").baseline is None


def _without(name: str) -> Callable[[dict[str, Any]], object]:
    return lambda data: data.pop(name)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (_without("rows"), "has no 'rows'"),
        (_without("machine"), "has no 'machine'"),
        (lambda data: data["rows"][0].pop("milliseconds"), "has no 'milliseconds'"),
        (lambda data: data["rows"][0]["milliseconds"].update(median="1"), "'1' is no number"),
        (lambda data: data["rows"][0]["milliseconds"].update(p10=-1), "-1 is no time"),
        (lambda data: data.update(rows=7), "cannot be understood"),
        (lambda data: data.update(threads="two"), "cannot be understood"),
    ],
)
def test_what_is_no_report_is_refused(
    tmp_path: Path, spoil: Callable[[dict[str, Any]], object], says: str
) -> None:
    data = report(row("prunus", 10)).to_dict()
    spoil(data)
    path = tmp_path / "report.json"
    path.write_text(json.dumps(data))
    with pytest.raises(InputError, match=says) as raised:
        read_report(path)
    assert "prunus bench MODEL --save FILE" in str(raised.value)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"7", b"\xff\xfe", b"[" * 100_000])
def test_any_other_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match="cannot be understood"):
        read_report(path)


def test_a_file_that_cannot_be_read_or_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_report(tmp_path / "none.json")
    with pytest.raises(InputError, match="cannot be read"):
        read_report(tmp_path)
    with pytest.raises(InputError, match="cannot be saved"):
        save_report(report(), tmp_path / "none" / "report.json")
