"""`prunus report`: all that can be measured of a model, on one page."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from prunus.cli.models import find_model
from prunus.cli.options import Csv, Debug, Json, ModelOptions, takes_model
from prunus.cli.output import check_format, may_replace, print_json, progress
from prunus.errors import InputError

EXAMPLES = (
    "prunus report ./my-pruned-bert -o report.html",
    "prunus report random:0.9 -o report.html --plots figures",
    "prunus report ./my-pruned-bert -b 8 -s 64 --csv > layers.csv",
)


@takes_model
def report(
    options: ModelOptions,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="FILE", show_default=False, help="The page to write."
        ),
    ] = None,
    batch: Annotated[int, typer.Option("-b", "--batch", min=1, help="Texts of a call.")] = 1,
    sequence: Annotated[
        int, typer.Option("-s", "--sequence", min=1, help="Length of each in tokens.")
    ] = 128,
    engine: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,…",
            show_default="prunus,prunus-dense,torch and what is installed of onnxruntime, openvino",
            help="The engines to time.",
        ),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Turns that every engine has.")] = 5,
    seconds: Annotated[float, typer.Option(min=0.0, help="Length of a turn.")] = 0.3,
    plots: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", show_default=False, help="Also write each figure, as SVG and PNG."
        ),
    ] = None,
    json: Json = False,
    csv: Csv = False,
    debug: Debug = False,
) -> None:
    """Measure MODEL, and write what was found as one page that needs nothing else.

    Engines side by side, where the time goes before and after, the roofline, every matrix's zeros,
    the decisions with their reasons, growth, parity, and how to measure it again.
    """
    from prunus.reporting.measure import report as measure
    from prunus.reporting.output import check_folder, check_output

    check_format(json=json, csv=csv)
    if output is None and plots is None and not (json or csv):
        raise InputError("nothing is asked for: give -o FILE, --plots FOLDER, --json or --csv")
    replace_page, replace_plots = (
        may_replace(path, force=options.force) for path in (output, plots)
    )
    if output is not None:
        check_output(output, overwrite=replace_page)
    if plots is not None:
        check_folder(plots, overwrite=replace_plots)
    if output is not None or plots is not None:
        _check_installed()
    simulation = options.simulation()
    model = find_model(options)
    with progress() as say:
        say(f"opening {model.name}")
        found = measure(
            model.open(simulation, options.compile_options()),
            load_module=None if model.missing_module else model.loader(simulation),
            batch=batch,
            sequence=sequence,
            engines=None if engine is None else [name.strip() for name in engine.split(",")],
            rounds=rounds,
            seconds=seconds,
            commands=_commands(options, batch, sequence),
            progress=say,
        )
        say("drawing")
        if output is not None:
            found.write(output, overwrite=replace_page)
        if plots is not None:
            found.save_plots(plots, overwrite=replace_plots)
    if json:
        print_json(found.to_dict())
    elif csv:
        print(found.to_csv(), end="")
    else:
        written = [str(each) for each in (output, plots) if each is not None]
        print(f"written: {', '.join(written)}")


def _check_installed() -> None:
    from prunus.reporting.style import required

    for module in ("matplotlib", "jinja2"):
        required(module)


def _commands(options: ModelOptions, batch: int, sequence: int) -> tuple[str, ...]:
    """Command lines that measure the same again."""
    of = [shlex.quote(options.model)]
    if options.threads is not None:
        of += ["-t", str(options.threads)]
    for recipe in options.simulate or ():
        of += ["--simulate", shlex.quote(recipe), "--simulate-method", options.simulate_method]
    model, shape = " ".join(of), f"-b {batch} -s {sequence}"
    return (
        f"prunus report {model} {shape} -o report.html",
        f"prunus bench {model} {shape} --engine prunus,prunus-dense,torch",
        f"prunus profile {model} {shape}",
        f"prunus explain {model}",
    )
