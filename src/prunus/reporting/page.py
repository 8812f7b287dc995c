"""The page of a report: one HTML document with its pictures and styles inside, without scripts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from prunus.bench import Row
from prunus.plan.explain_text import LAYER_COLUMNS, layer_rows, remarks
from prunus.plan.profile_text import limits_text
from prunus.reporting.figures import (
    Bars,
    by_kind,
    by_layer,
    engine_bars,
    growth_curve,
    growth_points,
    milliseconds,
    short_names,
    time_bars,
)
from prunus.reporting.findings import Findings
from prunus.reporting.heat_maps import map_uri, rows_of_matrices, strength
from prunus.reporting.matrices import Matrix
from prunus.reporting.roofline import roofline
from prunus.reporting.style import COLOURS, NARROW, WIDE, figure_svg, required

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_COLUMNS = 8
"""Maps in a row, at most."""

SCALE = (0.0, 0.01, 0.1, 0.5, 1.0)
"""Densities that the legend of the maps shows."""


@dataclass(frozen=True, slots=True)
class Chart:
    """A figure for a page: as a desktop and paper see it, as a phone does, and in words."""

    wide: str
    narrow: str
    words: str


@dataclass(frozen=True, slots=True)
class Structure:
    """The matrices of one kind and shape, over all layers."""

    kind: str
    count: int
    shape: tuple[int, int]
    density: str
    patterns: str
    empty_rows: str
    empty_columns: str


def page(findings: Findings) -> str:
    """The page as HTML.

    Raises:
        UnsupportedError: matplotlib or jinja2 is not installed.
    """
    jinja2 = required("jinja2")
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("prunus.reporting"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        ms=milliseconds, percent=percent, map_uri=map_uri, strength=strength, range_text=range_text
    )
    layers = rows_of_matrices(findings.matrices)
    html: str = environment.get_template("report.html").render(
        f=findings,
        made=datetime.fromisoformat(findings.made).strftime("%-d %B %Y, %H:%M"),
        themes=themes(),
        charts=charts(findings),
        bars={"layer": by_layer(findings), "kind": by_kind(findings)},
        layers=layers,
        columns=min(MOST_COLUMNS, max(map(len, layers.values()))),
        short=short_names([*layers, *(each.layer for each in findings.heads)]),
        kinds=list(dict.fromkeys(each.kind for each in findings.matrices)),
        scale=SCALE,
        structure=structures(findings.matrices),
        decision_columns=LAYER_COLUMNS,
        decisions=list(layer_rows(findings.explanation)),
        remarks="\n".join(remarks(findings.explanation)).strip("\n"),
        growth={along: growth_points(findings, along) for along in ("tokens", "batch")},
        parity=parity_table(findings),
        limits=limits_text(findings.sparse.limits),
        weight_bytes=weight_bytes(findings),
    )
    return html


def charts(findings: Findings) -> dict[str, Chart]:
    """The figures of the page, by name."""
    layers, kinds = by_layer(findings), by_kind(findings)
    layers = {name: layers[long] for long, name in short_names(list(layers)).items()}
    made: dict[str, tuple[Callable[[int], Figure], int, str]] = {
        "engines": (partial(engine_bars, findings), WIDE, _engines_in_words(findings.timed)),
        "layers": (partial(time_bars, layers), WIDE, _bars_in_words("layer", layers)),
        "kinds": (partial(time_bars, kinds), WIDE, _bars_in_words("kind of step", kinds)),
        "roofline": (
            partial(roofline, findings.sparse, findings.dense),
            WIDE,
            "Operations a second of every step that reads weights, over its operations for each "
            "byte of weights, under the measured limits of the processor.",
        ),
        "tokens": (
            partial(growth_curve, findings, "tokens"),
            WIDE // 2 - 14,
            "Time of a call over the tokens of a text; the numbers are in the table below.",
        ),
        "batch": (
            partial(growth_curve, findings, "batch"),
            WIDE // 2 - 14,
            "Time of a call over the texts of a call; the numbers are in the table below.",
        ),
    }
    return {
        name: Chart(_svg(draw(width)), _svg(draw(NARROW)), words)
        for name, (draw, width, words) in made.items()
    }


def themes() -> dict[str, str]:
    """The variables of the style sheet on white and on black."""
    return {
        "light": ";".join(f"--{each.name}:{each.light}" for each in COLOURS),
        "dark": ";".join(f"--{each.name}:{each.dark}" for each in COLOURS),
    }


def structures(matrices: Sequence[Matrix]) -> list[Structure]:
    """What was found of the zeros, for matrices of one kind and shape together."""
    groups: dict[tuple[str, tuple[int, int]], list[Matrix]] = {}
    for matrix in matrices:
        groups.setdefault((matrix.kind, matrix.pattern.shape), []).append(matrix)
    return [
        Structure(
            kind,
            len(group),
            shape,
            range_text([100 * each.density for each in group], "{:.1f}") + " %",
            ", ".join(_patterns(group)),
            range_text([each.pattern.empty_rows for each in group]),
            range_text([each.pattern.empty_columns for each in group]),
        )
        for (kind, shape), group in groups.items()
    ]


def parity_table(findings: Findings) -> dict[str, Any]:
    """The largest difference by mask and size of a call."""
    comparisons = findings.parity.comparisons
    sizes = list(dict.fromkeys(each.case.size for each in comparisons))
    cells: dict[str, dict[str, float]] = {}
    for each in comparisons:
        row = cells.setdefault(each.case.mask, {})
        row[each.case.size] = max(row.get(each.case.size, 0.0), each.difference)
    return {"sizes": sizes, "rows": cells}


def weight_bytes(findings: Findings) -> tuple[float, float]:
    """Megabytes of weights that a call reads, sparse and dense."""
    sparse, dense = (
        1e-6 * sum(step.tally.weight_bytes for step in profile.steps)
        for profile in (findings.sparse, findings.dense)
    )
    return sparse, dense


def percent(share: float, digits: int = 1) -> str:
    """A share in percent."""
    return f"{100 * share:.{digits}f} %"


def range_text(values: Sequence[float], form: str = "{:.0f}") -> str:
    """The least and the largest, once if they read alike."""
    ends = dict.fromkeys(form.format(each) for each in (min(values), max(values)))
    return "–".join(ends)


def _svg(figure: Figure) -> str:
    svg: str = required("markupsafe").Markup(figure_svg(figure))
    return svg


def _patterns(group: Sequence[Matrix]) -> list[str]:
    """What explains the zeros, each once, the most frequent first."""
    counts: dict[str, int] = {}
    for matrix in group:
        pattern = matrix.pattern
        name = pattern.kind.replace("rows-columns", "whole rows or columns")
        if pattern.block is not None:
            name = f"{pattern.block[0]}×{pattern.block[1]} blocks"
        elif pattern.kind == "n:m" and pattern.n_of_m is not None:
            name = f"{pattern.n_of_m[0]}:{pattern.n_of_m[1]}"
        counts[name] = counts.get(name, 0) + 1
    return sorted(counts, key=lambda name: -counts[name])


def _engines_in_words(rows: Sequence[Row]) -> str:
    times = (f"{row.engine} {milliseconds(row.seconds.median)} ms" for row in rows if row.seconds)
    return f"Median time of a call: {', '.join(times)}."


def _bars_in_words(what: str, bars: Bars) -> str:
    return f"Dense and sparse time of a call by {what}: " + "; ".join(
        f"{name} {milliseconds(dense)} and {milliseconds(sparse)} ms"
        for name, (dense, sparse) in bars.items()
    )
