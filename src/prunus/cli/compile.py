"""`prunus compile`: a model once, into a folder that needs neither torch nor transformers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prunus.cli.models import find_model
from prunus.cli.options import Debug, Json, ModelOptions, takes_model
from prunus.cli.output import print_json, progress, size
from prunus.errors import InputError

if TYPE_CHECKING:
    from prunus.ir import Graph

EXAMPLES = (
    "prunus compile ./my-pruned-bert -o ./my-pruned-bert.prunus",
    "prunus compile neuralmagic/oBERT-6-downstream-pruned-block4-90-squadv1 -o obert --block 1x4",
)


@takes_model
def compile(
    options: ModelOptions,
    output: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            metavar="FOLDER",
            show_default=False,
            help="Where to: a new folder, an empty one, or one saved by prunus before.",
        ),
    ],
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Compile MODEL and save it as a folder of data only.

    prunus.load opens that folder, and every command takes it as MODEL. The weights are stored
    without their zeros. Machine code is not part of it: that is made for the processor that it
    runs on, and kept in the cache.
    """
    simulation = options.simulation()
    _refuse_foreign(output)
    model = find_model(options)
    with progress() as say:
        say(f"opening {model.name}")
        compiled = model.open(simulation, options.compile_options())
        say(f"saving {output}")
        compiled.save_pretrained(output)
    files = {path.name: path.stat().st_size for path in sorted(output.iterdir()) if path.is_file()}
    written, dense = sum(files.values()), _dense_bytes(compiled.graph)
    explanation = compiled.explain()
    if json:
        sizes = {"bytes": written, "dense_weight_bytes": dense, "files": files}
        print_json({"folder": str(output), **sizes, "explanation": explanation.to_dict()})
        return
    print(explanation)
    simulated = " (SIMULATED zeros, see above)" if compiled.simulated is not None else ""
    print(f"\nsaved in {output}: {size(written)}; dense weights take {size(dense)}{simulated}")


def _refuse_foreign(folder: Path) -> None:
    """Say so before the work, where saving would."""
    if folder.is_dir():
        if (folder / "prunus.json").is_file() or not any(folder.iterdir()):
            return
        found = "a folder with other things in it"
    elif folder.exists():
        found = "a file"
    else:
        return
    raise InputError(
        f"{folder} is {found}, which prunus leaves as it is; save to a new or an empty folder"
    )


def _dense_bytes(graph: Graph) -> int:
    """What the constants would take, stored with all their zeros."""
    from prunus.ir import DTYPES

    total = 0
    for constant in graph.constants.values():
        count = 1
        for side in constant.type.sizes({}):
            count *= side
        total += count * DTYPES[constant.type.dtype].itemsize
    return total
