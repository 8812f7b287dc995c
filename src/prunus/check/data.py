"""Files of labelled data → rows with names: JSON lines, JSON, CSV, Parquet, and SQuAD's JSON."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from prunus.check.libraries import library
from prunus.errors import InputError


@dataclass(frozen=True, slots=True)
class Row:
    """One example as it lies in the file.

    Attributes:
        place: Where, for messages: "line 3", "row 3".
        values: By column.
    """

    place: str
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Data:
    """The rows of a file; at least one, and the columns are those of the first."""

    path: Path
    rows: Sequence[Row]

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns."""
        return tuple(self.rows[0].values)

    def values(self, column: str) -> Iterator[tuple[Row, Any]]:
        """Every row with its value of a column. Raises `InputError` for a row without one."""
        for row in self.rows:
            value = row.values.get(column)
            if value is None:
                raise self.wrong(row, f"has no {column!r}")
            yield row, value

    def wrong(self, row: Row, what: str) -> InputError:
        """An error that says where it is."""
        return InputError(f"{self.path}, {row.place} {what}")


def read_data(path: Path, limit: int | None = None) -> Data:
    """The rows of a file, at most `limit` of them; what the file holds is told by its ending.

    Raises:
        InputError: a file of another kind, one that cannot be read or has no rows, or a row that
            cannot be read.
        UnsupportedError: a Parquet file, and pyarrow is not installed.
    """
    read = READERS.get(path.suffix.lower())
    if read is None:
        raise InputError(
            f"{path}: the kind of data is told by the file's ending, expected one of "
            f"{', '.join(READERS)}"
        )
    try:
        with closing(read(path)) as rows:
            data = Data(path, tuple(islice(rows, limit)))
    except (OSError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    if not data.rows:
        raise InputError(f"{path} holds no rows, so there is nothing to check")
    return data


Rows = Generator[Row, None, None]


def _from_lines(path: Path) -> Rows:
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield _object(path, f"line {number}", _parsed(path, f"line {number}", line))


def _from_json(path: Path) -> Rows:
    """A list of objects, SQuAD's own form, or JSON lines under this ending."""
    text = path.read_text(encoding="utf-8-sig")
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        if error.msg != "Extra data":
            raise InputError(f"{path}, line {error.lineno} is not JSON: {error.msg}") from error
        yield from _from_lines(path)
        return
    if isinstance(document, list):
        for number, item in enumerate(document, start=1):
            yield _object(path, f"item {number}", item)
    elif isinstance(document, dict) and "data" in document:
        yield from _from_squad(path, document)
    else:
        raise InputError(
            f"{path} holds a {type(document).__name__}, expected a list of objects, or SQuAD's "
            'form: {"data": [{"paragraphs": …}]}'
        )


def _from_squad(path: Path, document: Mapping[str, Any]) -> Rows:
    """Version 1 and 2: a question that has no answer in its context has an empty list of them."""
    place = "data"
    try:
        for i, article in enumerate(document["data"]):
            for j, paragraph in enumerate(article["paragraphs"]):
                for k, question in enumerate(paragraph["qas"]):
                    place = f"data[{i}].paragraphs[{j}].qas[{k}]"
                    yield Row(
                        place,
                        {
                            "question": question["question"],
                            "context": paragraph["context"],
                            "answers": [answer["text"] for answer in question["answers"]],
                        },
                    )
    except (KeyError, TypeError) as error:
        raise InputError(
            f"{path} is not in SQuAD's form at or after {place}: {type(error).__name__} {error}"
        ) from error


def _from_csv(path: Path) -> Rows:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        try:
            header = next(reader, [])
            if len(set(header)) != len(header):
                raise InputError(f"{path} names a column twice: {', '.join(header)}")
            for fields in filter(None, reader):  # csv reads a blank line as no fields
                place = f"line {reader.line_num}"
                if len(fields) != len(header):
                    raise InputError(
                        f"{path}, {place} has {len(fields)} fields, expected {len(header)}: "
                        f"{', '.join(header)}"
                    )
                yield Row(place, dict(zip(header, fields, strict=True)))
        except csv.Error as error:
            raise InputError(f"{path}, line {reader.line_num} is not CSV: {error}") from error


def _from_parquet(path: Path) -> Rows:
    arrow = library("pyarrow", "reads Parquet")
    parquet = library("pyarrow.parquet", "reads Parquet")
    try:
        with parquet.ParquetFile(path) as file:
            number = 0
            for batch in file.iter_batches():
                for values in batch.to_pylist():
                    number += 1
                    yield Row(f"row {number}", values)
    except arrow.ArrowException as error:
        raise InputError(f"{path} cannot be read: {error}") from error


def _parsed(path: Path, place: str, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path}, {place} is not JSON: {error.msg} at column {error.colno}"
        ) from error


def _object(path: Path, place: str, value: Any) -> Row:
    if not isinstance(value, dict):
        raise InputError(
            f"{path}, {place} holds a {type(value).__name__}, expected an object such as "
            '{"text": "…", "label": 1}'
        )
    return Row(place, value)


READERS: Mapping[str, Callable[[Path], Rows]] = {
    ".jsonl": _from_lines,
    ".ndjson": _from_lines,
    ".json": _from_json,
    ".csv": _from_csv,
    ".parquet": _from_parquet,
}
