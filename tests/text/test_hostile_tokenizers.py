"""A tokenizer from anywhere is read, or refused with a reason; it never ends the process."""

from __future__ import annotations

import copy
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from prunus.errors import CheckpointError
from prunus.text.files import load_tokenizer, read_json
from prunus.text.panics import guarded
from prunus.text.tokens import decode, encode, own_copy
from tests.runtime.processes import run_python
from tests.text.hostile_tokenizers import tokenizers

PIECES, MERGES, UNIGRAM = range(3)
TEXT = {"Sequence": {"id": "A", "type_id": 0}}
PAIR = [TEXT, {"Sequence": {"id": "B", "type_id": 1}}]


def template(single: Any, special: Any, pair: Any = PAIR) -> dict[str, Any]:
    return {
        "type": "TemplateProcessing",
        "single": single,
        "pair": pair,
        "special_tokens": special,
    }


def replace(pattern: dict[str, str], content: str, count: int = 1) -> dict[str, Any]:
    step = {"type": "Replace", "pattern": pattern, "content": content}
    return {"type": "Sequence", "normalizers": [step] * count}


def split(pattern: str) -> dict[str, Any]:
    regex = {"Regex": pattern}
    return {"type": "Split", "pattern": regex, "behavior": "Isolated", "invert": False}


def load(path: Path, document: Any) -> Tokenizer:
    text = document if isinstance(document, str) else json.dumps(document)
    path.write_text(text, encoding="utf-8")
    return load_tokenizer({"tokenizer.json": path})


REFUSED: list[tuple[int, str, Any, str]] = [
    (PIECES, "model.vocab.the", 2**31 - 1, r"the id 2147483647, expected 0 to"),
    (PIECES, "model.vocab.the", -1, "the id -1"),
    (PIECES, "model.vocab", 7, "the vocab 7, expected an object or a list"),
    (PIECES, "model", None, "the model None"),
    (PIECES, "added_tokens", [{"id": 3}], "the token None, expected a string"),
    (PIECES, "model.max_input_chars_per_word", 2**63, "max_input_chars_per_word 9223"),
    (PIECES, "model.continuing_subword_prefix", "#" * 99, "expected a string of 64 letters"),
    (PIECES, "normalizer", replace({"Regex": "."}, "x" * 999), "expected a string of 64 letters"),
    (PIECES, "normalizer", replace({"Regex": "."}, "xx", 40), "times longer .*, expected 16 times"),
    (PIECES, "normalizer", replace({"String": ""}, "x"), "the pattern '', expected 1 to 10000"),
    (
        PIECES,
        "pre_tokenizer",
        {"type": "Sequence", "pretokenizers": [{"type": "ByteLevel"}] * 40},
        "1.1e\\+12 times longer",
    ),
    (PIECES, "normalizer", replace({"String": "a"}, "b", 100), "has 104 steps"),
    (PIECES, "normalizer", {"type": "Sequence", "normalizers": 1}, "the normalizers 1"),
    (PIECES, "pre_tokenizer", {"type": "FixedLength", "length": 0}, "the length 0"),
    (PIECES, "pre_tokenizer", [], "the component \\[\\], expected an object"),
    (PIECES, "post_processor", template([TEXT] * 5, {}), "each of A once"),
    (PIECES, "post_processor", template([], {}), "each of A once"),
    (PIECES, "post_processor", template([TEXT], {}, pair=[TEXT]), "each of A and B once"),
    (
        PIECES,
        "post_processor",
        template([{"SpecialToken": {"id": "[X]", "type_id": 0}}, TEXT], {}),
        "special tokens that are listed",
    ),
    (
        PIECES,
        "post_processor",
        template([TEXT], {"[X]": {"id": "[X]", "ids": [1, 2], "tokens": ["a"]}}),
        "as many ids as tokens",
    ),
    (MERGES, "model.merges", ["a u"], "the merge 'a u', expected two tokens"),
    (MERGES, "model.continuing_subword_prefix", "x", "two tokens of the vocab that make a third"),
    (MERGES, "model.merges", 5, "the merges 5"),
    (
        UNIGRAM,
        "normalizer",
        {"type": "Precompiled", "precompiled_charsmap": "/////////w=="},
        "a trie of 4294967295, expected a trie that lies inside",
    ),
    (UNIGRAM, "normalizer", {"type": "Precompiled", "precompiled_charsmap": "é"}, "base64"),
    (UNIGRAM, "model.vocab", [["x" * 9_000_000, 0.0]], "9000000 letters, expected 8388608"),
    (UNIGRAM, "model.vocab", [], "no tokenizer that this version .*EmptyVocabulary"),
    (PIECES, "pre_tokenizer", split("("), "no tokenizer that this version .*parenthesis"),
]


