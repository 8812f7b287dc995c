"""The page says what was measured, needs nothing else, and survives any name."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

import prunus
from prunus.errors import InputError, UnsupportedError
from prunus.reporting.figures import milliseconds
from prunus.reporting.findings import Findings
from prunus.reporting.page import percent
from tests.reporting.conftest import NAME

VOID = {"meta", "link", "br", "img", "input", "hr", "col", "wbr"}


class Reader(HTMLParser):
    """Texts of a page by where they stand, and whether every element is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: dict[str, list[str]] = {}
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """An element of SVG without content."""

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes what was not opened last"

    def handle_data(self, data: str) -> None:
        if self.open and data.strip():
            self.texts.setdefault(self.open[-1], []).append(data.strip())


@pytest.fixture(scope="module")
def page(findings: Findings) -> str:
    return findings.to_html()


@pytest.fixture(scope="module")
def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    assert reader.open == [], "every element is closed"
    return reader


def test_a_name_is_text_wherever_it_stands(page: str, read: Reader, findings: Findings) -> None:
    assert findings.model.endswith(NAME)
    assert read.texts["h1"] == [findings.model]
    assert "<b>oak" not in page


def test_the_numbers_are_those_of_the_benchmark(read: Reader, findings: Findings) -> None:
    cells = read.texts["td"]
    for row in findings.bench.rows:
        assert row.seconds is not None and row.engine in read.texts["th"]
        assert milliseconds(row.seconds.median) in cells
    ours, best = findings.ours, findings.best_dense
    assert ours.seconds is not None and best is not None and best.seconds is not None
    assert f"{best.seconds.median / ours.seconds.median:.2f}" in read.texts["p"]
    growth = next(point for point in findings.growth if point.shape == findings.shape)
    assert growth.sparse == ours.seconds.median, "one number for one thing"


def test_the_zeros_are_those_of_inspect(page: str, findings: Findings, checkpoint: Path) -> None:
    inspected = {t.name: t for t in prunus.inspect(checkpoint).tensors if t.role == "linear"}
    matrices = {matrix.name: matrix for matrix in findings.matrices}
    assert set(matrices) == set(inspected) and len(matrices) == 13
    for name, matrix in matrices.items():
        tensor = inspected[name]
        assert matrix.pattern.shape == tensor.shape
        assert matrix.density == pytest.approx(1 - tensor.zero_share)
        assert matrix.pattern.block == (4, 1)
    assert f"{percent(findings.explanation.linear_zeros)} of the linear weights are zero" in page


def test_nothing_is_fetched(page: str, read: Reader) -> None:
    assert all(source.startswith(("data:", "#")) for source in read.sources)
    assert "<script" not in page and "@import" not in page
    assert not re.findall(r"url\((?!#|['\"]?data:)", page)
    targets = {source[1:] for source in read.sources if source.startswith("#")}
    assert targets <= set(re.findall(r' id="([^"]+)"', page)), "every link leads somewhere"
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids))


def test_rows_and_data_agree(findings: Findings) -> None:
    rows, data = findings.records(), findings.to_dict()
    assert [row["layer"] for row in rows] == [e["name"] for e in data["explanation"]["layers"]]
    assert list(findings.to_pandas()["zeros"]) == [row["zeros"] for row in rows]
    assert findings.to_polars().shape == (len(rows), len(rows[0]))


def test_files_are_written_whole_and_only_where_allowed(findings: Findings, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    findings.write(path)
    before = path.read_text()
    with pytest.raises(InputError, match="is there already"):
        findings.write(path)
    assert path.read_text() == before
    findings.write(path, overwrite=True)
    assert [each.name for each in tmp_path.iterdir()] == ["report.html"]
    plots = findings.save_plots(tmp_path / "plots")
    for plot in plots:
        start = plot.read_bytes()[:100]
        assert start.startswith(b"\x89PNG" if plot.suffix == ".png" else b"<?xml")
    with pytest.raises(InputError, match="holds files already"):
        findings.save_plots(tmp_path / "plots")
    with pytest.raises(InputError, match="there is no folder"):
        findings.write(tmp_path / "none" / "report.html")


@pytest.mark.parametrize("missing", ["jinja2", "matplotlib"])
def test_what_is_missing_is_named(
    findings: Findings, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in [each for each in sys.modules if each.split(".")[0] == missing]:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UnsupportedError, match=rf"need {missing} .*prunus\[report\]"):
        findings.to_html()


def test_figures_need_no_display_no_fonts_and_no_home(tmp_path: Path) -> None:
    script = (
        "from prunus.reporting.style import drawing, new_figure, save_figure\n"
        "from pathlib import Path\n"
        "with drawing():\n"
        "    figure, axes = new_figure(200, 100)\n"
        "    axes.set_title('zeros')\n"
        "    save_figure(figure, Path('figure.png'))\n"
    )
    environment = {
        name: value for name, value in os.environ.items() if name not in ("DISPLAY", "HOME")
    }
    nowhere = str(tmp_path / "none")
    environment |= {"MPLBACKEND": "TkAgg", "FONTCONFIG_PATH": nowhere, "FONTCONFIG_FILE": nowhere}
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, check=True)
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_figures_are_written_in_plain_numbers(page: str) -> None:
    assert "mathdefault" not in page, "markup of TeX, which is not parsed where names may hold a $"
