"""`prunus whatif`: what pruning would buy, predicted for a grid of recipes."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from prunus.cli.models import find_model
from prunus.cli.options import Csv, Debug, Json, Method, ModelOptions, takes_model
from prunus.cli.output import check_format, may_replace, print_json, print_table
from prunus.errors import InputError

EXAMPLES = (
    "prunus whatif bert-base-uncased",
    "prunus whatif ./my-bert --shape 1x128 --target 10ms",
    "prunus whatif ./my-bert --sparsity 0.8,0.9 --pattern 1x1,16x1 --speedup 3x "
    "--method magnitude --plot gain.svg",
)

SILENCE = 5.0
"""Seconds between two lines of progress where there is no terminal."""

Progress = Callable[[int, int, str], None]


@takes_model
def whatif(
    options: ModelOptions,
    sparsity: Annotated[
        str, typer.Option(metavar="SHARE,…", help="Shares of zeros.")
    ] = "0.5,0.7,0.8,0.9,0.95,0.97",
    pattern: Annotated[
        str,
        typer.Option(
            metavar="PATTERN,…",
            help="1x1 for single weights, 16x1 for blocks of rows x columns, 2:4 for N of M.",
        ),
    ] = "1x1,4x1,1x4,16x1,4x4,2:4",
    shape: Annotated[
        str, typer.Option(metavar="NxN,…", help="Batches with their lengths in tokens.")
    ] = "1x128,8x128",
    speedup: Annotated[
        str | None,
        typer.Option(
            metavar="TIMES", show_default=False, help="Also: which zeros make it 3x as fast?"
        ),
    ] = None,
    method: Annotated[
        Method,
        typer.Option(
            help="Zeros at random, or in place of the smallest weights, which also tells the share "
            "of the norm that is kept and how far the answers move."
        ),
    ] = "random",
    build: Annotated[
        int, typer.Option(min=0, help="How many recipes to build and run, to check.")
    ] = 3,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", show_default=False, help="Draw speed-up over zeros, as .svg or .png."
        ),
    ] = None,
    anew: Annotated[bool, typer.Option("--anew", help="Measure again what is remembered.")] = False,
    json: Json = False,
    csv: Csv = False,
    debug: Debug = False,
) -> None:
    """Predict how fast MODEL would be with zeros that it does not have yet.

    Each kind of layer is timed once on this processor and remembered; a prediction is their sum. A
    few recipes are then built and run. What zeros would do to the accuracy prunus cannot know.

    With a time, as in `--target 10ms`, it also tells the least zeros that meet it.
    """
    from prunus.bench.shapes import parse_shapes
    from prunus.prediction import grid
    from prunus.prediction.whatif import whatif as ask

    _refuse(options, json=json, csv=csv)
    sparsities, patterns = grid.parse_sparsities(sparsity), grid.parse_patterns(pattern)
    grid.grid_of(sparsities, patterns)  # an empty one is told before the model is opened
    shapes = parse_shapes(shape)
    seconds = None
    if grid.is_time(options.target):  # the one name of two things: a time, or a processor
        seconds = grid.parse_target(options.target)
        options = replace(options, target="native")
    times = None if speedup is None else grid.parse_speedup(speedup)
    if plot is not None:
        from prunus.reporting.output import check_plot

        check_plot(plot, overwrite=may_replace(plot, force=options.force))
    model = find_model(options)
    with _bar() as show:
        show(0, 1, f"opening {model.name}")
        found = ask(
            model.open(None, options.compile_options()),
            sparsities=sparsities,
            patterns=patterns,
            shapes=shapes,
            method=method,
            target=seconds,
            speedup=times,
            build=build,
            seed=options.seed,
            progress=show,
            anew=anew,
        )
    if plot is not None:
        from prunus.reporting.whatif_plot import save_plot

        save_plot(found, plot)
    if json:
        print_json(found.to_dict())
    elif csv:
        print(found.to_csv(), end="")
    else:
        from prunus.plan.profile_text import Table
        from prunus.prediction.text import whatif_parts

        for part in whatif_parts(found):
            print_table(part) if isinstance(part, Table) else print(part)


def _refuse(options: ModelOptions, *, json: bool, csv: bool) -> None:
    check_format(json=json, csv=csv)
    if options.simulate:
        raise InputError(
            "--simulate makes zeros before the question is asked; name them by --sparsity and "
            "--pattern instead"
        )
    if options.dense:
        raise InputError("--dense skips no zeros, so none would buy anything; leave it out")


@contextmanager
def _bar() -> Iterator[Progress]:
    """A bar on a terminal that changes only when something is done; elsewhere a line now and then.

    It has no thread of its own, which would take its time from what is measured.
    """
    if not sys.stderr.isatty():
        yield _lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bar

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}", markup=False))
    with Bar(*columns, console=Console(stderr=True), auto_refresh=False, transient=True) as bar:
        task = bar.add_task("")

        def show(done: int, total: int, text: str) -> None:
            bar.update(task, completed=done, total=total, description=text, refresh=True)

        yield show


def _lines() -> Progress:
    said = [-SILENCE]

    def show(done: int, total: int, text: str) -> None:
        now = time.monotonic()
        if now - said[0] >= SILENCE:
            said[0] = now
            print(f"… {done} of {total}: {text}", file=sys.stderr, flush=True)

    return show
