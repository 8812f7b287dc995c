"""The files that came with a model, as far as texts need them: JSON, and the tokenizer in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from prunus.documents import MAX_BYTES, MAX_DEPTH, is_deep, why_unreadable
from prunus.errors import CheckpointError
from prunus.text.panics import guarded
from prunus.text.special_tokens import SpecialTokens
from prunus.text.tokenizer_classes import (
    CLASSES,
    bert_normalizer,
    check_settings,
    class_name,
    read_flag,
)
from prunus.text.tokenizer_rules import check_tokenizer

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


LEFT_PADDING = tuple(
    f"{kind}Tokenizer{fast}"
    for kind in ("CodeLlama", "Cohere", "Gemma", "Llama", "Siglip2", "XLNet")
    for fast in ("", "Fast")
)
"""Classes of transformers 5 that pad at the left where no file says otherwise."""


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
    """What a JSON file holds. Its strings are valid Unicode, and its numbers finite.

    Raises:
        CheckpointError: it cannot be read, is larger than 64 MiB, or nested deeper than 64.
    """
    try:
        text = _read_text(path)
        document = json.loads(text, parse_constant=_refuse_constant)
        if "\\ud" in text.lower():  # half of a pair of escapes is no letter
            json.dumps(document, ensure_ascii=False).encode()
    except PermissionError as error:
        raise CheckpointError(f"{path} cannot be read: {why_unreadable(error)}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path} is not readable JSON ({error}): copy it again from the checkpoint"
        ) from error
    if is_deep(document):  # `repr` and the parser of the library could not follow
        raise CheckpointError(
            f"{path} is nested deeper than {MAX_DEPTH} levels: copy it again from the checkpoint"
        )
    return document


Side = Literal["left", "right"]


@dataclass(frozen=True, slots=True)
class Sides:
    """Where texts are padded, and where those that are too long are cut.

    Attributes:
        padding: The side of the padding.
        truncation: The side where tokens are left out.
    """

    padding: Side = "right"
    truncation: Side = "right"


def load_tokenizer(files: Files) -> Tokenizer:
    """The tokenizer among the files; see `load_with_sides`."""
    return load_with_sides(files)[0]


def load_with_sides(files: Files) -> tuple[Tokenizer, Sides]:
    """The tokenizer among the files: `tokenizer.json`, or BERT's `vocab.txt` of older checkpoints.

    It neither cuts nor pads by itself, whatever its file says. The sides for that are those of
    `tokenizer_config.json`, else those of `tokenizer.json`, else those of the class of
    transformers.

    Raises:
        CheckpointError: there is neither, or it cannot be read, or it holds what could end the
            process (`tokenizer_rules.py`).
    """
    if WHOLE in files:
        document = read_object(files, WHOLE)
        return _whole(files, document), _sides(files, document)
    if VOCABULARY in files and _kind(files) in WORD_PIECE:
        return _word_piece(files), _sides(files, {})
    found = ", ".join(sorted(files)) or "none at all"
    raise CheckpointError(
        f"the model came without a tokenizer: looked for {WHOLE}, and for {VOCABULARY} of a "
        f"model such as BERT, found {found}. Save the tokenizer beside the checkpoint with "
        "`AutoTokenizer.from_pretrained(…).save_pretrained(folder)`, then the model again"
    )


def special_token(files: Files, name: str, default: str) -> str:
    """A special token such as `mask_token`, as the files have it.

    The map of special tokens comes first, but is not read beside settings that list all tokens.
    """
    settings = read_object(files, SETTINGS)
    is_listed = settings.get("added_tokens_decoder") is not None
    for found in ({} if is_listed else read_object(files, SPECIAL), settings):
        token = found.get(name)
        if isinstance(token, dict):
            token = token.get("content")
        if isinstance(token, str):
            return token
    return default


def _read_text(path: Path) -> str:
    if (size := path.stat().st_size) > MAX_BYTES:
        raise ValueError(f"it has {size} bytes, expected {MAX_BYTES} at most")
    return path.read_text(encoding="utf-8")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number in JSON")


def _sides(files: Files, document: Mapping[str, Any]) -> Sides:
    settings = read_object(files, SETTINGS)
    found: dict[str, Side] = {}
    for name in ("padding", "truncation"):
        part = document.get(name)
        is_left = name == "padding" and settings.get("tokenizer_class") in LEFT_PADDING
        own = "Left" if is_left else "Right"
        if isinstance(part, dict):
            own = part.get("direction", "Right")
        side = settings.get(f"{name}_side", str(own).lower())
        if side not in ("left", "right"):
            raise CheckpointError(
                f"{SETTINGS} has the {name}_side {side!r:.40}, expected 'left' or 'right': "
                "correct it"
            )
        found[name] = side
    return Sides(**found)


def _whole(files: Files, document: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer in `tokenizer.json`, as its class in transformers has it with its settings.

    The library gets the document that was checked, written again: a key that is there twice, say,
    would otherwise be read as one value here and as another there.
    """
    from tokenizers import Tokenizer

    path = files[WHOLE]
    try:
        check_tokenizer(document)
    except CheckpointError as error:
        raise CheckpointError(
            f"{path} {error}: copy it again from the checkpoint, or save the tokenizer again"
        ) from error
    settings = read_object(files, SETTINGS)
    if read_flag(settings, "split_special_tokens", False):
        raise CheckpointError(
            f"{SETTINGS} has split_special_tokens = true, with which a special token in a text is "
            "split like any other word; prunus keeps it whole, so set it to false"
        )
    name = class_name(settings, read_object(files, "config.json"))
    made = CLASSES.get(name)
    if made is not None and document["model"].get("type", made.model) != made.model:
        made = None  # another model than the class has: nothing but the file tells what it does
    special = SpecialTokens.read(
        document,
        settings,
        read_object(files, SPECIAL),
        read_object(files, ADDED),
        {} if made is None else made.tokens,
    )
    if made is None:
        check_settings(name, document, settings)
    else:
        document = made.prepare(document, special, settings)

    tokenizer = guarded(
        lambda reason: CheckpointError(
            f"{path} is no tokenizer that this version of `tokenizers` reads ({reason}): copy it "
            "again from the checkpoint, or upgrade tokenizers"
        ),
        Tokenizer.from_str,
        json.dumps({**document, "truncation": None, "padding": None}),
    )
    special.add_to(tokenizer)
    if made is not None:
        made.finish(tokenizer, special, settings)
    return tokenizer


