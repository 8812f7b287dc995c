"""Proves that a compiled model answers as transformers does, and as well on data with labels."""

from prunus.check.data import Data, read_data
from prunus.check.parity import Comparison, ParityReport, check_parity
from prunus.check.quality import DataReport, check_data
from prunus.check.tokens import load_tokenizer
from prunus.check.verdict import CheckReport

__all__ = [
    "CheckReport",
    "Comparison",
    "Data",
    "DataReport",
    "ParityReport",
    "check_data",
    "check_parity",
    "load_tokenizer",
    "read_data",
]
