"""The files that came with a model, as far as texts need them: JSON, and the tokenizer in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunus.errors import CheckpointError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Files = Mapping[str, Path]
"""Paths by file name."""

WHOLE = "tokenizer.json"
VOCABULARY = "vocab.txt"
SETTINGS = "tokenizer_config.json"
SPECIAL = "special_tokens_map.json"
ADDED = "added_tokens.json"

WORD_PIECE = frozenset(
    ["bert", "convbert", "distilbert", "electra", "layoutlm", "mobilebert", "nomicbert"]
)
"""Types of models whose `vocab.txt` is that of BERT; others number or join tokens otherwise."""


def read_object(files: Files, name: str) -> dict[str, Any]:
    """The object in a JSON file, or an empty one where there is no such file.

    Raises:
        CheckpointError: the file holds something else.
    """
    document = read_json(files[name]) if name in files else {}
    if not isinstance(document, dict):
        raise CheckpointError(
            f"{files[name]} holds a {type(document).__name__}, expected an object of JSON"
        )
    return document


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        CheckpointError: it cannot be read.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path} is not readable JSON ({error}): copy it again from the checkpoint"
        ) from error


def load_tokenizer(files: Files) -> Tokenizer:
    """The tokenizer among the files: `tokenizer.json`, or BERT's `vocab.txt` of older checkpoints.

    It neither cuts nor pads, whatever its file says.

    Raises:
        CheckpointError: there is neither, or it cannot be read.
    """
    if WHOLE in files:
        from tokenizers import Tokenizer

        try:
            tokenizer = Tokenizer.from_file(str(files[WHOLE]))
        except Exception as error:  # the library raises plain ones
            raise CheckpointError(
                f"{files[WHOLE]} is no tokenizer that this version of `tokenizers` reads ({error})"
            ) from error
    elif VOCABULARY in files and _kind(files) in WORD_PIECE:
        tokenizer = _word_piece(files)
    else:
        found = ", ".join(sorted(files)) or "none at all"
        raise CheckpointError(
            f"the model came without a tokenizer: looked for {WHOLE}, and for {VOCABULARY} of a "
            f"model such as BERT, found {found}. Save the tokenizer beside the checkpoint with "
            "`AutoTokenizer.from_pretrained(…).save_pretrained(folder)`, then the model again"
        )
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def special_token(files: Files, name: str, default: str) -> str:
    """A special token such as `mask_token`, as the files have it."""
    for file in (SETTINGS, SPECIAL):
        token = read_object(files, file).get(name)
        if isinstance(token, dict):
            token = token.get("content")
        if isinstance(token, str):
            return token
    return default


def _kind(files: Files) -> str:
    """`bert` for a `BertTokenizerFast`, or for a model of that type where no class is named."""
    tokenizer = str(read_object(files, SETTINGS).get("tokenizer_class") or "")
    kind = tokenizer.removesuffix("Fast").removesuffix("Tokenizer")
    kind = kind or str(read_object(files, "config.json").get("model_type") or "")
    return kind.lower().replace("_", "")


def _word_piece(files: Files) -> Tokenizer:
    """BERT's own tokenizer over a list of words, one a line, as transformers would make it."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    path, settings = files[VOCABULARY], read_object(files, SETTINGS)
    unknown, begin, end, padding, mask = (
        special_token(files, f"{name}_token", f"[{name.upper()}]")
        for name in ("unk", "cls", "sep", "pad", "mask")
    )
    try:
        with path.open(encoding="utf-8") as file:
            vocabulary = {line.rstrip("\n"): number for number, line in enumerate(file)}
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}): copy it again") from error
    if missing := [token for token in (unknown, begin, end) if token not in vocabulary]:
        raise CheckpointError(
            f"{path} has no token {missing[0]!r}, expected the vocabulary of a BERT; the special "
            f"tokens may be named in {SPECIAL}"
        )
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=unknown))
    tokenizer.normalizer = normalizers.BertNormalizer(
        lowercase=bool(settings.get("do_lower_case", True)),
        strip_accents=settings.get("strip_accents"),
        handle_chinese_chars=bool(settings.get("tokenize_chinese_chars", True)),
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(
        (end, vocabulary[end]), (begin, vocabulary[begin])
    )
    tokenizer.decoder = decoders.WordPiece()
    known = [token for token in (unknown, begin, end, padding, mask) if token in vocabulary]
    tokenizer.add_special_tokens(known)
    _add_tokens(tokenizer, files)
    return tokenizer


def _add_tokens(tokenizer: Tokenizer, files: Files) -> None:
    """The tokens of `added_tokens.json`, which continue the vocabulary."""
    added = read_object(files, ADDED)
    for token, number in sorted(added.items(), key=lambda item: str(item[1]).zfill(9)):
        tokenizer.add_special_tokens([token])
        if tokenizer.token_to_id(token) != number:
            raise CheckpointError(
                f"{files[ADDED]} numbers {token!r} as {number}, which does not follow the "
                f"vocabulary of {tokenizer.get_vocab_size()}: save the tokenizer as {WHOLE}"
            )
