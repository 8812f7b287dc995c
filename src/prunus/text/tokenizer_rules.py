"""What a `tokenizer.json` may hold, checked before the library `tokenizers` sees it.

The library raises on most mistakes and panics on others, which can be caught (`panics.py`). The
rules here refuse what cannot be caught, as it ends the process or never returns: an allocation that
a file asks for, text that grows with each step, a template that repeats its text, merges that cut a
letter in two.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from typing import Any

from prunus.errors import CheckpointError

_MAX_LETTERS = 1 << 23
"""Letters of all tokens together; 262,144 tokens have about 2 million. A trie of tokens takes some
150 bytes for a letter."""

_MAX_ID = 1 << 22  # the largest vocabulary known has 901,629 tokens
_MAX_HOLES = 1 << 16
"""Ids without a token, beyond as many as there are tokens. Writing a tokenizer lists them all."""

_MAX_STEPS = 64  # of normalizing, splitting, framing and decoding; real tokenizers have up to 12
_MAX_PATTERN = 10_000  # letters of a regular expression; the longest known has about 1,000
_MAX_PIECE = 64  # letters that a step adds, and pieces or ids of a template
_MAX_WORD = 10_000  # letters of a word for WordPiece, whose time is quadratic; BERT has 100
_MAX_GROWTH = 16
"""How many times longer a text may become. A chain of replacements multiplies: four of 1,000
letters each would make 10^12 of one."""

_COMPONENTS = ("normalizer", "pre_tokenizer", "post_processor", "decoder")
_CHILDREN = ("normalizers", "pretokenizers", "processors", "decoders")


def check_tokenizer(document: Mapping[str, Any]) -> None:
    """Refuse a `tokenizer.json` that could end the process or run for ever.

    Raises:
        CheckpointError: says which part, and what was expected; not of which file.
    """
    _check_tokens(document)
    growth = 1.0
    steps = [(name, step) for name in _COMPONENTS for step in steps_of(document.get(name))]
    _expect(len(steps) <= _MAX_STEPS, f"has {len(steps)} steps", f"{_MAX_STEPS} at most")
    for name, step in steps:
        _check_step(step)
        if name in ("normalizer", "pre_tokenizer"):
            growth *= _growth(step)
    _expect(
        growth <= _MAX_GROWTH,
        f"makes a text up to {growth:.3g} times longer by its replacements",
        f"{_MAX_GROWTH} times at most",
    )


def _check_tokens(document: Mapping[str, Any]) -> None:
    added, model = document.get("added_tokens") or [], document.get("model")
    if not isinstance(model, dict):
        raise CheckpointError(f"has the model {model!r:.40}, expected an object")
    if not isinstance(added, list) or not all(isinstance(each, dict) for each in added):
        raise CheckpointError(f"has the added_tokens {added!r:.40}, expected a list of objects")
    vocabulary = model.get("vocab", {})
    if isinstance(vocabulary, dict):
        tokens, ids = list(vocabulary), list(vocabulary.values())
    elif isinstance(vocabulary, list):  # of a Unigram: pairs of token and score, in order
        tokens, ids = (
            [each[0] if isinstance(each, list) and each else each for each in vocabulary],
            [],
        )
    else:
        raise CheckpointError(f"has the vocab {vocabulary!r:.40}, expected an object or a list")
    tokens += [each.get("content") for each in added]
    ids += [each.get("id") for each in added]
    # Messages are made for what is wrong alone: a vocabulary has up to a million tokens.
    if wrong := [each for each in tokens if type(each) is not str]:
        raise CheckpointError(f"has the token {wrong[0]!r:.40}, expected a string")
    limit = min(_MAX_ID, 2 * len(tokens) + _MAX_HOLES)
    if wrong := [each for each in ids if not _is_count(each, limit)]:
        raise CheckpointError(f"has the id {wrong[0]!r:.40}, expected 0 to {limit}")
    letters = sum(map(len, tokens))
    _expect(letters <= _MAX_LETTERS, f"has tokens of {letters} letters", f"{_MAX_LETTERS} at most")
    _check_model(model)


def _check_model(model: Mapping[str, Any]) -> None:
    longest = model.get("max_input_chars_per_word", 100)
    _expect(
        _is_count(longest, _MAX_WORD),
        f"has max_input_chars_per_word {longest!r:.40}",
        f"0 to {_MAX_WORD}",
    )
    for name in ("continuing_subword_prefix", "end_of_word_suffix", "unk_token"):
        _check_short(name, model.get(name))
    merges = model.get("merges")
    if merges is not None:
        _check_merges(merges, model)


def _check_merges(merges: Any, model: Mapping[str, Any]) -> None:
    """Both tokens of a merge and the token that they make must be known: the library cuts the
    prefix off without looking, even in the middle of a letter.
    """
    vocabulary, prefix = model.get("vocab"), model.get("continuing_subword_prefix") or ""
    if not isinstance(merges, list) or not isinstance(vocabulary, dict):
        raise CheckpointError(f"has the merges {merges!r:.40}, expected a list beside a vocab")
    for each in merges:
        if not _is_merge(each, vocabulary, prefix):
            raise CheckpointError(
                f"has the merge {each!r:.60}, expected two tokens of the vocab that make a third"
            )


def _is_merge(merge: Any, vocabulary: Mapping[str, Any], prefix: str) -> bool:
    pair = merge.split(" ") if isinstance(merge, str) else merge
    if not isinstance(pair, list) or len(pair) != 2 or not all(type(each) is str for each in pair):
        return False
    first, second = pair
    return (
        first in vocabulary
        and second in vocabulary
        and second.startswith(prefix)
        and first + second.removeprefix(prefix) in vocabulary
    )


def steps_of(component: Any) -> Iterator[Mapping[str, Any]]:
    """A component and all inside of it, where it is a sequence."""
    if component is None:
        return
    if not isinstance(component, dict):
        raise CheckpointError(f"has the component {component!r:.40}, expected an object")
    yield component
    for name in _CHILDREN:
        inner = component.get(name, [])
        if not isinstance(inner, list):
            raise CheckpointError(f"has the {name} {inner!r:.40}, expected a list")
        for each in inner:
            yield from steps_of(each)


def _check_step(step: Mapping[str, Any]) -> None:
    kind = step.get("type")
    for name in ("content", "prepend", "replacement", "prefix", "suffix"):
        _check_short(name, step.get(name))
    pattern = step.get("pattern")
    if isinstance(pattern, dict):
        for each in pattern.values():
            _expect(
                isinstance(each, str) and 0 < len(each) <= _MAX_PATTERN,
                f"has the pattern {each!r:.40}",
                f"1 to {_MAX_PATTERN} letters",
            )
    if kind == "Precompiled":
        _check_charsmap(step.get("precompiled_charsmap"))
    elif kind == "TemplateProcessing":
        _check_template(step)
    elif kind == "FixedLength":
        _expect(
            _is_count(step.get("length"), _MAX_ID) and step["length"] > 0,
            f"has the length {step.get('length')!r:.40}",
            "1 or more",
        )


def _growth(step: Mapping[str, Any]) -> float:
    """How many times longer a step makes a text, as far as steps multiply."""
    if step.get("type") == "ByteLevel":
        return 2.0  # two bytes for each that is no letter of ASCII
    if step.get("type") != "Replace":
        return 1.0
    content, pattern = step.get("content"), step.get("pattern")
    literal = pattern.get("String") if isinstance(pattern, dict) else None
    found = len(literal) if isinstance(literal, str) else 1
    return max(1.0, (len(content) if isinstance(content, str) else 1) / found)


def _check_charsmap(charsmap: Any) -> None:
    """SentencePiece's table: the size of a trie in bytes, in four bytes, the trie, and text.

    The library allocates that size before it looks whether so much follows.
    """
    try:
        content = base64.b64decode(charsmap, validate=True)
    except (binascii.Error, TypeError, ValueError) as error:
        raise CheckpointError(
            f"has the precompiled_charsmap {charsmap!r:.40} ({error}), expected base64"
        ) from error
    size = int.from_bytes(content[:4], "little")
    _expect(
        len(content) >= 4 and size % 4 == 0 and 4 <= size <= len(content) - 4,
        f"has a precompiled_charsmap of {len(content)} bytes with a trie of {size}",
        "a trie that lies inside, in words of four bytes",
    )


def _check_template(step: Mapping[str, Any]) -> None:
    special = step.get("special_tokens")
    if not isinstance(special, dict):
        raise CheckpointError(f"has the special_tokens {special!r:.40}, expected an object")
    for each in special.values():
        ids = each.get("ids") if isinstance(each, dict) else None
        tokens = each.get("tokens") if isinstance(each, dict) else None
        _expect(
            isinstance(ids, list)
            and isinstance(tokens, list)
            and len(ids) == len(tokens) <= _MAX_PIECE
            and all(_is_count(number, _MAX_ID) for number in ids),
            f"has the special token {each!r:.60}",
            f"as many ids as tokens, {_MAX_PIECE} at most",
        )
    for name, texts in (("single", ["A"]), ("pair", ["A", "B"])):
        pieces = step.get(name)
        if not isinstance(pieces, list) or not all(isinstance(each, dict) for each in pieces):
            raise CheckpointError(f"has the template {pieces!r:.40}, expected a list of objects")
        named = [(kind, part.get("id")) for each in pieces for kind, part in _parts(each)]
        _expect(
            len(pieces) <= _MAX_PIECE
            and sorted(str(id) for kind, id in named if kind == "Sequence") == texts
            and all(id in special for kind, id in named if kind == "SpecialToken"),
            f"has the template {name} = {pieces!r:.60}",
            f"each of {' and '.join(texts)} once, and special tokens that are listed",
        )


def _parts(piece: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for kind, part in piece.items():
        if not isinstance(part, dict) or not isinstance(part.get("id"), str):
            raise CheckpointError(
                f"has the piece {piece!r:.40} of a template, expected an id in it"
            )
        yield kind, part


def _check_short(name: str, text: Any) -> None:
    _expect(
        text is None or (isinstance(text, str) and len(text) <= _MAX_PIECE),
        f"has the {name} {text!r:.40}",
        f"a string of {_MAX_PIECE} letters at most",
    )


def _is_count(number: Any, limit: int) -> bool:
    return type(number) is int and 0 <= number <= limit


def _expect(sound: bool, found: str, expected: str) -> None:
    if not sound:
        raise CheckpointError(f"{found}, expected {expected}")
