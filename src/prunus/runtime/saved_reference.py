"""References to saved models: what travels to other processes in place of weights."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from prunus.identity import identity
from prunus.ir import Graph, print_graph
from prunus.runtime.saved_constants import split_constants
from prunus.runtime.saved_description import DESCRIPTION


@dataclass(frozen=True, slots=True)
class Reference:
    """A saved model by its place.

    Attributes:
        folder: Where it is, absolute.
        digest: SHA-256 of its description, which holds that of its weights.
    """

    folder: Path
    digest: str

    @staticmethod
    def of(folder: Path) -> Reference | None:
        """The reference to what is saved there, or None where nothing is."""
        try:
            description = (folder / DESCRIPTION).read_bytes()
        except OSError:
            return None
        return Reference(folder.absolute(), hashlib.sha256(description).hexdigest())

    @property
    def holds(self) -> bool:
        """Whether the same model is still there."""
        return Reference.of(self.folder) == self


def content_digest(graph: Graph, signature: dict[str, Any]) -> str:
    """What tells a model from every other that would be saved differently, whatever its name.

    SHA-256, hexadecimal; a gigabyte of weights takes about a second.
    """
    digest = hashlib.sha256(print_graph(graph).encode())
    digest.update(json.dumps(signature, sort_keys=True).encode())
    tensors, stored = split_constants(graph.constants)
    digest.update(identity(stored).encode())
    for name, tensor in tensors.items():
        digest.update(f"{name} {tensor.dtype} {tensor.shape}".encode())
        digest.update(tensor.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
