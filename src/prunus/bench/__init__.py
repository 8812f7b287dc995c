"""Timing prunus beside other engines, honestly: same run, same threads, outputs compared."""

from prunus.bench.baseline import compare
from prunus.bench.engines import ENGINE_NAMES, check_engines
from prunus.bench.rounds import LONG_CALL, Summary, calls_within, interleave, summarize, turn_of
from prunus.bench.saved import read_report, save_report
from prunus.bench.session import DEFAULT_ENGINES, run_bench
from prunus.bench.shapes import parse_counts, parse_shapes
from prunus.bench.table import Report, Row

__all__ = [
    "DEFAULT_ENGINES",
    "ENGINE_NAMES",
    "LONG_CALL",
    "Report",
    "Row",
    "Summary",
    "calls_within",
    "check_engines",
    "compare",
    "interleave",
    "parse_counts",
    "parse_shapes",
    "read_report",
    "run_bench",
    "save_report",
    "summarize",
    "turn_of",
]
