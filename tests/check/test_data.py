"""Files of data: every form, and what is said of those that cannot be read."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from prunus.check import read_data
from prunus.errors import InputError, UnsupportedError

ROWS = [{"text": "a, “b”", "label": "1"}, {"text": "two\nlines", "label": "0"}]


def written(path: Path, content: str | bytes) -> Path:
    if isinstance(content, str):
        content = content.encode()
    path.write_bytes(content)
    return path


def lines(rows: list[Any]) -> str:
    return "".join(f"{json.dumps(row)}\n" for row in rows)


def forms(folder: Path) -> list[Path]:
    parquet = folder / "rows.parquet"
    table = import_module("pyarrow").Table.from_pylist(ROWS)
    import_module("pyarrow.parquet").write_table(table, parquet)
    return [
        parquet,
        written(folder / "rows.jsonl", lines(ROWS)),
        written(folder / "rows.ndjson", f"\ufeff{lines(ROWS)}\n\n"),
        written(folder / "rows.JSON", json.dumps(ROWS)),
        written(folder / "lines.json", lines(ROWS)),
        written(folder / "rows.csv", '\ufefftext,label\n"a, “b”",1\r\n\n"two\nlines",0\n'),
    ]


def test_all_forms_hold_the_same(tmp_path: Path) -> None:
    for path in forms(tmp_path):
        data = read_data(path)
        assert [row.values for row in data.rows] == ROWS, path
        assert data.columns == ("text", "label")
        assert [row.values for row in read_data(path, limit=1).rows] == ROWS[:1]


def test_a_limit_leaves_the_rest_unread(tmp_path: Path) -> None:
    path = written(tmp_path / "x.jsonl", lines(ROWS) + "not json")
    assert len(read_data(path, limit=2).rows) == 2
    with pytest.raises(InputError, match="line 3 is not JSON"):
        read_data(path)


def squad(answers: list[dict[str, Any]]) -> dict[str, Any]:
    question = {"id": "1", "question": "Who?", "answers": answers}
    return {"data": [{"paragraphs": [{"context": "Ada did.", "qas": [question]}]}]}


def test_both_versions_of_squad(tmp_path: Path) -> None:
    old = squad([{"text": "Ada", "answer_start": 0}])
    new = squad([])
    for document, answers in ((old, ["Ada"]), (new, [])):
        data = read_data(written(tmp_path / "squad.json", json.dumps(document)))
        assert [row.values for row in data.rows] == [
            {"question": "Who?", "context": "Ada did.", "answers": answers}
        ]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("x.txt", "", r"expected one of \.jsonl, "),
        ("x.jsonl", "", "holds no rows"),
        ("x.csv", "", "holds no rows"),
        ("x.csv", "text,label\n", "holds no rows"),
        ("x.json", "[]", "holds no rows"),
        ("x.json", '{"data": []}', "holds no rows"),
        ("x.jsonl", '{"text": "a"}\n{"text": \n', "line 2 is not JSON: .* at column"),
        ("x.jsonl", '{"text": "a"}\n[1]\n', "line 2 holds a list, expected an object"),
        ("x.jsonl", b'{"text": "\xff"}', "cannot be read"),
        ("x.json", '[{"text": "a"}, 3]', "item 2 holds a int"),
        ("x.json", "[1,\n2", "line 2 is not JSON"),
        ("x.json", '{"text": "a"}', "expected a list of objects, or SQuAD's form"),
        ("x.json", "[" * 100_000, "cannot be read"),
        ("x.json", json.dumps({"data": [{"paragraphs": [{}]}]}), "SQuAD's form .* KeyError 'qas'"),
        ("x.json", json.dumps({"data": [3]}), "SQuAD's form .* TypeError"),
        ("x.csv", "text,label\na,1\nb\n", "line 3 has 1 fields, expected 2: text, label"),
        ("x.csv", 'text,label\n"a"b,1\n', "line 2 is not CSV"),
        ("x.csv", "text,text\na,1\n", "names a column twice"),
        ("x.parquet", b"PAR1", "cannot be read"),
    ],
)
def test_files_that_cannot_be_read(
    tmp_path: Path, name: str, content: str | bytes, says: str
) -> None:
    with pytest.raises(InputError, match=says) as raised:
        read_data(written(tmp_path / name, content))
    assert name in str(raised.value)


def test_squad_says_where_it_is_wrong(tmp_path: Path) -> None:
    document = squad([{"answer_start": 0}])
    with pytest.raises(InputError, match=r"data\[0\]\.paragraphs\[0\]\.qas\[0\]: KeyError 'text'"):
        read_data(written(tmp_path / "x.json", json.dumps(document)))


@pytest.mark.parametrize("ending", ["jsonl", "json", "csv", "parquet"])
def test_a_missing_file(tmp_path: Path, ending: str) -> None:
    with pytest.raises(InputError, match=r"none\.\w+ cannot be read"):
        read_data(tmp_path / f"none.{ending}")


def test_parquet_needs_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UnsupportedError, match=r"pip install 'prunus\[check\]'"):
        read_data(written(tmp_path / "x.parquet", b""))
