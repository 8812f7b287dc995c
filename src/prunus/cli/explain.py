"""`prunus explain`: what was decided for each layer, and why."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prunus.cli.models import Model, find_model
from prunus.cli.options import Debug, Json, ModelOptions, takes_model
from prunus.cli.output import print_json, progress

if TYPE_CHECKING:
    from prunus.frontend.simulate import Simulation
    from prunus.model import CompiledModel
    from prunus.passes import PassRecord

EXAMPLES = (
    "prunus explain huggingface/prunebert-base-uncased-6-finepruned-w-distil-squad",
    "prunus explain stand-in --block 4x1 --threshold 0.8",
    "prunus explain ./my-bert --passes --graph",
    "prunus explain ./my-bert --program",
)


@takes_model
def explain(
    options: ModelOptions,
    passes: Annotated[
        bool,
        typer.Option("--passes", help="First each pass: its changes, the graph before and after."),
    ] = False,
    graph: Annotated[
        bool, typer.Option("--graph", help="Also the graph after all passes.")
    ] = False,
    program: Annotated[
        bool, typer.Option("--program", help="Also the program: all that will run, as planned.")
    ] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Show for each layer of MODEL its zeros, the chosen kernel and the reason.

    Layers that were decided alike share a row. Work and bytes are shares of the whole model, after
    what zeros save. Every step that has no native kernel is named.
    """
    simulation = options.simulation()
    model = find_model(options)
    if passes:
        model.check_module()
    log: list[PassRecord] = []
    with progress() as say:
        say(f"opening {model.name}")
        if passes:
            compiled = _import_anew(model, simulation, options.compile_options(), log)
        else:
            compiled = model.open(simulation, options.compile_options())
    if json:
        texts = {"graph": str(compiled.graph)} if graph else {}
        texts |= {"program": str(compiled.program)} if program else {}
        print_json(_data(compiled, log, passes) | texts)
        return
    if passes:
        print("\n".join(_pass_text(log)))
    print(compiled.explain())
    if graph:
        print(f"\ngraph after all passes:\n{compiled.graph}")
    if program:
        print(f"\n{compiled.program}")


def _import_anew(
    model: Model, simulation: Simulation | None, options: dict[str, Any], log: list[PassRecord]
) -> CompiledModel:
    """Compile the module itself: a graph in the cache has all passes behind it."""
    from prunus.frontend.export import import_module
    from prunus.frontend.simulate import simulated
    from prunus.model import CompiledModel, Source
    from prunus.passes import run_passes
    from prunus.plan import make_options

    with contextlib.redirect_stdout(sys.stderr):
        module = model.module(simulation)
        imported = import_module(module)
    source = Source(model.name, simulated(module))
    after = run_passes(imported.graph, log=log)
    return CompiledModel(after, imported.signature, make_options(**options), source)


def _pass_text(log: Sequence[PassRecord]) -> Iterator[str]:
    """The graph before the first pass, then what each pass did and its graph where it is new."""
    yield f"graph as imported:\n{log[0].before}\n"
    for record in log:
        yield f"pass {record}"
        if record.after is not record.before:
            yield f"graph after {record.name}:\n{record.after}\n"


def _data(compiled: CompiledModel, log: Sequence[PassRecord], passes: bool) -> dict[str, object]:
    data = compiled.explain().to_dict()
    if passes:
        data["passes"] = [
            {
                "name": record.name,
                "notes": record.notes,
                "changed": record.after is not record.before,
                "before": str(record.before),
                "after": str(record.after),
            }
            for record in log
        ]
    return data
