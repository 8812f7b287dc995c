"""`prunus run`: one call of a model, its outputs, and whether they are right; or texts answered."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prunus.cli.models import Model, find_model
from prunus.cli.options import Debug, Json, ModelOptions, takes_model
from prunus.cli.output import Say, print_json, progress, table
from prunus.errors import InputError, UnsupportedError

if TYPE_CHECKING:
    from prunus.cli.inputs import Arrays
    from prunus.cli.texts import Asked
    from prunus.frontend.simulate import Simulation
    from prunus.model import CompiledModel

EXAMPLES = (
    "prunus run ./my-sentiment-model --text 'A plum of a film.' --text 'It rained.'",
    "prunus run ./my-squad-model --question 'Who prunes?' --text 'In winter, gardeners do.'",
    "prunus run stand-in --random 1x128 --check",
    "prunus run ./my-pruned-bert --inputs inputs.npz -o outputs.npz",
)

TOLERANCE = 1e-4
"""The largest difference from transformers that counts as the same answer, in float32."""

WRONG_ANSWER = 1


@takes_model
def run(
    options: ModelOptions,
    text: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEXT",
            help="A text to answer, with the tokenizer that came with MODEL; may be repeated.",
        ),
    ] = None,
    question: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="What to look for in each --text."),
    ] = None,
    top_k: Annotated[
        int | None,
        typer.Option(
            min=1,
            show_default="all labels, 1 span, 5 words for a mask",
            help="Answers for each --text, at most.",
        ),
    ] = None,
    truncate: Annotated[
        bool, typer.Option("--truncate", help="Cut a --text that is too long, without an error.")
    ] = False,
    inputs: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Arrays by input name: an .npz file, or lists in a .json file."
        ),
    ] = None,
    random: Annotated[
        str | None,
        typer.Option(metavar="BATCHxTOKENS", help="Random ids of this shape, nothing masked."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="An .npz file for the outputs."),
    ] = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Compare with transformers; exit status 1 above 1e-4."),
    ] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Answer texts, or call MODEL once on arrays and sum up what it answers."""
    simulation = options.simulation()
    if [bool(text), inputs is not None, random is not None].count(True) != 1:
        raise InputError(
            "give the inputs, one kind of --text 'A text', --inputs FILE or --random 1x128"
        )
    if text:
        from prunus.cli.texts import Asked

        if check or output is not None:
            raise InputError(
                "--check and --output are for arrays; texts are compared by `prunus check`, and "
                "their answers printed by --json"
            )
        _answer_texts(options, Asked(text, question, top_k, truncate), json=json)
        return
    if question is not None or top_k is not None or truncate:
        raise InputError("--question, --top-k and --truncate belong to --text: give a text")
    if output is not None and output.suffix != ".npz":
        raise InputError(f"-o {output}: outputs are written as .npz; choose a name that ends so")
    model = find_model(options)
    if check:
        model.check_module()
    with progress() as say:
        say(f"opening {model.name}")
        compiled = model.open(simulation, options.compile_options())
        arrays = _inputs(compiled, inputs, random)
        say(f"running {model.name}")
        outputs = _answer(compiled, arrays)
        difference = _difference(model, simulation, compiled, arrays, say) if check else None
    if output is not None:
        _write(output, outputs)
    same = difference is None or difference <= TOLERANCE  # NaN is not
    if json:
        print_json(_data(compiled, outputs, output, difference))
    else:
        print(_text(compiled, outputs, output, difference))
    if not same:
        raise typer.Exit(WRONG_ANSWER)


def _answer_texts(options: ModelOptions, asked: Asked, *, json: bool) -> None:
    from prunus.cli.texts import answers_data, answers_text
    from prunus.text import TextModel

    found = find_model(options)
    with progress() as say:
        say(f"opening {found.name}")
        model = TextModel(found.open(options.simulation(), options.compile_options()))
        say(f"running {found.name}")
        answers = asked.answers(model)
    if json:
        print_json(answers_data(model, asked, answers))
    else:
        print(answers_text(model, asked, answers))


def _inputs(compiled: CompiledModel, path: Path | None, random: str | None) -> Arrays:
    from prunus.cli.inputs import random_inputs, read_inputs

    return read_inputs(path) if path is not None else random_inputs(compiled, random or "")


def _answer(compiled: CompiledModel, arrays: Arrays) -> Arrays:
    import numpy as np

    from prunus.frontend.arrays import leaves

    return {name: np.asarray(value) for name, value in leaves(compiled(**arrays))}


def _difference(
    model: Model,
    simulation: Simulation | None,
    compiled: CompiledModel,
    arrays: Arrays,
    say: Say,
) -> float:
    """The largest difference from the module itself, which runs in a process of its own."""
    from prunus.bench.difference import largest_difference
    from prunus.bench.engines import Job, make_engine, make_ready
    from prunus.bench.engines.contract import float_arrays

    say("asking transformers")
    engine = make_engine("torch", compiled)
    missing = engine.available()
    if missing is not None:
        raise UnsupportedError(f"--check compares with transformers, which cannot run: {missing}")
    with TemporaryDirectory(prefix="prunus-check-") as folder:
        try:
            make_ready(
                engine, Job(model.loader(simulation), arrays, compiled.threads, Path(folder))
            )
            reference = engine.run(arrays)
        finally:
            engine.close()
    return largest_difference(float_arrays(compiled(**arrays)), reference, arrays)


def _write(path: Path, outputs: Arrays) -> None:
    import numpy as np

    try:
        with path.open("wb") as file:
            np.savez(file, allow_pickle=False, **outputs)
    except OSError as error:
        raise InputError(f"the outputs cannot be written to {path}: {error}") from error


def _data(
    compiled: CompiledModel, outputs: Arrays, path: Path | None, difference: float | None
) -> dict[str, Any]:
    return {
        "model": compiled.source.name,
        "threads": compiled.threads,
        "simulated": compiled.simulated,
        "outputs": {name: _summary(array) for name, array in outputs.items()},
        "written_to": None if path is None else str(path),
        "largest_difference": difference,
        "tolerance": TOLERANCE,
    }


def _summary(array: Any) -> dict[str, Any]:
    summary: dict[str, Any] = {"dtype": str(array.dtype), "shape": list(array.shape)}
    if array.size and array.dtype.kind in "iuf":
        of = {"min": array.min(), "max": array.max(), "mean": array.mean()}
        summary |= {name: value.item() for name, value in of.items()}
    return summary


def _text(
    compiled: CompiledModel, outputs: Arrays, path: Path | None, difference: float | None
) -> str:
    lines = [str(compiled), "", table({name: _line(array) for name, array in outputs.items()})]
    if path is not None:
        lines += ["", f"written to {path}"]
    if difference is not None:
        verdict = "the same answer" if difference <= TOLERANCE else "NOT the same answer"
        lines += [
            "",
            f"largest difference from transformers {difference:.1e}: {verdict} "
            f"(at most {TOLERANCE:.0e})",
        ]
    return "\n".join(lines)


def _line(array: Any) -> str:
    summary = _summary(array)
    values = ", ".join(f"{k} {summary[k]:.4g}" for k in ("min", "max", "mean") if k in summary)
    return f"{summary['dtype']} {summary['shape']}  {values}".rstrip()
