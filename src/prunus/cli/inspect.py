"""`prunus inspect`: what a checkpoint holds, without compiling it."""

from __future__ import annotations

from typing import Annotated

import typer

from prunus.cli.models import RANDOM, STAND_IN
from prunus.cli.options import CheckpointOptions, Csv, Debug, Json, takes_model
from prunus.cli.output import check_format, print_json, progress
from prunus.errors import InputError

EXAMPLES = (
    "prunus inspect huggingface/prunebert-base-uncased-6-finepruned-w-distil-squad",
    "prunus inspect ./my-pruned-bert --all",
    "prunus inspect ./my-pruned-bert --csv > tensors.csv",
)


@takes_model
def inspect(
    options: CheckpointOptions,
    every: Annotated[
        bool, typer.Option("--all", help="A line for every tensor, not for linear layers alone.")
    ] = False,
    threads: Annotated[
        int | None,
        typer.Option(
            "-t",
            "--threads",
            show_default="physical cores that this process may use",
            help="Tensors that are measured at a time.",
        ),
    ] = None,
    json: Json = False,
    csv: Csv = False,
    debug: Debug = False,
) -> None:
    """Show the zeros in MODEL, their pattern, and what prunus would do with each layer.

    Takes seconds, since nothing is compiled, and needs little memory, since no tensor is held
    whole. JSON and CSV have every tensor.
    """
    check_format(json=json, csv=csv)
    if every and (json or csv):
        raise InputError("--json and --csv have every tensor, so --all means nothing: leave it out")
    if options.model == STAND_IN or options.model.startswith(RANDOM):
        raise InputError(
            f"{options.model} is made on the spot and lies in no file: give a checkpoint, or look "
            f"at it with `prunus explain {options.model}`"
        )
    from prunus import inspection
    from prunus.inspection.text import inspection_text

    with progress() as say:
        say(f"opening {options.model}")
        found = inspection.inspect(
            options.model, **options.hub_options(), threads=threads, progress=say
        )
    if json:
        print_json(found.to_dict())
    elif csv:
        print(found.to_csv(), end="")
    else:
        print(inspection_text(found, every=every))
