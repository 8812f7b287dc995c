"""How the time of a call grows: with nonzeros × tokens, and attention with the square of the
length.

A BERT for question answering is timed against its zeros, its length, its batch and its threads.
Straight lines and the square are fitted, so that what does not follow the law shows as a deviation.
The lengths of one step of 16 tokens are timed one by one: each may cost at most 10 % over the
step's last. `--plots FOLDER` draws it all.
"""

from __future__ import annotations

import argparse
import importlib.util
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from cost_plots import draw
from harness import (
    caller,
    compiled_bert,
    figure,
    header,
    make_inputs,
    make_parser,
    medians,
    say,
    table,
    write_json,
)

import prunus
from prunus.bench.shapes import Shape
from prunus.runtime.threads import usable_processors

RECIPES = ("0", "0.5", "0.6", "0.7", "0.8", "0.9", "0.95", "0.98")
LENGTHS = (16, 32, 64, 96, 128, 192, 256, 320, 384, 448, 512)
BATCHES = (1, 2, 4, 8, 16)
STEP = 16
"""Tokens by which a tile shrinks: the next multiple tells what a length may cost."""


@dataclass(frozen=True)
class Law:
    """Seconds of a call as ``per_call + per_item · items + per_square · squares``.

    Items are tokens, or the share of the linear weights that is not zero; squares are batch ×
    length², the pairs of tokens that attention looks at.
    """

    per_call: float
    per_item: float
    per_square: float = 0.0

    def seconds(self, items: float, squares: float = 0.0) -> float:
        """What a call takes by this law."""
        return self.per_call + self.per_item * items + self.per_square * squares


@dataclass(frozen=True)
class Growth:
    """Median seconds against each of what they depend on, with the laws fitted to them.

    Attributes:
        density: By the share of nonzero linear weights, where sparse kernels run most layers.
        dense: By that share, where the dense kernel does.
        kernels: What runs most layers, by that share.
        lengths: By tokens of a single text.
        step: The same for every length of one step.
        batches: By texts of `length` tokens.
        threads: By workers.
        length: Tokens of a text, unless they are what varies.
        recipe: Zeros, unless they are what varies.
        by_density: Fitted to `density`.
        by_tokens: Fitted to `lengths` and `batches` together.
    """

    density: Mapping[float, float]
    dense: Mapping[float, float]
    kernels: Mapping[float, str]
    lengths: Mapping[int, float]
    step: Mapping[int, float]
    batches: Mapping[int, float]
    threads: Mapping[int, float]
    length: int
    recipe: str
    by_density: Law
    by_tokens: Law


def fit(seconds: Iterable[float], *columns: Iterable[float]) -> Law:
    """The law with the least squares of relative errors, so that short calls count as much."""
    times = np.array(list(seconds))
    terms = np.column_stack((np.ones_like(times), *map(list, columns))) / times[:, None]
    return Law(*(float(c) for c in np.linalg.lstsq(terms, np.ones_like(times))[0]))


def fit_shapes(times: Mapping[Shape, float]) -> Law:
    """The law of tokens and squares for calls by batch and length."""
    tokens = [batch * length for batch, length in times]
    return fit(times.values(), tokens, [batch * length**2 for batch, length in times])


def kernel_of(model: prunus.CompiledModel) -> str:
    """The kernel that most linear layers got."""
    return Counter(layer.kernel for layer in model.explain().layers).most_common(1)[0][0]


def measure(arguments: argparse.Namespace) -> Growth:
    """Time everything."""
    kernels, by_density = against_zeros(arguments)
    model = compiled_bert(arguments.recipe, arguments)
    lengths = {(1, length) for length in arguments.lengths}
    step = {(1, arguments.step_end - i) for i in range(STEP)}
    batches = {(batch, arguments.length) for batch in arguments.batches}
    shapes = medians(
        {s: caller(model, make_inputs(model, *s)) for s in sorted(lengths | step | batches)},
        arguments,
    )
    sparse = {d: s for d, s in by_density.items() if kernels[d] != "dense"}
    return Growth(
        density=sparse,
        dense={d: s for d, s in by_density.items() if kernels[d] == "dense"},
        kernels=kernels,
        lengths={length: shapes[1, length] for _, length in sorted(lengths)},
        step={length: shapes[1, length] for _, length in sorted(step)},
        batches={batch: shapes[batch, length] for batch, length in sorted(batches)},
        threads=against_threads(model, arguments),
        length=arguments.length,
        recipe=arguments.recipe,
        by_density=fit(sparse.values(), sparse),
        by_tokens=fit_shapes({shape: shapes[shape] for shape in lengths | batches}),
    )


def against_zeros(arguments: argparse.Namespace) -> tuple[dict[float, str], dict[float, float]]:
    """Kernel and seconds by the share of nonzero weights. The models live no longer than this."""
    models = {m.density: m for m in (compiled_bert(r, arguments) for r in arguments.recipes)}
    calls = {d: caller(m, make_inputs(m, 1, arguments.length)) for d, m in models.items()}
    return {d: kernel_of(m) for d, m in models.items()}, medians(calls, arguments)