def _kind(files: Files) -> str:
    """`bert` for a `BertTokenizerFast`, or for a model of that type where no class is named."""
    tokenizer = str(read_object(files, SETTINGS).get("tokenizer_class") or "")
    kind = tokenizer.removesuffix("Fast").removesuffix("Tokenizer")
    kind = kind or str(read_object(files, "config.json").get("model_type") or "")
    return kind.lower().replace("_", "")


def _word_piece(files: Files) -> Tokenizer:
    """BERT's own tokenizer over a list of words, one a line, as transformers would make it."""
    path = files[VOCABULARY]
    unknown, begin, end, padding, mask = (
        special_token(files, f"{name}_token", f"[{name.upper()}]")
        for name in ("unk", "cls", "sep", "pad", "mask")
    )
    try:
        lines = _read_text(path).removesuffix("\n").split("\n")
    except PermissionError as error:
        raise CheckpointError(f"{path} cannot be read: {why_unreadable(error)}") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}): copy it again") from error
    vocabulary = {line: number for number, line in enumerate(lines)}
    if missing := [token for token in (unknown, begin, end) if token not in vocabulary]:
        raise CheckpointError(
            f"{path} has no token {missing[0]!r:.60}, expected the vocabulary of a BERT; the "
            f"special tokens may be named in {SPECIAL}"
        )
    tokenizer = _assembled(vocabulary, unknown, begin, end, read_object(files, SETTINGS))
    known = [token for token in (unknown, begin, end, padding, mask) if token in vocabulary]
    tokenizer.add_special_tokens(known)
    _add_tokens(tokenizer, files)
    return tokenizer


def _assembled(
    vocabulary: dict[str, int], unknown: str, begin: str, end: str, settings: Mapping[str, Any]
) -> Tokenizer:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=unknown))
    tokenizer.normalizer = bert_normalizer(settings)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(
        (end, vocabulary[end]), (begin, vocabulary[begin])
    )
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def _add_tokens(tokenizer: Tokenizer, files: Files) -> None:
    """The tokens of `added_tokens.json`, which continue the vocabulary."""
    added = read_object(files, ADDED)
    for token, number in sorted(added.items(), key=lambda item: str(item[1]).zfill(9)):
        tokenizer.add_special_tokens([token])
        if tokenizer.token_to_id(token) != number:
            raise CheckpointError(
                f"{files[ADDED]} numbers {token!r:.60} as {number!r:.40}, which does not follow "
                f"the vocabulary of {tokenizer.get_vocab_size()}: save the tokenizer as {WHOLE}"
            )
