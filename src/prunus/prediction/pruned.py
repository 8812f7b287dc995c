"""A graph with other zeros in its linear layers: what a recipe makes of a model, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunus.errors import InputError
from prunus.ir import Constant, Graph, Node, product
from prunus.model import CompiledModel, Source
from prunus.passes.merge_qkv import merged_names
from prunus.prediction.predictor import Layer
from prunus.sparsity import BlockSparse, Method, SparsityRecipe, layer_seed, simulate_weight

Floats = NDArray[np.floating[Any]]


def find_layers(graph: Graph) -> tuple[Layer, ...]:
    """The linear layers whose weights can be pruned, in order: not those that are tables too.

    Raises:
        InputError: there is none.
    """
    read_otherwise = {
        name
        for node in graph.nodes
        for position, name in enumerate(node.inputs)
        if (node.op, position) != ("linear", 1)
    } | set(graph.outputs)
    layers = tuple(
        _layer(node, name, graph.constants[name])
        for node in graph.nodes
        if node.op == "linear"
        and (name := node["weight"]) in graph.constants
        and name not in read_otherwise
    )
    if not layers:
        raise InputError(
            "the model has no linear layer whose weight could be pruned, so there is nothing to "
            "predict; give an encoder of transformers, or a module with nn.Linear"
        )
    return layers


def _layer(node: Node, name: str, weight: Constant) -> Layer:
    outputs, inputs = weight.type.sizes({})
    tokens = str(product(node.type.shape[:-1]))
    return Layer(
        name, outputs, inputs, node.attrs.activation, node.get("residual") is not None, tokens
    )


def prune(
    graph: Graph, recipes: Mapping[str, SparsityRecipe], method: Method = "random", seed: int = 0
) -> Graph:
    """The graph with zeros in these weights, by name; the others keep their own.

    Of layers that the compiler joined (query, key and value), "magnitude" prunes each by itself.
    """
    made = {
        name: pruned_weight(
            graph.constants[name], recipe, method, layer_seed(seed, name), len(merged_names(name))
        )
        for name, recipe in recipes.items()
    }
    return replace(graph, constants={**graph.constants, **made})


def pruned_model(
    model: CompiledModel, recipe: SparsityRecipe, method: Method = "random", seed: int = 0
) -> CompiledModel:
    """The model with zeros in all of its linear weights, compiled so that they are skipped."""
    recipes = {layer.name: recipe for layer in find_layers(model.graph)}
    graph = prune(model.graph, recipes, method, seed)
    source = Source(model.source.name, f"{recipe} of all linear weights, {method}")
    return CompiledModel(graph, model.signature, replace(model.options, sparse=True), source)


def pruned_weight(
    weight: Constant, recipe: SparsityRecipe, method: Method, seed: tuple[int, ...], parts: int = 1
) -> Constant:
    """One weight under a recipe, stored in the blocks that the recipe speaks of. What is smallest
    is sought in each of so many `parts` that lie below one another.
    """
    simulate = partial(simulate_weight, recipe=recipe, seed=seed, method=method)
    if method == "magnitude":
        made = np.concatenate([simulate(each) for each in separate(weight.dense(), parts)])
    else:
        made = simulate(_of_shape(weight))
    return Constant(BlockSparse.from_dense(made, recipe.block or (1, 1)))


def separate(weight: Floats, parts: int) -> list[Floats]:
    """The matrices [outputs ÷ parts, inputs] that lie below one another in a weight."""
    return np.split(weight, parts) if len(weight) % parts == 0 else [weight]


def _of_shape(weight: Constant) -> Floats:
    """An array of the weight's shape that takes no memory: random zeros look at nothing else."""
    return np.broadcast_to(np.float32(0), weight.type.sizes({}))
