"""What a model can take of a text: its vocabulary and its length, beside those of a tokenizer."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from prunus.errors import InputError

if TYPE_CHECKING:
    from prunus.model import CompiledModel


def check_vocabulary(compiled: CompiledModel, tokenizer: Any) -> None:
    """Insist on a tokenizer whose ids the model knows.

    Raises:
        InputError: it has more tokens than the model's embedding table has rows.
    """
    known = compiled.vocabulary
    if known is not None and len(tokenizer) > known:
        raise InputError(
            f"the tokenizer has {len(tokenizer)} tokens, but the embedding table of "
            f"{compiled.source.name} has {known} rows: pass the tokenizer that the model was "
            "trained with"
        )


def longest_text(compiled: CompiledModel) -> int:
    """The tokens that a text may have, as far as the model says."""
    length = compiled.graph.inputs["input_ids"].shape[-1]
    return (
        length if isinstance(length, int) else compiled.graph.limits.get(str(length), sys.maxsize)
    )
