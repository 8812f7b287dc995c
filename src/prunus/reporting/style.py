"""How figures look: two widths, few colours, no display and no fonts of the system.

Figures are drawn through `matplotlib.figure.Figure`, so no window is ever opened, in the font that
matplotlib brings along. Inside a page their text is set in the page's own font, and their colours
follow its light or dark theme.
"""

from __future__ import annotations

import io
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunus.errors import InputError, UnsupportedError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDE, NARROW = 880, 350
"""Widths in pixels of a page: on a desktop and on paper, and on a phone."""

FORMATS = (".svg", ".png")

UNITS = 72
"""Units of a figure to its inch. At 72 a point of type is a pixel of the page."""

PNG_SCALE = 2
"""Pixels of a PNG to a unit, so that it stays sharp on dense screens."""

_FONT = "DejaVu Sans"


@dataclass(frozen=True, slots=True)
class Colour:
    """A colour by its name in the page's style sheet: on white paper, and on black."""

    name: str
    light: str
    dark: str


INK = Colour("ink", "#1c1a20", "#ece9ef")
MUTED = Colour("muted", "#65606c", "#a8a2b0")
LINE = Colour("line", "#dedae2", "#37323d")
PAPER = Colour("paper", "#fffefd", "#151317")
SURFACE = Colour("surface", "#f6f4f7", "#1e1b22")
DENSE = Colour("dense", "#a59fad", "#77707f")
ACCENT = Colour("accent", "#96235f", "#ec8fbd")
COLOURS = (INK, MUTED, LINE, PAPER, SURFACE, DENSE, ACCENT)
"""One accent, the colour of plums: it marks what prunus does with the zeros."""


@contextmanager
def drawing() -> Iterator[None]:
    """Figures that are made or written inside have this style.

    Raises:
        UnsupportedError: matplotlib is not installed.
    """
    with required("matplotlib").rc_context(
        {
            "font.family": [_FONT],
            "font.size": 12,
            "text.color": INK.light,
            "text.parse_math": False,  # a name may hold a dollar sign
            "axes.edgecolor": LINE.light,
            "axes.labelcolor": MUTED.light,
            "axes.labelsize": 11.5,
            "axes.facecolor": "none",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.axisbelow": True,
            "grid.color": LINE.light,
            "grid.linewidth": 0.8,
            "xtick.color": LINE.light,
            "ytick.color": LINE.light,
            "xtick.labelcolor": MUTED.light,
            "ytick.labelcolor": MUTED.light,
            "xtick.labelsize": 11,
            "ytick.labelsize": 11,
            "figure.facecolor": "none",
            "lines.linewidth": 2,
            "lines.solid_capstyle": "round",
            "legend.frameon": False,
            "svg.fonttype": "none",  # text can be searched, and takes the page's font
        }
    ):
        yield


def required(module: str) -> Any:
    """A module of the extra `report`.

    Raises:
        UnsupportedError: it is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise UnsupportedError(
            f"pages and plots need {module.partition('.')[0]} ({error}); install it with "
            "`pip install 'prunus[report]'`"
        ) from error


def new_figure(width: int, height: int) -> tuple[Figure, Axes]:
    """A figure of this size in pixels with one pair of axes; call it inside `drawing`."""
    figure = required("matplotlib.figure").Figure(
        figsize=(width / UNITS, height / UNITS), dpi=UNITS, layout="constrained"
    )
    return figure, figure.add_subplot()


def hover(artist: Any, text: str) -> None:
    """Let the page show this text where the pointer is over a bar, a point or a line."""
    artist.set_gid(f"hover {text}")


def figure_svg(figure: Figure) -> str:
    """The figure as an `<svg>` element for a page, which follows the page's font and theme.

    The style sheet gives the variables `--ink`, `--accent` and so on, one for each of `COLOURS`.
    """
    with drawing():
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    width = float(figure.get_figwidth() * UNITS)
    svg = re.sub(
        r'<svg [^>]*?viewBox="([^"]*)"[^>]*>',
        rf'<svg class="plot" viewBox="\1" style="max-width:{width:.0f}px" aria-hidden="true">',
        svg,
        count=1,
    )
    # Its style would reach every element of the page.
    svg = re.sub(r"\s*<(metadata|style)\b.*?</\1>", "", svg, flags=re.DOTALL)
    svg = _own_ids(_with_titles(svg))
    for colour in COLOURS:
        svg = svg.replace(colour.light, f"var(--{colour.name})")
    return svg.replace(f"'{_FONT}'", "inherit")


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure on white paper as SVG or PNG, by the suffix, whole or not at all.

    Raises:
        InputError: another suffix, or a file that cannot be written.
    """
    if path.suffix not in FORMATS:
        raise InputError(f"{path}: figures are written as {' or '.join(FORMATS)}; name one of them")
    content = io.BytesIO()
    with drawing():
        figure.savefig(
            content, format=path.suffix[1:], dpi=PNG_SCALE * UNITS, facecolor=PAPER.light
        )
    write_whole(path, content.getvalue())


def write_whole(path: Path, content: bytes) -> None:
    """Write a file in one step: whoever reads it sees the old content or the new.

    Raises:
        InputError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise InputError(f"{path} cannot be written: {error.strerror or error}") from error


def _with_titles(svg: str) -> str:
    """Texts given to `hover` become titles, which browsers show and readers read."""
    return re.sub(r'<g id="hover ([^"]*)">', r"<g><title>\1</title>", svg)


def _own_ids(svg: str) -> str:
    """Ids that no other figure of the page has, and only where something refers to them."""
    used = set(re.findall(r'(?:url\(#|href="#)([^")]+)', svg))
    own = f"p{secrets.token_hex(3)}"
    svg = re.sub(r' id="([^"]*)"', lambda m: f' id="{own}{m[1]}"' if m[1] in used else "", svg)
    return re.sub(r'(url\(#|href="#)', rf"\g<1>{own}", svg)