@pytest.mark.parametrize(("kind", "place", "value", "says"), REFUSED)
def test_hostile_tokenizers_are_refused(
    tmp_path: Path, kind: int, place: str, value: Any, says: str
) -> None:
    document = copy.deepcopy(tokenizers()[kind])
    *holders, key = place.split(".")
    holder = document
    for name in holders:
        holder = holder[name]
    holder[key] = value
    with pytest.raises(CheckpointError, match=f"tokenizer.json .*{says}"):
        load(tmp_path / "tokenizer.json", document)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[" * 100_000, "not readable JSON"),
        ('{"a":' * 100 + "1" + "}" * 100, "nested deeper than 64"),
        ('{"model": NaN}', "NaN is not a number"),
        ('{"model": "\\ud800"}', "surrogates not allowed"),
        ("[1]", "holds a list"),
    ],
)
def test_hostile_json_is_refused(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(CheckpointError, match=says):
        load(tmp_path / "tokenizer.json", text)


def test_a_huge_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    with path.open("wb") as file:
        file.truncate(1 << 42)
    with pytest.raises(CheckpointError, match="has 4398046511104 bytes, expected 67108864"):
        read_json(path)


@pytest.mark.parametrize(
    "settings",
    [
        {"padding": {"strategy": {"Fixed": 2**40}}, "truncation": {"max_length": 2**60}},
        {"padding": 3, "truncation": "x"},
    ],
)
def test_padding_and_truncation_of_the_file_are_left_out(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    found = load(tmp_path / "tokenizer.json", tokenizers()[PIECES] | settings)
    assert found.padding is None and found.truncation is None
    assert encode(found, ["the plum"])[0].ids == [2, 5, 6, 3]


def test_a_panic_at_a_text_is_an_error(tmp_path: Path) -> None:
    document = tokenizers()[PIECES] | {"pre_tokenizer": split("(a+)+$")}
    tokenizer = load(tmp_path / "tokenizer.json", document)
    with pytest.raises(CheckpointError, match=r"fails on its input \(.*retry-limit"):
        encode(tokenizer, ["a" * 50 + "!"])
    decoder = {"type": "Strip", "content": "a", "start": 2**62, "stop": 2**62}
    tokenizer = load(tmp_path / "tokenizer.json", tokenizers()[PIECES] | {"decoder": decoder})
    with pytest.raises(CheckpointError, match="fails on its input"):
        decode(own_copy(tokenizer), 9)


@pytest.mark.parametrize("raised", [Exception, ValueError, MemoryError, KeyboardInterrupt])
def test_what_a_signal_handler_raises_goes_through(raised: type[BaseException]) -> None:
    """Even what looks as if the library had raised it."""

    def handler(*_: Any) -> None:
        raise raised("mine")

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with pytest.raises(raised, match="mine"):
            guarded(CheckpointError, signal.raise_signal, signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize(
    ("raised", "call", "arguments"),
    [
        (MemoryError, bytes, (2**62,)),
        (KeyboardInterrupt, signal.default_int_handler, (signal.SIGINT, None)),
    ],
)
def test_what_is_no_error_of_the_library_goes_through(
    raised: type[BaseException], call: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    with pytest.raises(raised):
        guarded(CheckpointError, call, *arguments)


def test_changed_tokenizers_never_end_the_process() -> None:
    ran = run_python("-m", "tests.text.hostile_tokenizers", "0", "600", seconds=60)
    *_, last = ran.stdout.splitlines()
    assert ran.returncode == 0, f"{last}: {ran.stderr[-2000:]}"
    counts = json.loads(last)
    assert sum(counts.values()) == 600
    assert counts["used"] >= 40 and counts["refused by the library"] >= 40, counts


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("vocab.txt", b"\xff\xfe", "cannot be read"),
        ("vocab.txt", b"", r"has no token '\[UNK\]'"),
        ("added_tokens.json", b'{"<a>": [7]}', r"numbers '<a>' as \[7\]"),
        ("added_tokens.json", b'{"": 5}', "numbers '' as 5"),
        ("added_tokens.json", b'{"<a>": 99999999999999999999}', "numbers '<a>' as 9999"),
        ("tokenizer_config.json", b'{"unk_token": "\\ud800"}', "surrogates not allowed"),
        ("tokenizer_config.json", b'{"unk_token": "x"}', "has no token 'x'"),
    ],
)
def test_hostile_vocabularies_are_refused(
    tmp_path: Path, name: str, content: bytes, says: str
) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "vocab.txt").write_text("[UNK]\n[CLS]\n[SEP]\nplum\n")
    (tmp_path / "tokenizer_config.json").write_text('{"strip_accents": true}')
    files = {path.name: path for path in tmp_path.iterdir()}
    assert encode(load_tokenizer(files), ["plum"])[0].ids == [1, 3, 2]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=says):
        load_tokenizer(files | {name: tmp_path / name})
