"""Feed-forward networks that a module computes chunk by chunk, as a whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from prunus.frontend.exclusive import restoring

if TYPE_CHECKING:
    import torch

Result = TypeVar("Result")

CHUNK_SIZE = "chunk_size_feed_forward"


def in_one_chunk(module: torch.nn.Module, work: Callable[[], Result]) -> Result:
    """The result of `work` with `chunk_size_feed_forward` of transformers off in the module;
    afterwards it is as it was, whatever happens.

    Chunks of tokens save memory and change no answer, but the module then takes only lengths that
    are multiples of a chunk, and torch.export only one number of chunks.
    """
    chunked = {
        each: vars(each)[CHUNK_SIZE]
        for each in module.modules()
        if isinstance(vars(each).get(CHUNK_SIZE), int)
    }

    def restore() -> None:
        for each, size in chunked.items():
            vars(each)[CHUNK_SIZE] = size

    def run() -> Result:
        for each in chunked:
            vars(each)[CHUNK_SIZE] = 0
        return work()

    return restoring(run, restore)
