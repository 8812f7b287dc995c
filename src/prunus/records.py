"""Results as rows: one method makes them a pandas or Polars frame, CSV, or plain data for JSON."""

from __future__ import annotations

import csv
import io
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeAlias

from prunus.errors import UnsupportedError

if TYPE_CHECKING:
    import pandas
    import polars

Cell: TypeAlias = str | int | float | bool | None
"""What a cell of a frame holds."""


class Records(ABC):
    """A result that is a list of rows."""

    @abstractmethod
    def records(self) -> list[dict[str, Cell]]:
        """The rows, each with the same columns in the same order."""

    def to_pandas(self) -> pandas.DataFrame:
        """A frame of pandas, one row for each record.

        Raises:
            UnsupportedError: pandas is not installed.
        """
        frame: pandas.DataFrame = _library("pandas").DataFrame(self.records())
        return frame

    def to_polars(self) -> polars.DataFrame:
        """A frame of Polars, one row for each record.

        Raises:
            UnsupportedError: Polars is not installed.
        """
        # A column may begin with missing cells, or with whole numbers before others.
        frame: polars.DataFrame = _library("polars").DataFrame(
            self.records(), infer_schema_length=None, strict=False
        )
        return frame

    def to_csv(self) -> str:
        """The rows as CSV (RFC 4180) under a line of titles; a missing cell is empty."""
        return rows_to_csv(self.records())


def rows_to_csv(rows: Sequence[Mapping[str, Cell]]) -> str:
    """Rows of the same columns as CSV (RFC 4180) under a line of titles; None is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else [])
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _library(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise UnsupportedError(
            f"a {name} frame needs {name} ({error}); install it with `pip install {name}`, or take "
            "`records()` or `to_csv()`, which need nothing"
        ) from error
