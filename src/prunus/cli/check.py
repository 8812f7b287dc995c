"""`prunus check`: whether a model answers as transformers does, for people and for CI."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from prunus.cli.models import CheckpointModel, Model, SavedFolder, find_model
from prunus.cli.options import Debug, Json, ModelOptions, takes_model
from prunus.cli.output import print_json, progress
from prunus.errors import InputError

EXAMPLES = (
    "prunus check stand-in",
    "prunus check ./my-pruned-bert --data dev.jsonl --tolerance 0.001",
    "prunus check ./my-pruned-bert.prunus --reference ./my-pruned-bert --data squad-dev.json",
)

DIFFERENT = 1

_DATA = "Data"


@takes_model
def check(
    options: ModelOptions,
    reference: Annotated[
        str | None,
        typer.Option(
            metavar="CHECKPOINT",
            show_default="MODEL",
            help="What transformers runs: a checkpoint or a stand-in. A folder saved by prunus "
            "needs it.",
        ),
    ] = None,
    batch: Annotated[
        str | None,
        typer.Option("-b", "--batch", metavar="N,…", show_default="1,3,8", help="Batch sizes."),
    ] = None,
    sequence: Annotated[
        str | None,
        typer.Option(
            "-s",
            "--sequence",
            metavar="N,…",
            show_default="around the edges of a tile, up to the limit",
            help="Lengths in tokens.",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            show_default=False,
            rich_help_panel=_DATA,
            help="Rows with labels, for the task's metric of both: JSON lines (.jsonl), CSV, "
            "Parquet, or SQuAD (.json).",
        ),
    ] = None,
    text_column: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            rich_help_panel=_DATA,
            help="The column of texts; given twice, of pairs. Found by usual names.",
        ),
    ] = None,
    label_column: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            rich_help_panel=_DATA,
            help="The column of labels, scores, tags or answers. Found by usual names.",
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(min=1, rich_help_panel=_DATA, help="Rows to read; all unless given."),
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            show_default="0",
            rich_help_panel=_DATA,
            help="By how much a metric (a share of 1) may be worse than that of transformers.",
        ),
    ] = None,
    pooling: Annotated[
        Literal["mean", "cls", "max"] | None,
        typer.Option(
            show_default="mean",
            rich_help_panel=_DATA,
            help="How an embedding of a sentence is made of those of its tokens.",
        ),
    ] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Compare MODEL with transformers, on random inputs and on data with labels.

    Lengths lie around the edges of a tile, up to the model's limit, and meet masks of every kind.
    An answer is the same within 1e-4 times the largest answer, but at least 1e-4. The exit status
    is 0 if all is the same, 1 if anything differs, and 2 if it cannot be told.
    """
    settings: dict[str, Any] = {
        "text_columns": text_column,
        "label_column": label_column,
        "pooling": pooling,
        "tolerance": tolerance,
    }
    settings = {name: value for name, value in settings.items() if value is not None}
    if data is None and (settings or limit is not None):
        raise InputError(
            "--text-column, --label-column, --pooling, --tolerance and --limit are of use only "
            "with --data FILE; give it, or leave them out"
        )
    sizes = _sizes(sequence, batch)
    simulation = options.simulation()
    from prunus.check import check_data, check_parity, load_tokenizer, read_data
    from prunus.check.verdict import CheckReport

    rows = None if data is None else read_data(data, limit)
    model, other = _models(options, reference)
    with progress() as say, contextlib.redirect_stdout(sys.stderr):
        tokenizer = None if rows is None else load_tokenizer(_checkpoint_folder(other))
        say(f"opening {model.name}")
        own = None if isinstance(model, SavedFolder) else simulation
        compiled = model.open(own, options.compile_options())
        say(f"loading {other.name} in transformers")
        module = other.module(simulation)
        _check_zeros(compiled.simulated, module)
        quality = None
        if rows is not None:  # first, as it may find the file wanting
            quality = check_data(compiled, module, rows, tokenizer, progress=say, **settings)
        parity = check_parity(compiled, module, seed=options.seed, progress=say, **sizes)
    report = CheckReport(model.name, other.name, compiled.simulated, parity, quality)
    if json:
        print_json(report.to_dict())
    else:
        print(report)
    if not report.same:
        raise typer.Exit(DIFFERENT)


def _sizes(sequence: str | None, batch: str | None) -> dict[str, Any]:
    from prunus.bench import parse_counts

    given = {"lengths": sequence, "batches": batch}
    return {name: parse_counts(text) for name, text in given.items() if text is not None}


def _models(options: ModelOptions, reference: str | None) -> tuple[Model, Model]:
    """The model, and the one that transformers runs.

    The options that find a model are those of the reference where there is one: a folder saved by
    prunus takes none.
    """
    saved = (Path(os.path.expanduser(options.model)) / "prunus.json").is_file()
    if reference is None:
        if saved:
            raise InputError(
                f"{options.model} was saved by prunus and holds no PyTorch module to compare with; "
                "give the checkpoint that it was made from: --reference CHECKPOINT"
            )
        model = find_model(options)
        return model, model
    if not saved:
        raise InputError(
            f"{options.model} is itself what transformers runs; --reference is for a folder saved "
            "by prunus, so leave it out"
        )
    here = dataclasses.replace(
        options, revision=None, token=None, subfolder=None, local_files_only=False
    )
    model = find_model(here)
    other = find_model(dataclasses.replace(options, model=reference))
    other.check_module()
    return model, other


def _checkpoint_folder(model: Model) -> Path:
    if isinstance(model, CheckpointModel):
        return model.checkpoint.folder
    raise InputError(f"{model.name} has no tokenizer to read --data with; give a checkpoint")


def _check_zeros(ours: str | None, module: Any) -> None:
    """The same zeros must be simulated in both, or the answers differ for that reason."""
    from prunus.frontend.simulate import simulated

    theirs = simulated(module)
    if ours != theirs:
        raise InputError(
            f"the zeros that are simulated in the model ({ours or 'none'}) are not those in the "
            f"reference ({theirs or 'none'}); give the --simulate, --simulate-method, "
            "--simulate-layers and --seed that the model was compiled with"
        )
