"""Whether a tokenizer belongs to a model."""

from __future__ import annotations

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
