"""Ratios, the Markdown and the JSON of a report."""

import dataclasses
import json

import pytest

from prunus.bench.machine import Machine
from prunus.bench.rounds import Summary, summarize
from prunus.bench.table import Report, Row, with_ratios

MACHINE = Machine("AMD EPYC", "25", "17", 2, 2, {"L2": 1024**2}, "Linux x86_64")
SHAPE = (1, 128)


def milliseconds(*values: float) -> Summary:
    return summarize([value / 1e3 for value in values])


def row(engine: str, seconds: Summary | None = None, model: str = "bert", **fields: object) -> Row:
    plain = Row(model, engine, engine != "prunus", SHAPE, seconds, reference="torch")
    return dataclasses.replace(plain, **fields)  # type: ignore[arg-type]


ROWS = with_ratios(
    [
        row("prunus", milliseconds(12.5, 12, 13), difference=1.5e-6, flops=1.216e9),
        row("torch", milliseconds(100), difference=0.0, note="sdpa attention"),
        row("openvino", milliseconds(50), difference=2e-7, note="a|b"),
        row("torch-compile", shape=None, reference=None, reason="no C++ compiler"),
    ]
)
REPORT = Report(
    machine=MACHINE,
    peak=231.6e9,
    threads=2,
    rounds=5,
    versions={"python": "3.11.7", "torch": "2.13.0"},
    rows=ROWS,
    simulated={"bert": "0.9@16x1, seed 0"},
    density={"bert": 0.0612},
)


def test_ratios_refer_to_the_fastest_dense_engine_of_the_same_shape() -> None:
    long = with_ratios([*ROWS, row("prunus", milliseconds(90), shape=(8, 128))])
    assert [line.ratio for line in long] == [0.25, 2.0, 1.0, None, None]
    assert long[0].speedup == 4.0


def test_the_fastest_dense_engine_may_be_prunus_dense() -> None:
    rows = with_ratios([row("prunus-dense", milliseconds(40)), row("torch", milliseconds(80))])
    assert [line.ratio for line in rows] == [1.0, 2.0]


def test_markdown() -> None:
    assert REPORT.to_markdown() == MARKDOWN


MARKDOWN = """\
- Model: **bert**, 6.1 % of its linear weights are not zero, **simulated**: 0.9@16x1, seed 0
- Processor: AMD EPYC (family 25, model 17), 2 cores, 2 usable here, L2 1 MB, Linux x86_64; \
measured FMA peak 232 GFLOP/s with 2 threads
- Threads: 2 for every engine; 5 interleaved rounds
- Versions: python 3.11.7, torch 2.13.0
- Largest difference: absolute, of any output from PyTorch eager's, where attention_mask is 1

| engine        | batch × tokens | median ms | p10–p90 ms | ÷ best dense | speed-up | \
of FMA peak | largest difference | note                      |
| ------------- | -------------: | --------: | ---------: | -----------: | -------: | \
----------: | -----------------: | ------------------------- |
| prunus        |        1 × 128 |      12.5 |  12.1–12.9 |         0.25 |    4.00× | \
       42 % |            1.5e-06 |                           |
| torch         |        1 × 128 |       100 |    100–100 |         2.00 |    0.50× | \
          – |          reference | sdpa attention            |
| openvino      |        1 × 128 |      50.0 |  50.0–50.0 |         1.00 |    1.00× | \
          – |            2.0e-07 | a\\|b                      |
| torch-compile |            all |         – |          – |            – |        – | \
          – |                  – | left out: no C++ compiler |
"""


def test_the_limit_has_a_column_when_it_is_asked_for() -> None:
    report = dataclasses.replace(REPORT, limit=True)
    titles, _, first, second, *_ = table(report.to_markdown())
    assert titles[6:8] == ["limit ms", "of FMA peak"]
    assert first[6:8] == ["5.25", "42 %"]  # 1.216e9 operations at 231.6e9 a second, of 12.5 ms
    assert second[6:8] == ["–", "–"]
    rows = report.to_dict()["rows"]
    assert rows[0]["limit_milliseconds"] == pytest.approx(5.2504, abs=1e-4)
    assert rows[1]["limit_milliseconds"] is None
    assert "limit_milliseconds" not in REPORT.to_dict()["rows"][0]


def table(markdown: str) -> list[list[str]]:
    """The cells of the table's lines."""
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.split(" | ")] for line in lines]


def test_several_models_have_a_column_and_their_own_reference() -> None:
    other = row("prunus", milliseconds(5), model="blocks", difference=0.0, reference="prunus-dense")
    text = dataclasses.replace(REPORT, rows=[*ROWS, other]).to_markdown()
    assert "- Model: **bert**" in text
    assert "- Model: **blocks**" in text
    line = next(line for line in text.splitlines() if line.startswith("| blocks"))
    assert "difference from prunus-dense" in line


def test_json_is_plain() -> None:
    plain = json.loads(json.dumps(REPORT.to_dict(), allow_nan=False))
    assert plain["machine"]["family"] == "25"
    assert plain["fma_peak_gflops"] == pytest.approx(231.6)
    assert plain["models"] == [
        {"name": "bert", "simulated": "0.9@16x1, seed 0", "linear_density": 0.0612}
    ]
    first, last = plain["rows"][0], plain["rows"][-1]
    assert (first["batch"], first["sequence"], first["speedup"]) == (1, 128, 4.0)
    assert first["milliseconds"]["median"] == pytest.approx(12.5)
    assert first["milliseconds"]["calls"] == 3
    assert (last["batch"], last["milliseconds"]) == (None, None)
    assert last["left_out"] == "no C++ compiler"


def test_a_difference_that_is_no_number_is_seen() -> None:
    rows = [row("prunus", milliseconds(5), difference=float("nan"))]
    report = dataclasses.replace(REPORT, rows=rows)
    assert "| nan " in " ".join(report.to_markdown().split())
    assert (
        json.loads(json.dumps(report.to_dict(), allow_nan=False))["rows"][0]["largest_difference"]
        == "nan"
    )
