"""What MODEL on the command line stands for: a checkpoint, a saved folder, or a stand-in."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunus.cli.options import ModelOptions
from prunus.errors import InputError, UnsupportedError
from prunus.identity import identity

if TYPE_CHECKING:
    from prunus.frontend.hub import Checkpoint
    from prunus.frontend.simulate import Simulation
    from prunus.model import CompiledModel
    from prunus.sparsity import SparsityRecipe

STAND_IN = "stand-in"
RANDOM = "random:"


class Model(ABC):
    """A model that was found, not yet opened."""

    @property
    @abstractmethod
    def name(self) -> str:
        """For people."""

    @abstractmethod
    def module(self, simulation: Simulation | None = None) -> Any:
        """The `torch.nn.Module`, with zeros simulated in it where asked for.

        Raises:
            UnsupportedError: there is none.
        """

    @property
    def missing_module(self) -> str | None:
        """Why there is no module to make; None where there is one."""
        return None

    def check_module(self) -> None:
        """As `module`, but only the error, and at once."""
        if self.missing_module is not None:
            raise UnsupportedError(self.missing_module)

    @abstractmethod
    def compile(self, simulation: Simulation | None, options: dict[str, Any]) -> CompiledModel:
        """The compiled model, from the cache where it can be."""

    def open(self, simulation: Simulation | None, options: dict[str, Any]) -> CompiledModel:
        """As `compile`, with nothing printed on standard output by the libraries on the way."""
        with contextlib.redirect_stdout(sys.stderr):
            return self.compile(simulation, options)

    def loader(self, simulation: Simulation | None = None) -> ModuleLoader:
        """Makes the module in another process, which gets this object."""
        return ModuleLoader(self, simulation, self.key(simulation))

    def key(self, simulation: Simulation | None) -> str | None:
        """What tells the module from every other, where that is known without making it."""
        return None


@dataclass(frozen=True, slots=True)
class ModuleLoader:
    """Makes the module of a model that was found; `key` as there."""

    model: Model
    simulation: Simulation | None
    key: str | None

    def __call__(self) -> Any:
        """The `torch.nn.Module`."""
        return self.model.module(self.simulation)


@dataclass(frozen=True, slots=True)
class CheckpointModel(Model):
    """A folder of transformers, perhaps in the cache of the hub."""

    checkpoint: Checkpoint

    @property
    def name(self) -> str:
        """As it was asked for."""
        return self.checkpoint.name

    def module(self, simulation: Simulation | None = None) -> Any:
        """The module that the checkpoint's configuration names."""
        from prunus.frontend.checkpoint import load_module

        return _simulated(load_module(self.checkpoint), simulation)

    def key(self, simulation: Simulation | None) -> str | None:
        """Its commit or a digest of its files, what was made up, and the code that does it."""
        from prunus.api import import_version

        return f"{import_version()} {self.checkpoint.fingerprint()} {identity(simulation)}"

    def compile(self, simulation: Simulation | None, options: dict[str, Any]) -> CompiledModel:
        """The second time, the imported graph comes from the cache, without torch."""
        from prunus.api import open_checkpoint

        return open_checkpoint(self.checkpoint, simulation=simulation, **options)


@dataclass(frozen=True, slots=True)
class StandIn(Model):
    """A model made on the spot: zeros as in PruneBERT, or random ones by a recipe."""

    recipe: SparsityRecipe | None
    seed: int

    @property
    def name(self) -> str:
        """A name that no checkpoint has."""
        return STAND_IN if self.recipe is None else f"{RANDOM}{self.recipe}"

    def module(self, simulation: Simulation | None = None) -> Any:
        """A BERT-base for question answering that is marked as made up."""
        from prunus.frontend import stand_in
        from prunus.frontend.simulate import mark, simulated

        if self.recipe is None:
            module = stand_in.prunebert_stand_in(seed=self.seed)
        else:
            module = stand_in.random_bert(
                sparsity=self.recipe.sparsity, block=self.recipe.block or (1, 1), seed=self.seed
            )
        if simulation is None:
            return module
        made_up = simulated(module)
        module = _simulated(module, simulation)
        mark(module, f"{made_up}, and then {simulation}")
        return module

    def compile(self, simulation: Simulation | None, options: dict[str, Any]) -> CompiledModel:
        """Made and imported anew each time."""
        import prunus

        compiled = prunus.compile(self.module(simulation), **options)
        compiled.source = dataclasses.replace(compiled.source, name=self.name)
        return compiled


@dataclass(frozen=True, slots=True)
class SavedFolder(Model):
    """What `save_pretrained` wrote: a graph, with no module behind it."""

    folder: Path

    @property
    def name(self) -> str:
        """The folder."""
        return str(self.folder)

    @property
    def missing_module(self) -> str:
        """What to give instead."""
        return (
            f"{self.folder} was saved by prunus and holds no PyTorch module, which is needed here; "
            "give the checkpoint that it was made from"
        )

    def module(self, simulation: Simulation | None = None) -> Any:
        """There is none."""
        raise UnsupportedError(self.missing_module)

    def compile(self, simulation: Simulation | None, options: dict[str, Any]) -> CompiledModel:
        """Needs neither torch nor transformers."""
        from prunus.api import load

        if simulation is not None:
            self.check_module()
        return load(self.folder, **options)


def find_model(options: ModelOptions) -> Model:
    """The model that the options name, downloaded where need be, but not yet opened.

    Raises:
        InputError: options that cannot be used, alone or with this kind of model.
        CheckpointError: there is no such model.
    """
    from prunus.plan import make_options

    make_options(**options.compile_options())  # a typing error is told before a long download
    options.simulations()
    if options.model == STAND_IN or options.model.startswith(RANDOM):
        _refuse_hub_options(options, f"{options.model} is made on the spot")
        return StandIn(_random_recipe(options.model), options.seed)
    folder = Path(os.path.expanduser(options.model))
    if (folder / "prunus.json").is_file():
        _refuse_hub_options(options, f"{options.model} is a folder saved by prunus")
        return SavedFolder(folder)
    from prunus.frontend import hub

    return CheckpointModel(hub.resolve(options.model, **options.hub_options()))


def _random_recipe(name: str) -> SparsityRecipe | None:
    if name == STAND_IN:
        return None
    from prunus.sparsity import SparsityRecipe

    recipe = SparsityRecipe.parse(name.removeprefix(RANDOM))
    if recipe.n_of_m is not None:
        raise InputError(
            f"{name}: random weights come with single zeros or blocks, as in random:0.85@16x1; for "
            f"N:M write random:0 --simulate {recipe}"
        )
    return recipe


def _refuse_hub_options(options: ModelOptions, reason: str) -> None:
    given = [name for name, value in options.hub_options().items() if value]
    if given:
        raise InputError(f"{reason}, so --{given[0].replace('_', '-')} means nothing; leave it out")


def _simulated(module: Any, simulation: Simulation | None) -> Any:
    if simulation is None:
        return module
    from prunus.frontend.simulate import apply_simulation

    return apply_simulation(module, simulation)
