"""`prunus compare`: several models, or several recipes of one, side by side."""

from __future__ import annotations

import csv as csv_format
import json as json_format
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prunus.cli.models import find_model
from prunus.cli.options import Csv, Debug, Json, ModelOptions, takes_model
from prunus.cli.output import Say, check_format, may_replace, print_json, print_table, progress
from prunus.errors import InputError

if TYPE_CHECKING:
    from prunus.model import CompiledModel

EXAMPLES = (
    "prunus compare ./bert-dense ./bert-90 ./bert-95 --metric F1=88.5,88.1,86.9 --plot pareto.svg",
    "prunus compare bert-base-uncased --simulate 0.9 --simulate 0.85@16x1 --shape 1x128,8x128",
)


@takes_model
def compare(
    options: ModelOptions,
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODEL]...", show_default=False, help="The models before the last one."
        ),
    ] = None,
    shape: Annotated[
        str, typer.Option(metavar="NxN,…", help="Batches with their lengths in tokens.")
    ] = "1x128",
    metric: Annotated[
        str | None,
        typer.Option(
            metavar="NAME=VALUE,…",
            show_default=False,
            help="What you know of the models' quality, in their order: F1=88.5,88.1.",
        ),
    ] = None,
    metrics: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            show_default=False,
            help="The same from a file: CSV with the columns model and the metric's name, or JSON "
            'such as {"F1": {"./bert-90": 88.1}}.',
        ),
    ] = None,
    lower_is_better: Annotated[
        bool, typer.Option("--lower-is-better", help="As of a perplexity.")
    ] = False,
    rounds: Annotated[int, typer.Option(min=1, help="Turns that every model has.")] = 5,
    seconds: Annotated[float, typer.Option(min=0.0, help="Length of a turn.")] = 0.5,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", show_default=False, help="Draw time over the metric, as .svg or .png."
        ),
    ] = None,
    json: Json = False,
    csv: Csv = False,
    debug: Debug = False,
) -> None:
    """Time several MODELs in turns, and set their zeros, sizes and quality beside it.

    With --simulate, one MODEL is compared with what each recipe makes of it. What no other model
    beats in both time and metric is marked.
    """
    from prunus.bench.shapes import parse_shapes
    from prunus.reporting.comparison import check_count, check_metric
    from prunus.reporting.comparison import compare as measure
    from prunus.reporting.comparison_text import comparison_parts

    check_format(json=json, csv=csv)
    names = [*(models or ()), options.model]
    labels = _labels(names, options)
    check_count(labels)
    metric_name, values = _metric(labels, metric, metrics)
    if lower_is_better and values is None:
        raise InputError("--lower-is-better says how to read a metric, and none is given")
    if values is not None:
        check_metric(dict.fromkeys(labels), values, metric_name)
    shapes = parse_shapes(shape)
    overwrite = may_replace(plot, force=options.force)
    if plot is not None:
        from prunus.reporting.output import check_plot

        check_plot(plot, overwrite=overwrite)
    with progress() as say:
        found = measure(
            dict(zip(labels, _open(names, options, say), strict=True)),
            shapes=shapes,
            metric=values,
            metric_name=metric_name,
            higher_is_better=not lower_is_better,
            seconds=seconds,
            rounds=rounds,
            progress=say,
        )
    if plot is not None:
        found.plot(plot, overwrite=overwrite)
    if json:
        print_json(found.to_dict())
    elif csv:
        print(found.to_csv(), end="")
    else:
        for part in comparison_parts(found):
            print(part) if isinstance(part, str) else print_table(part)


def _labels(names: Sequence[str], options: ModelOptions) -> list[str]:
    """A name for each model of the table."""
    recipes = options.simulations()
    if recipes and len(names) > 1:
        raise InputError(
            f"--simulate makes recipes of one model, and {len(names)} are given; give one of them"
        )
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"{name} is given {names.count(name)} times; give each model once")
    return [*names, *(f"simulated {each.recipe}" for each in recipes)]


def _open(names: Sequence[str], options: ModelOptions, say: Say) -> list[CompiledModel]:
    found = [find_model(replace(options, model=name, simulate=None)) for name in names]
    opened = []
    for model, simulation in [
        *((model, None) for model in found),
        *((found[0], each) for each in options.simulations()),
    ]:
        say(f"opening {model.name}" + (f", simulated {simulation}" if simulation else ""))
        opened.append(model.open(simulation, options.compile_options()))
    return opened


def _metric(
    labels: Sequence[str], text: str | None, file: Path | None
) -> tuple[str, dict[str, float] | None]:
    """The metric's name and its values by label, where there is one."""
    if text is not None and file is not None:
        raise InputError("--metric and --metrics say the same thing; give one of them")
    if file is not None:
        return _read_metrics(file)
    if text is None:
        return "metric", None
    name, equals, numbers = text.partition("=")
    if not name.strip() or not equals:
        raise InputError(f"--metric {text!r}: expected a name and values, as in F1=88.5,88.1")
    values = [_number(each, text) for each in numbers.split(",")]
    if len(values) != len(labels):
        raise InputError(
            f"--metric {text!r} has {len(values)} values for {len(labels)} models: "
            f"{', '.join(labels)}; give one for each"
        )
    return name.strip(), dict(zip(labels, values, strict=True))


def _read_metrics(file: Path) -> tuple[str, dict[str, float]]:
    expected = (
        "expected CSV with the columns model and one more, or a JSON object such as "
        '{"F1": {"./bert-90": 88.1}}'
    )
    try:
        content = file.read_text(encoding="utf-8")
        if file.suffix == ".json":
            ((name, values),) = json_format.loads(content).items()
            return str(name), {str(each): _number(value, name) for each, value in values.items()}
        rows = list(csv_format.DictReader(content.splitlines()))
        (name,) = (title for title in rows[0] if title != "model")
        return name, {row["model"]: _number(row[name], name) for row in rows}
    except (OSError, ValueError, AttributeError, LookupError, TypeError, RecursionError) as error:
        raise InputError(f"the metrics {file} cannot be read ({error}); {expected}") from error


def _number(text: object, where: str) -> float:
    try:
        return float(str(text))
    except ValueError:
        raise InputError(f"{text!r} in {where!r} is not a number; write it as in 88.1") from None
