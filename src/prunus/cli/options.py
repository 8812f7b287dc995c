"""Options that several commands share, declared once."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Concatenate, Literal, TypeVar, get_type_hints

import typer

from prunus.errors import InputError

if TYPE_CHECKING:
    from prunus.frontend.simulate import Simulation

_FINDING = "Finding the model"
_COMPILING = "Compiling"
_SIMULATING = "Simulated zeros"
_DEBUG = "prunus.debug"


def _remember_debug(context: typer.Context, wanted: bool) -> bool:
    context.meta[_DEBUG] = wanted
    return wanted


def is_debugging(context: typer.Context) -> bool:
    """Whether the command that runs was given `--debug`."""
    return bool(context.meta.get(_DEBUG))


Json = Annotated[
    bool, typer.Option("--json", help="Print JSON for machines, and nothing else, on stdout.")
]
Csv = Annotated[
    bool, typer.Option("--csv", help="Print the rows as CSV, and nothing else, on stdout.")
]
Debug = Annotated[
    bool,
    typer.Option("--debug", help="Show where an error comes from.", callback=_remember_debug),
]


Tune = Literal["race", "cost"]
Method = Literal["random", "magnitude"]
Layers = Literal["all", "encoder"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HubOptions:
    """Where on the hub to find a model."""

    revision: Annotated[
        str | None,
        typer.Option(rich_help_panel=_FINDING, help="Branch, tag or commit on the hub."),
    ] = None
    token: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=_FINDING,
            help="Token for a private or gated model; other users can see it here, HF_TOKEN not.",
        ),
    ] = None
    subfolder: Annotated[
        str | None,
        typer.Option(rich_help_panel=_FINDING, help="Folder of the model in its repository."),
    ] = None
    local_files_only: Annotated[
        bool,
        typer.Option(
            "--local-files-only", rich_help_panel=_FINDING, help="Do not ask the hub for anything."
        ),
    ] = False

    def hub_options(self) -> dict[str, Any]:
        """The arguments that find a model on the hub, by name."""
        return {
            "revision": self.revision,
            "token": self.token,
            "subfolder": self.subfolder,
            "local_files_only": self.local_files_only,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointOptions(HubOptions):
    """Which files to look at, for a command that compiles nothing."""

    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            show_default=False,
            help="A name on the Hugging Face hub, the folder of a checkpoint, or a folder saved by "
            "prunus.",
        ),
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOptions(HubOptions):
    """Which model to open, and how to compile it."""

    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            show_default=False,
            help="A name on the Hugging Face hub, the folder of a checkpoint, or a folder saved by "
            "prunus. Without a download: 'stand-in', a made-up BERT-base with zeros where "
            "PruneBERT has them, or 'random:0.9' and 'random:0.85@16x1', with random zeros.",
        ),
    ]
    threads: Annotated[
        int | None,
        typer.Option(
            "-t",
            "--threads",
            rich_help_panel=_COMPILING,
            show_default="physical cores that this process may use",
            help="Threads of every call.",
        ),
    ] = None
    target: Annotated[
        str,
        typer.Option(
            rich_help_panel=_COMPILING,
            help="The processor: 'native', or in LLVM's words 'llvm -mcpu=haswell'.",
        ),
    ] = "native"
    dense: Annotated[
        bool,
        typer.Option(
            "--dense", rich_help_panel=_COMPILING, help="Skip no zeros: the dense baseline."
        ),
    ] = False
    block: Annotated[
        str,
        typer.Option(
            rich_help_panel=_COMPILING,
            help="Rows x columns of a sparse block, such as 4x1, or 'auto'.",
        ),
    ] = "auto"
    threshold: Annotated[
        str,
        typer.Option(
            rich_help_panel=_COMPILING,
            help="Sparse exactly where this share of the blocks is empty, or 'auto' by cost.",
        ),
    ] = "auto"
    tune: Annotated[
        Tune,
        typer.Option(
            rich_help_panel=_COMPILING,
            help="Time the closest kernels on the real weights, or trust the cost model.",
        ),
    ] = "race"
    simulate: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RECIPE",
            rich_help_panel=_SIMULATING,
            help="Prune a dense model first, to learn what zeros would buy: 0.9, in blocks "
            "0.85@16x1, N of M 0.5@2:4.",
        ),
    ] = None
    simulate_method: Annotated[
        Method,
        typer.Option(
            rich_help_panel=_SIMULATING,
            help="Random places and values, or the largest weights of the model.",
        ),
    ] = "random"
    simulate_layers: Annotated[
        Layers,
        typer.Option(
            rich_help_panel=_SIMULATING, help="All linear weights, or those of the encoder."
        ),
    ] = "all"
    seed: Annotated[
        int,
        typer.Option(
            min=0, rich_help_panel=_SIMULATING, help="Of simulated zeros and of stand-ins."
        ),
    ] = 0
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Go on where prunus would stop: replace files that are there, simulate although "
            "the model is measured to be pruned already.",
        ),
    ] = False

    def compile_options(self) -> dict[str, Any]:
        """The arguments of `prunus.compile` that these options stand for."""
        return {
            "sparse": not self.dense,
            "block": self.block,
            "threshold": self.threshold,
            "target": self.target,
            "threads": self.threads,
            "tune": self.tune,
        }

    def simulations(self) -> tuple[Simulation, ...]:
        """The simulations asked for, each once. Raises `InputError` for a bad recipe."""
        if not self.simulate:
            return ()
        from prunus.frontend.simulate import Simulation
        from prunus.sparsity import SparsityRecipe

        recipes = dict.fromkeys(SparsityRecipe.parse(text) for text in self.simulate)
        method, layers = self.simulate_method, self.simulate_layers
        return tuple(
            Simulation(recipe, self.seed, method, layers, self.force) for recipe in recipes
        )

    def simulation(self) -> Simulation | None:
        """The one simulation asked for, if any. Raises `InputError` for several."""
        several = self.simulations()
        if len(several) > 1:
            raise InputError(
                f"--simulate is given {len(several)} times; this command opens one model, so give "
                "it once (prunus bench takes several)"
            )
        return several[0] if several else None


Options = TypeVar("Options", bound=HubOptions)


def takes_model(command: Callable[Concatenate[Options, ...], None]) -> Callable[..., None]:
    """A command whose first argument collects MODEL and its options, as Typer wants to see it.

    Typer reads the signature, so the fields of that argument's class take its place in it, behind
    the options of the command itself.
    """
    first, *own = inspect.signature(command, eval_str=True).parameters.values()
    hints = get_type_hints(first.annotation, include_extras=True)
    shared = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty
            if field.default is dataclasses.MISSING
            else field.default,
            annotation=hints[field.name],
        )
        for field in dataclasses.fields(first.annotation)
    ]
    own = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own]

    @functools.wraps(command)
    def collected(**given: Any) -> None:
        options = first.annotation(**{each.name: given.pop(each.name) for each in shared})
        command(options, **given)

    vars(collected)["__signature__"] = inspect.Signature([*own, *shared])
    return collected
