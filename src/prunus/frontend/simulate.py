"""Makes a pruned module of a dense one, to learn what pruning would buy before anyone prunes."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from prunus.errors import InputError
from prunus.sparsity import Block, Method, SparsityRecipe, layer_seed, simulate_weight

if TYPE_CHECKING:
    import torch

Layers = Literal["all", "encoder"]
MARK = "_prunus_simulated"
"""The attribute by which a simulated module says so."""

ALREADY_SPARSE = 0.3
"""A model whose linear weights have more zeros than this is pruned, and simulating on top would
hide its own pattern."""


@dataclass(frozen=True, slots=True)
class Simulation:
    """How to make zeros.

    Attributes:
        recipe: How many and in which blocks.
        seed: Of the random numbers.
        method: "random" places and values, or the "magnitude" of the weights.
        layers: "all" linear weights, or only those of the "encoder" (inside the repeated layers).
        force: Simulate although the model is measured to be pruned.
    """

    recipe: SparsityRecipe
    seed: int = 0
    method: Method = "random"
    layers: Layers = "all"
    force: bool = False

    def __str__(self) -> str:
        scope = "all linear weights" if self.layers == "all" else "the encoder's linear weights"
        return f"{self.recipe} of {scope}, {self.method}, seed {self.seed}"


def simulate(
    module: torch.nn.Module,
    sparsity: float | str = 0.9,
    block: Block | None = None,
    seed: int = 0,
    *,
    method: Method = "random",
    layers: Layers = "all",
    force: bool = False,
) -> torch.nn.Module:
    """A copy of `module` with simulated zeros in its linear weights, marked as simulated.

    Whole blocks are kept or emptied, at least the wanted number of values is stored, and random
    values are uniform in ±0.1 (row 8 of TVM's tutorial). A weight that is also an embedding table
    stays as it is.

    Args:
        module: The model; it is not changed.
        sparsity: The share of zeros, or a whole recipe such as "0.85@16x1".
        block: Rows and columns of a block; None for single weights or what the recipe says.
        seed: The same seed makes the same zeros.
        method: "random" or "magnitude".
        layers: "all" linear weights or the "encoder"'s.
        force: Also where the model is measured to be pruned already.

    Raises:
        InputError: an impossible recipe, no linear layer, or a model that is pruned already.
    """
    recipe = SparsityRecipe.parse(sparsity)
    if block is not None:
        if recipe.block is not None or recipe.n_of_m is not None:
            raise InputError(f"the block is given twice: sparsity={sparsity!r} and block={block!r}")
        recipe = SparsityRecipe(recipe.sparsity, (int(block[0]), int(block[1])), None)
    if method not in ("random", "magnitude"):
        raise InputError(f"method={method!r}: expected 'random' or 'magnitude'")
    if layers not in ("all", "encoder"):
        raise InputError(f"layers={layers!r}: expected 'all' or 'encoder'")
    return apply_simulation(module, Simulation(recipe, seed, method, layers, force))


def apply_simulation(module: torch.nn.Module, simulation: Simulation) -> torch.nn.Module:
    """`simulate` with everything in one object."""
    import torch

    weights = dict(_linear_weights(module, simulation.layers))
    if not weights:
        raise InputError(
            f"{type(module).__name__} has no linear layer to simulate zeros in"
            + (" inside repeated layers; try layers='all'" if simulation.layers != "all" else "")
        )
    zeros = _zeros(weights)
    if zeros > ALREADY_SPARSE and not simulation.force:
        raise InputError(
            f"the linear weights of {type(module).__name__} are {100 * zeros:.0f} % zero already; "
            "simulating would replace its own pattern. Pass force=True (--force) to do so"
        )
    result = copy.deepcopy(module)
    with torch.no_grad():
        for name, weight in _linear_weights(result, simulation.layers):
            made = simulate_weight(
                weight.detach().float().numpy(),
                simulation.recipe,
                seed=layer_seed(simulation.seed, name),
                method=simulation.method,
            )
            weight.copy_(torch.from_numpy(made))
    mark(result, str(simulation))
    return result


def mark(module: torch.nn.Module, description: str) -> None:
    """Let the module say, in every output of prunus, that its weights were made up, and how."""
    setattr(module, MARK, description)


def simulated(module: torch.nn.Module) -> str | None:
    """What was simulated in the module, or None."""
    return getattr(module, MARK, None)


def _zeros(weights: dict[str, torch.Tensor]) -> float:
    total = sum(weight.numel() for weight in weights.values())
    nonzero = sum(int(np.count_nonzero(w.detach().float().numpy())) for w in weights.values())
    return 1 - nonzero / max(total, 1)


def _linear_weights(module: torch.nn.Module, layers: Layers) -> Iterator[tuple[str, torch.Tensor]]:
    """The weights [outputs, inputs] of linear layers by name, without those that are embedding
    tables too. A convolution of a single tap is a linear layer.
    """
    import torch

    tables = {id(m.weight) for m in module.modules() if isinstance(m, torch.nn.Embedding)}
    repeated = tuple(
        f"{name}." for name, m in module.named_modules() if isinstance(m, torch.nn.ModuleList)
    )
    for name, child in module.named_modules():
        is_linear = isinstance(child, torch.nn.Linear) or (
            isinstance(child, torch.nn.Conv1d | torch.nn.Conv2d) and set(child.kernel_size) == {1}
        )
        if not is_linear or id(child.weight) in tables:
            continue
        if layers == "all" or name.startswith(repeated):
            yield f"{name}.weight" if name else "weight", child.weight.flatten(1)
