"""How results, progress and sizes are written."""

from __future__ import annotations

import json
import math
import warnings

import pytest

from prunus.cli.output import print_json, progress, readable_warnings, size, table


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
