"""How results, progress and sizes are written."""

from __future__ import annotations

import io
import json
import math
import warnings
from pathlib import Path

import pytest

from prunus.cli.output import (
    may_replace,
    print_json,
    progress,
    readable_warnings,
    size,
    table,
)


def test_json_has_no_numbers_that_json_lacks(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"nan": math.nan, "list": (1, -math.inf), 8: {"x": None}})
    assert json.loads(capsys.readouterr().out) == {
        "nan": "nan",
        "list": [1, "-inf"],
        "8": {"x": None},
    }


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (131_240_000, "131.2 MB"),
        (5e12, "5000.0 GB"),
    ],
)
def test_sizes(count: int, text: str) -> None:
    assert size(count) == text


def test_tables_are_aligned() -> None:
    assert table({"a": "1", "long": "2"}) == "a     1\nlong  2"
    assert table({}) == ""


def test_progress_is_a_line_each_where_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    with progress() as say:
        say("opening")
        say("timing")
    captured = capsys.readouterr()
    assert captured.err == "… opening\n… timing\n"
    assert captured.out == ""


def test_progress_on_a_terminal_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with progress() as say:
        say("opening [a model]")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.endswith("\x1b[2K")  # the line is erased
    assert "opening [a model]" in captured.err


def test_warnings_for_developers_are_shown_as_ever(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    as_ever: list[object] = []
    monkeypatch.setattr(warnings, "showwarning", lambda *shown: as_ever.append(shown[1]))
    with readable_warnings():
        for line in (1, 2):
            warnings.showwarning("the pooler is left out", UserWarning, "file.py", line)
        warnings.showwarning("will be removed", FutureWarning, "file.py", 2)
    assert capsys.readouterr().err == "prunus: warning: the pooler is left out\n"
    assert as_ever == [FutureWarning]


class Terminal(io.StringIO):
    """Where a person types."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("typed", "answer"), [("y\n", True), ("n\n", False), ("\n", False)])
@pytest.mark.parametrize("is_folder", [False, True])
def test_a_person_is_asked_before_anything_is_replaced(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    typed: str,
    answer: bool,
    is_folder: bool,
) -> None:
    path = tmp_path / "plots"
    file = path / "a.svg" if is_folder else path
    file.parent.mkdir(exist_ok=True)
    file.write_text("")
    monkeypatch.setattr("sys.stdin", Terminal(typed))
    assert may_replace(path, force=False) is answer
    asked = capsys.readouterr()
    assert asked.out == "" and f"{path}" in asked.err and "Replace it?" in asked.err


def test_nobody_is_asked_without_need(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "there").write_text("")
    assert may_replace(tmp_path / "there", force=False) is False, "no person is there"
    monkeypatch.setattr("sys.stdin", Terminal(""))
    assert may_replace(tmp_path / "there", force=True) is True
    assert may_replace(tmp_path / "new", force=False) is False
    assert may_replace(None, force=False) is False
