"""Timing prunus beside PyTorch and OpenVINO, honestly: same run, same threads, outputs compared."""

from prunus.bench.engines import ENGINE_NAMES
from prunus.bench.rounds import Summary, interleave, summarize, turn_of
from prunus.bench.session import DEFAULT_ENGINES, run_bench
from prunus.bench.shapes import parse_counts, parse_shapes
from prunus.bench.table import Report, Row

__all__ = [
    "DEFAULT_ENGINES",
    "ENGINE_NAMES",
    "Report",
    "Row",
    "Summary",
    "interleave",
    "parse_counts",
    "parse_shapes",
    "run_bench",
    "summarize",
    "turn_of",
]
