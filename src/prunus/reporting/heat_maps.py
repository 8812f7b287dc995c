"""Where the zeros are: a map of every matrix, and tables of densities by layer and head."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from prunus.reporting.matrices import Heads, Matrix
from prunus.reporting.style import ACCENT, INK, MUTED, WIDE, drawing, new_figure, required

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHADES = 24
"""Steps of a map's colour: few enough for a small file, too many to be seen."""

MIDDLE = "#b8397c"
"""The accent between light and dark, as a picture cannot follow the page's theme."""

_CELL = 30


def strength(density: float) -> float:
    """How strong the colour of a density is, from 0 to 1.

    The root shows differences among sparse matrices, where most of them lie.
    """
    return math.sqrt(density)


def map_uri(matrix: Matrix) -> str:
    """The map of a matrix as a PNG in a data URI; empty cells are transparent."""
    content = io.BytesIO()
    required("matplotlib.image").imsave(content, _pixels(matrix), format="png")
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"


def rows_of_matrices(matrices: Sequence[Matrix]) -> dict[str, list[Matrix]]:
    """The matrices of each layer, in order."""
    layers: dict[str, list[Matrix]] = {}
    for matrix in matrices:
        layers.setdefault(matrix.layer, []).append(matrix)
    return layers


def matrix_maps(matrices: Sequence[Matrix], width: int = WIDE) -> Figure:
    """The maps of all matrices, a row for each layer."""
    layers = rows_of_matrices(matrices)
    columns = max(map(len, layers.values()))
    side = width / columns
    with drawing():
        figure, whole = new_figure(width, int(len(layers) * (side + 18)))
        whole.remove()
        grid = figure.subplots(len(layers), columns, squeeze=False)
        for axes in grid.flat:
            axes.set_axis_off()
        for line, row in zip(grid, layers.values(), strict=True):
            for axes, matrix in zip(line, row, strict=False):
                axes.imshow(_pixels(matrix), aspect="auto", interpolation="nearest")
                axes.set_title(
                    f"{matrix.kind[-22:]} {100 * matrix.density:.1f} %", fontsize=7, pad=2
                )
        return figure


def density_by_layer(matrices: Sequence[Matrix], width: int = WIDE) -> Figure:
    """The density of every matrix: a row for each layer, a column for each kind."""
    layers = rows_of_matrices(matrices)
    kinds = list(dict.fromkeys(matrix.kind for matrix in matrices))
    values = np.full((len(layers), len(kinds)), np.nan)
    for row, each in enumerate(layers.values()):
        for matrix in each:
            values[row, kinds.index(matrix.kind)] = matrix.density
    return _grid(values, list(layers), kinds, width)


def density_by_head(heads: Sequence[Heads], width: int = WIDE) -> Figure:
    """The density of every head: a row for each attention."""
    most = max(len(each.mean) for each in heads)
    values = np.full((len(heads), most), np.nan)
    for row, each in enumerate(heads):
        values[row, : len(each.mean)] = each.mean
    names = [f"head {number}" for number in range(most)]
    return _grid(values, [each.layer for each in heads], names, width)


def _grid(
    values: NDArray[np.float64], rows: Sequence[str], columns: Sequence[str], width: int
) -> Figure:
    """A table of shares, shaded by their strength."""
    from matplotlib.colors import to_rgb

    with drawing():
        figure, axes = new_figure(width, _CELL * len(rows) + 130)
        shades = np.ones((*values.shape, 4))
        shades[..., :3] = to_rgb(ACCENT.light)
        shades[..., 3] = 0.9 * np.sqrt(np.nan_to_num(values))
        axes.imshow(shades, aspect="auto", interpolation="nearest")
        for (row, column), share in np.ndenumerate(values):
            if not math.isnan(share):
                strong = strength(share) > 0.55
                axes.text(
                    column, row, f"{100 * share:.1f}", ha="center", va="center", fontsize=9.5,
                    color="white" if strong else INK.light,
                )  # fmt: skip
        axes.set_yticks(range(len(rows)), rows)
        axes.set_xticks(range(len(columns)), columns, rotation=30, ha="left")
        axes.xaxis.tick_top()
        axes.tick_params(length=0, labelcolor=MUTED.light, labelsize=9.5)
        for spine in axes.spines.values():
            spine.set_visible(False)
        return figure


def _pixels(matrix: Matrix) -> NDArray[np.uint8]:
    """The cells in the middle accent, as opaque as they are strong, [rows, columns, 4]."""
    alpha = np.sqrt(matrix.cells)
    alpha = np.ceil(alpha * SHADES) / SHADES  # a cell with one nonzero must not look empty
    pixels = np.empty((*matrix.cells.shape, 4), np.uint8)
    pixels[..., :3] = [int(MIDDLE[place : place + 2], 16) for place in (1, 3, 5)]
    pixels[..., 3] = np.round(255 * alpha)
    return pixels
