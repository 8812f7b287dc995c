"""The special and added tokens that the files beside a `tokenizer.json` name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prunus.errors import CheckpointError
from prunus.text.panics import guarded

if TYPE_CHECKING:
    from tokenizers import AddedToken, Tokenizer

NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
"""In the order in which they are added."""

_KEYS = ("single_word", "lstrip", "rstrip", "normalized", "special")
_MAX_LETTERS = 1 << 23  # of all added tokens, as in `tokenizer_rules.py`


@dataclass(frozen=True, slots=True)
class SpecialTokens:
    """What the files say about tokens.

    Attributes:
        named: The token of each name in `NAMES`, as far as one is known.
        added: What is to be added to the vocabulary, in this order, as in `tokenizer.json`.
        optional: What is added only where the vocabulary has it: it is a class that names it.
    """

    named: Mapping[str, str]
    added: tuple[Mapping[str, Any], ...]
    optional: tuple[Mapping[str, Any], ...]

    @staticmethod
    def read(
        document: Mapping[str, Any],
        settings: Mapping[str, Any],
        special_map: Mapping[str, Any],
        added_ids: Mapping[str, Any],
        defaults: Mapping[str, str],
    ) -> SpecialTokens:
        """Put together what the files say, as transformers does: where the settings list all added
        tokens, the older files are not read.

        Args:
            document: `tokenizer.json`.
            settings: `tokenizer_config.json`.
            special_map: `special_tokens_map.json`.
            added_ids: `added_tokens.json`.
            defaults: The special tokens of the class.

        Raises:
            CheckpointError: a token is no string, or an object without a text.
        """
        listed = settings.get("added_tokens_decoder")
        merged = dict(settings) if listed is not None else {**settings, **special_map}
        mine = {
            key: _token(value)
            for key, value in merged.items()
            if key.endswith("_token") and isinstance(value, str | dict)
        }
        extra = [_token(each) for each in _extra(merged)]
        if listed is not None:
            numbered = _listed(listed)
        else:
            special = {each["content"] for each in (*mine.values(), *extra)}
            if wrong := [each for each in added_ids.values() if type(each) is not int]:
                raise CheckpointError(
                    f"added_tokens.json has the number {wrong[0]!r:.40}, expected an integer"
                )
            numbered = {
                number: _token(text, special=text in special, normalized=text not in special)
                for text, number in added_ids.items()
            }
            numbered |= {each["id"]: each for each in document.get("added_tokens") or ()}
        known = [numbered[number] for number in sorted(numbered)]
        order = [*(name for name in NAMES if name in mine), *(mine.keys() - set(NAMES))]
        added = _once([*known, *(mine[name] for name in order), *extra])
        named = {**defaults, **{name: mine[name]["content"] for name in NAMES if name in mine}}
        optional = [_token(token) for name, token in defaults.items() if name not in mine]
        return SpecialTokens(named, tuple(added), tuple(_once([*added, *optional])[len(added) :]))

    def add_to(self, tokenizer: Tokenizer) -> None:
        """Add the tokens that the tokenizer does not have yet."""
        known = [
            each for each in self.optional if tokenizer.token_to_id(each["content"]) is not None
        ]
        guarded(
            lambda reason: CheckpointError(
                f"the special tokens beside tokenizer.json cannot be added to it ({reason}): save "
                "the tokenizer again"
            ),
            tokenizer.add_tokens,
            [_made(each) for each in (*self.added, *known)],
        )


def _extra(merged: Mapping[str, Any]) -> list[Any]:
    found = merged.get("extra_special_tokens") or merged.get("additional_special_tokens") or []
    if isinstance(found, dict):
        found = list(found.values())
    if not isinstance(found, list):
        raise CheckpointError(
            f"tokenizer_config.json has the extra special tokens {found!r:.40}, expected a list"
        )
    return found


def _listed(listed: Any) -> dict[int, Mapping[str, Any]]:
    try:
        return {int(number): _token(token) for number, token in listed.items()}
    except (AttributeError, ValueError, TypeError) as error:
        raise CheckpointError(
            f"tokenizer_config.json has the added_tokens_decoder {listed!r:.40}, expected tokens "
            "by their numbers"
        ) from error


def _token(value: Any, *, special: bool = True, normalized: bool | None = None) -> dict[str, Any]:
    if isinstance(value, str):
        return {
            "content": value,
            "special": special,
            "normalized": not special if normalized is None else normalized,
        }
    if isinstance(value, dict) and isinstance(value.get("content"), str):
        flags = {key: bool(value[key]) for key in _KEYS if key in value}
        return {"content": value["content"], "special": special, **flags}
    raise CheckpointError(
        f"tokenizer_config.json or a file beside it has the token {value!r:.40}, expected a string "
        'or an object with a "content"'
    )


def _once(tokens: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The first of each text; the empty text is none."""
    found: dict[str, Mapping[str, Any]] = {}
    for each in tokens:
        if each["content"]:
            found.setdefault(each["content"], each)
    if (letters := sum(map(len, found))) > _MAX_LETTERS:
        raise CheckpointError(
            f"the files add tokens of {letters} letters, expected {_MAX_LETTERS} at most"
        )
    return list(found.values())


def _made(token: Mapping[str, Any]) -> AddedToken:
    from tokenizers import AddedToken

    return AddedToken(token["content"], **{key: bool(token[key]) for key in _KEYS if key in token})