def against_threads(model: prunus.CompiledModel, arguments: argparse.Namespace) -> dict[int, float]:
    """Seconds by workers."""
    inputs = make_inputs(model, 1, arguments.length)
    counts = range(1, arguments.most_threads + 1)
    return medians({n: caller(model.recompile(threads=n), inputs) for n in counts}, arguments)


def density_table(growth: Growth) -> str:
    """Milliseconds by nonzeros, beside the straight line."""
    rows = []
    for density, seconds in sorted({**growth.dense, **growth.density}.items(), reverse=True):
        law = growth.by_density.seconds(density)
        rows.append((f"{100 * density:.1f} %", *_beside(seconds, law), growth.kernels[density]))
    return table(("nonzeros", "ms", "line ms", "off the line", "most layers run"), rows)


def length_table(growth: Growth) -> str:
    """Milliseconds by length, beside the law, and attention's square in it."""
    rows = []
    for length, seconds in growth.lengths.items():
        square = growth.by_tokens.per_square * length**2
        law = growth.by_tokens.seconds(length, length**2)
        rows.append((str(length), *_beside(seconds, law), f"{100 * square / law:.0f} %"))
    return table(("tokens", "ms", "law ms", "off the law", "attention's square"), rows)


def batch_table(growth: Growth) -> str:
    """Milliseconds by batch, beside the law."""
    rows = []
    for batch, seconds in growth.batches.items():
        law = growth.by_tokens.seconds(batch * growth.length, batch * growth.length**2)
        rows.append((str(batch), *_beside(seconds, law), figure(1e3 * seconds / batch)))
    return table(("batch", "ms", "law ms", "off the law", "ms a text"), rows)


def step_table(growth: Growth) -> str:
    """Milliseconds of each length of the step, and what it costs over the step's last."""
    last = growth.step[max(growth.step)]
    rows = [(str(n), figure(1e3 * s), f"{s / last:.2f}") for n, s in growth.step.items()]
    return table(("tokens", "ms", f"÷ {max(growth.step)} tokens"), rows)


def thread_table(growth: Growth) -> str:
    """Milliseconds by threads, and how many times as fast as one."""
    one = growth.threads[1]
    rows = [(str(n), figure(1e3 * s), f"{one / s:.2f}×") for n, s in growth.threads.items()]
    return table(("threads", "ms", "speed-up"), rows)


def _beside(seconds: float, law: float) -> tuple[str, str, str]:
    return figure(1e3 * seconds), figure(1e3 * law), f"{100 * (seconds / law - 1):+.0f} %"


def report(growth: Growth, arguments: argparse.Namespace) -> str:
    """All tables, as Markdown."""
    tokens = growth.by_tokens
    what = f"BERT-{arguments.size}, {arguments.recipe} zeros, 1 × {arguments.length} unless said"
    return "\n\n".join(
        (
            header(what, arguments),
            "## Nonzeros\n\n" + density_table(growth),
            f"## Tokens\n\nLaw: {1e3 * tokens.per_call:.3g} ms + {1e6 * tokens.per_item:.3g} µs a "
            f"token + {1e9 * tokens.per_square:.3g} ns a pair of tokens of one text, fitted to "
            "this table and the next.\n\n" + length_table(growth),
            "## Batch\n\n" + batch_table(growth),
            "## Each length of a step\n\n" + step_table(growth),
            "## Threads\n\n" + thread_table(growth),
        )
    )


def read_arguments() -> argparse.Namespace:
    """The command line, checked before minutes are spent."""
    parser = make_parser(__doc__)
    parser.add_argument("--recipes", nargs="+", default=RECIPES, help="zeros to compare")
    parser.add_argument("--recipe", default="0.95", help="zeros where something else varies")
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS, help="tokens")
    parser.add_argument("--length", type=int, default=128, help="where something else varies")
    parser.add_argument("--step-end", type=int, default=128, help="the longest of the 16 lengths")
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES, help="texts")
    parser.add_argument(
        "--most-threads", type=int, default=usable_processors(), help="threads are 1 to this many"
    )
    parser.add_argument("--plots", type=Path, metavar="FOLDER", help="draw there, SVG and PNG")
    arguments = parser.parse_args()
    if arguments.step_end < STEP or arguments.step_end % STEP:
        parser.error(f"--step-end is {arguments.step_end}: give a multiple of {STEP}")
    if arguments.plots and importlib.util.find_spec("matplotlib") is None:
        parser.error("--plots needs matplotlib: pip install matplotlib")
    return arguments


def main() -> None:
    """Print the tables and draw the figure."""
    arguments = read_arguments()
    growth = measure(arguments)
    print(report(growth, arguments))
    write_json(asdict(growth), arguments)
    if arguments.plots:
        for path in draw(growth, arguments.plots):
            say(f"drew {path}")


if __name__ == "__main__":
    main()
