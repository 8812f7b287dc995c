"""`prunus profile`: where the time of a call goes, and how near each step is to the limit."""

from __future__ import annotations

import json as json_format
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from prunus.cli.models import find_model
from prunus.cli.options import Csv, Debug, Json, ModelOptions, takes_model
from prunus.cli.output import check_format, print_json, print_table, progress
from prunus.errors import InputError
from prunus.records import rows_to_csv

if TYPE_CHECKING:
    from prunus.plan.profile import Profile

EXAMPLES = (
    "prunus profile stand-in",
    "prunus profile ./my-pruned-bert -b 8 -s 64 --by kernel",
    "prunus profile random:0.9 --trace trace.json",
)


@takes_model
def profile(
    options: ModelOptions,
    batch: Annotated[int, typer.Option("-b", "--batch", min=1, help="Texts of a call.")] = 1,
    sequence: Annotated[
        int, typer.Option("-s", "--sequence", min=1, help="Length of each in tokens.")
    ] = 128,
    by: Annotated[
        Literal["step", "layer", "kernel", "op"],
        typer.Option(help="What the lines of the table are."),
    ] = "step",
    trace: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            show_default=False,
            help="Write one call as Chrome trace events, which Perfetto and Chrome open.",
        ),
    ] = None,
    repeat: Annotated[int, typer.Option(min=1, help="Calls to trace.")] = 20,
    json: Json = False,
    csv: Csv = False,
    debug: Debug = False,
) -> None:
    """Show where the time of a call of MODEL goes, and how near each step comes to the limit.

    The limit of a step is what takes longer: its FMAs at the processor's measured peak, or its
    vector loads at the rate measured from the L1 cache. The workers' time is divided by their
    number, so all parts together are the call. CSV has the lines that --by asks for.
    """
    check_format(json=json, csv=csv)
    simulation = options.simulation()
    model = find_model(options)
    with progress() as say:
        say(f"opening {model.name}")
        compiled = model.open(simulation, options.compile_options())
        from prunus.cli.inputs import random_inputs

        inputs = random_inputs(compiled, f"{batch}x{sequence}")
        say(f"profiling {model.name}")
        found = compiled.profile(inputs, repeat)
    if trace is not None:
        from prunus.plan.chrome_trace import chrome_trace

        _write(trace, chrome_trace(found, compiled.program))
    if json:
        print_json({**found.to_dict(), "trace": None if trace is None else str(trace)})
    elif csv:
        print(rows_to_csv(found.records(by)), end="")
    else:
        _print(found, by)
        if trace is not None:
            print(f"\none call written to {trace}; open it in https://ui.perfetto.dev")


def _write(path: Path, data: dict[str, Any]) -> None:
    try:
        path.write_text(json_format.dumps(data), encoding="utf-8")
    except OSError as error:
        raise InputError(f"the trace cannot be written to {path}: {error}") from error


def _print(found: Profile, by: Literal["step", "layer", "kernel", "op"]) -> None:
    from prunus.plan.profile_text import header, parts_table, profile_table

    for line in header(found):
        print(line)
    for table in (parts_table(found), profile_table(found, by)):
        print_table(table)
