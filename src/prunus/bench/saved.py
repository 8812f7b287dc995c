"""Reports on disk: the JSON of ``--json`` and ``--save``, read back for ``--baseline``."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prunus.bench.machine import Machine
from prunus.bench.rounds import Summary
from prunus.bench.table import Report, Row, with_ratios
from prunus.errors import InputError


def save_report(report: Report, path: Path) -> None:
    """Write the report as JSON. Raises `InputError` where that is impossible."""
    text = json.dumps(report.to_dict(), indent=2, allow_nan=False)
    try:
        path.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"the report cannot be saved as {path}: {error.strerror}") from error


def read_report(path: Path) -> Report:
    """Read a report that `save_report` or ``prunus bench --json`` wrote.

    What it says about an earlier run still is not read. Raises `InputError` for anything else.
    """
    advice = "expected the JSON of a benchmark, which prunus bench MODEL --save FILE writes"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return _report(data)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); {advice}") from error
    except KeyError as error:
        raise InputError(f"{path} has no {error}; {advice}") from error
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path} cannot be understood ({error}); {advice}") from error


def _report(data: Any) -> Report:
    models = data["models"]
    return Report(
        machine=_machine(data["machine"]),
        peak=1e9 * _number(data["fma_peak_gflops"]),
        threads=int(data["threads"]),
        rounds=int(data["rounds"]),
        versions={str(name): str(version) for name, version in data["versions"].items()},
        rows=with_ratios(_row(each) for each in data["rows"]),
        simulated={str(m["name"]): str(m["simulated"]) for m in models if m["simulated"]},
        density={
            str(m["name"]): float(m["linear_density"])
            for m in models
            if m["linear_density"] is not None
        },
    )


def _machine(data: Any) -> Machine:
    return Machine(
        name=str(data["name"]),
        family=str(data["family"]),
        model=str(data["model"]),
        cores=int(data["cores"]),
        usable=int(data["usable"]),
        caches={str(level): int(size) for level, size in data["caches"].items()},
        system=str(data["system"]),
    )


def _row(data: Any) -> Row:
    batch, sequence = data["batch"], data["sequence"]
    times, difference, flops = data["milliseconds"], data["largest_difference"], data.get("flops")
    return Row(
        model=str(data["model"]),
        engine=str(data["engine"]),
        dense=bool(data["dense"]),
        shape=None if batch is None else (int(batch), int(sequence)),
        seconds=None if times is None else _summary(times),
        difference=None if difference is None else float(difference),  # it may be "nan"
        flops=None if flops is None else _number(flops),
        reference=_text(data["reference"]),
        note=str(data["note"]),
        reason=_text(data["left_out"]),
    )


def _summary(data: Mapping[str, Any]) -> Summary:
    times = {name: _number(data[name]) / 1e3 for name in ("median", "p10", "p90", "least")}
    return Summary(times["median"], times["p10"], times["p90"], times["least"], int(data["calls"]))


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r} is no number")
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{value!r} is no time and no speed")
    return float(value)
