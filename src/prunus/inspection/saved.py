"""A folder that `save_pretrained` wrote: its graph says what every tensor is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from prunus.inspection.roles import Heads, Place, Role
from prunus.inspection.tensors import InMemory
from prunus.ir import Graph
from prunus.passes.heads import ROLES, layer_behind
from prunus.runtime.saved import SavedModel, load_model
from prunus.runtime.saved_constants import split_constants

Entry = tuple[str, InMemory, Place, Heads | None]


def saved_entries(folder: Path) -> tuple[SavedModel, Iterator[Entry]]:
    """The model, and each of its constants with what it is; a sparse one is expanded when its turn
    comes.

    Raises:
        SavedModelError: the folder is damaged, or of a newer version.
    """
    model = load_model(folder)
    return model, _entries(model.graph)


def _entries(graph: Graph) -> Iterator[Entry]:
    linear = {node["weight"] for node in graph.nodes if node.op == "linear"}
    tables = {
        str(name) for node in graph.nodes if node.op == "embedding" for name in node.inputs[::2]
    }
    heads = _heads(graph)
    for name, constant in graph.constants.items():
        stored, _ = split_constants({name: constant})
        dense = constant.dense()
        role: Role = "linear" if name in linear else "embedding" if name in tables else "other"
        place = Place(role, None if role == "other" else (dense.shape[0], dense.shape[1]))
        if role == "other" and dense.dtype.kind == "f":
            dense = np.where(np.isinf(dense), 1, dense)  # a mask's infinity is sound, and no zero
        nbytes = sum(part.nbytes for part in stored.values())
        yield name, InMemory.of(np.ascontiguousarray(dense), nbytes), place, heads.get(name)


def _heads(graph: Graph) -> dict[str, Heads]:
    """How heads lie in the weights around every attention."""
    producers, users = graph.producers(), graph.users()
    found: dict[str, Heads] = {}
    for node in graph.nodes:
        if node.op != "attention":
            continue
        count = int(node.attrs.heads)
        layers = [layer_behind(node[role], producers) for role in ROLES]
        names = [layer[0]["weight"] for layer in layers if layer is not None]
        for name in names:
            found[name] = Heads(0, count, names.count(name))
        readers = users.get(node.name, [])
        if len(readers) == 1 and readers[0].op == "linear":
            found[readers[0]["weight"]] = Heads(1, count)
    return found
