"""`prunus bench`: engines side by side, with the differences of their outputs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prunus.cli.models import Model, find_model
from prunus.cli.options import Csv, Debug, Json, ModelOptions, takes_model
from prunus.cli.output import Say, check_format, print_json, progress
from prunus.errors import InputError

if TYPE_CHECKING:
    from prunus.bench import Report
    from prunus.bench.shapes import Shape
    from prunus.frontend.simulate import Simulation
    from prunus.model import CompiledModel

EXAMPLES = (
    "prunus bench stand-in -b 1,8 -s 32,128 -t 2 --engine prunus,torch,openvino,onnxruntime",
    "prunus bench huggingface/prunebert-base-uncased-6-finepruned-w-distil-squad",
    "prunus bench bert-base-uncased --simulate 0.9 --simulate 0.85@16x1 --limit --save before.json",
    "prunus bench bert-base-uncased --simulate 0.9 --baseline before.json",
)


@takes_model
def bench(
    options: ModelOptions,
    batch: Annotated[
        str | None,
        typer.Option("-b", "--batch", metavar="N,…", show_default="1", help="Batch sizes."),
    ] = None,
    sequence: Annotated[
        str | None,
        typer.Option(
            "-s", "--sequence", metavar="N,…", show_default="128", help="Lengths in tokens."
        ),
    ] = None,
    shape: Annotated[
        str | None,
        typer.Option(
            metavar="NxN,…", help="Batches with their lengths, as in 1x128,8x32, instead of -b, -s."
        ),
    ] = None,
    engine: Annotated[
        str,
        typer.Option(
            metavar="NAME,…",
            help="Out of prunus, prunus-dense, openvino, onnxruntime, torch-compile, torch and "
            "deepsparse.",
        ),
    ] = "prunus,prunus-dense,torch",
    rounds: Annotated[int, typer.Option(min=1, help="Turns that every engine has.")] = 5,
    seconds: Annotated[float, typer.Option(min=0.0, help="Length of a turn.")] = 0.5,
    limit: Annotated[
        bool,
        typer.Option(
            "--limit", help="Show the time that a row's operations take at the measured FMA peak."
        ),
    ] = False,
    save: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", show_default=False, help="Keep the results, for --baseline, as --json."
        ),
    ] = None,
    baseline: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            show_default=False,
            help="Compare with the results that --save or --json gave before.",
        ),
    ] = None,
    deepsparse_python: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            show_default="PRUNUS_DEEPSPARSE_PYTHON",
            help="The interpreter that runs deepsparse, which needs an environment of its own.",
        ),
    ] = None,
    json: Json = False,
    csv: Csv = False,
    debug: Debug = False,
) -> None:
    """Time MODEL on several engines in turns, and compare what they answer.

    All engines run in the same minutes with the same threads. The table gives the median with its
    spread, the ratio to the best dense engine, and the largest difference of the outputs. One that
    cannot run here is left out, with the reason.
    """
    from prunus.bench import compare, read_report, save_report

    check_format(json=json, csv=csv)
    settings = {
        "shapes": _shapes(batch, sequence, shape),
        "engines": _engines(engine, deepsparse_python),
        "rounds": rounds,
        "seconds": seconds,
        "limit": limit,
        "deepsparse_python": deepsparse_python,
    }
    earlier = None if baseline is None else read_report(baseline)
    _check_parent(save)
    simulations = options.simulations()
    model = find_model(options)
    with progress() as say:
        opened = _open_all(model, simulations, options, say)
        report = _run(model, simulations, opened, settings, say)
    if earlier is not None:
        report = compare(report, earlier, str(baseline))
    if json:
        print_json(report.to_dict())
    elif csv:
        print(report.to_csv(), end="")
    else:
        print(report.to_markdown(), end="")
    if save is not None:
        save_report(report, save)


def _shapes(batch: str | None, sequence: str | None, shape: str | None) -> tuple[Shape, ...]:
    from prunus.bench import parse_counts, parse_shapes
    from prunus.bench.shapes import all_shapes

    if shape is None:
        return all_shapes(
            parse_counts("1" if batch is None else batch),
            parse_counts("128" if sequence is None else sequence),
        )
    if batch is not None or sequence is not None:
        raise InputError("--shape stands instead of --batch and --sequence; give one or the other")
    return parse_shapes(shape)


def _engines(text: str, deepsparse_python: Path | None) -> tuple[str, ...]:
    from prunus.bench import check_engines

    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    check_engines(names, deepsparse_python)
    return names


def _check_parent(file: Path | None) -> None:
    """A mistyped name is told before the benchmark, not after."""
    if file is not None and (file.is_dir() or not file.absolute().parent.is_dir()):
        raise InputError(f"--save {file}: give the name of a file in a folder that is there")


def _open_all(
    model: Model, simulations: Sequence[Simulation], options: ModelOptions, say: Say
) -> dict[str, CompiledModel]:
    """The model as it is and with each simulation, by the name in the table."""
    say(f"opening {model.name}")
    compile_options = options.compile_options()
    opened = {model.name: model.open(None, compile_options)}
    if simulations:
        _check_dense(model.name, opened[model.name], options)
    for simulation in simulations:
        say(f"opening {model.name}, simulated {simulation}")
        opened[_label(simulation)] = model.open(simulation, compile_options)
    return opened


def _label(simulation: Simulation) -> str:
    return f"simulated {simulation.recipe}"


def _check_dense(name: str, model: CompiledModel, options: ModelOptions) -> None:
    from prunus.frontend.simulate import ALREADY_SPARSE

    zeros = model.explain().linear_zeros
    if zeros > ALREADY_SPARSE and not options.force:
        raise InputError(
            f"the linear weights of {name} are measured to be {100 * zeros:.0f} % zero, so it is "
            "pruned already; leave --simulate out, or pass --force to see both in one table"
        )


def _run(
    model: Model,
    simulations: Sequence[Simulation],
    opened: dict[str, CompiledModel],
    settings: dict[str, Any],
    say: Say,
) -> Report:
    from prunus.bench import run_bench
    from prunus.cache import cache_folder

    loaders = {model.name: model.loader()}
    loaders.update((_label(simulation), model.loader(simulation)) for simulation in simulations)
    return run_bench(
        opened,
        module_loader=loaders,
        vocabulary=opened[model.name].vocabulary,
        density={name: 1 - each.explain().linear_zeros for name, each in opened.items()},
        cache=cache_folder(),
        progress=say,
        **settings,
    )
