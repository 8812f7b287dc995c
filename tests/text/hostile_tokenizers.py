"""Changes tokenizers at random and reads them, in a process that may die of it.

    python -m tests.text.hostile_tokenizers FIRST LAST

Each seed from FIRST up to LAST is one changed `tokenizer.json`. The seed is printed before it is
tried, so that the last line tells which one ended the process; at the end come the counts.
"""

from __future__ import annotations

import base64
import collections
import copy
import json
import random
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from prunus.errors import PrunusError
from prunus.text.files import load_tokenizer
from prunus.text.tokens import Text, decode, encode, own_copy

MEMORY = 4 << 30  # bytes of addresses; an allocation beyond it ends the process
SECONDS = 5.0

TEXTS: list[Text] = [
    "The plum tree, naïvely 東京!",
    "a" * 300,
    ("aé " * 40, "two words"),
    "\u0130\ufdfa \u200d",
]
WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "the",
    "plum",
    "tree",
    "##s",
    "a",
    "##a",
    "é",
]

VALUES: list[Any] = [
    *(-1, 0, 1, 7, 2**31, 2**32 - 1, 2**32, 2**40, 2**63, 2**64, 1e308, -0.5, True, None),
    *("", "a", "é", "\ud800", "x" * 100, "(a+)+$", "(", "((a{1000}){1000}){1000}", "[CLS]", "A"),
    *([], {}, [[]], [None], "////", base64.b64encode(b"\xff" * 40).decode()),
]

STEPS: list[dict[str, Any]] = [
    {"type": "Replace", "pattern": {"Regex": "."}, "content": "x" * 30},
    {"type": "Replace", "pattern": {"String": ""}, "content": "x"},
    {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(b"\xff" * 9).decode()},
    {"type": "Prepend", "prepend": "é"},
    {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": False},
    {"type": "FixedLength", "length": 1},
    {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False},
    {"type": "Strip", "content": "a", "start": 2**62, "stop": 2**62},
    {"type": "Metaspace", "replacement": "é", "prepend_scheme": "always", "split": True},
    {"type": "RobertaProcessing", "sep": ["a", 9], "cls": ["b", 2**32 - 1], "trim_offsets": True,
     "add_prefix_space": True},
]  # fmt: skip


def tokenizers() -> list[dict[str, Any]]:
    """One tokenizer of each kind of model, as documents."""
    vocabulary = {word: number for number, word in enumerate(WORDS)}
    pieces = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    pieces.normalizer = normalizers.BertNormalizer()
    pieces.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    pieces.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    pieces.decoder = decoders.WordPiece()
    pieces.add_special_tokens(WORDS[:5])
    pieces.enable_padding(length=8)
    pieces.enable_truncation(8)

    letters = {letter: number for number, letter in enumerate([*"aehlmprtu", "é", "pl", "plu"])}
    merges = [("p", "l"), ("pl", "u")]
    bytes_ = Tokenizer(models.BPE(letters, merges, unk_token="a", fuse_unk=True))
    bytes_.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace(" ", "_")])
    bytes_.pre_tokenizer = pre_tokenizers.ByteLevel()
    bytes_.post_processor = processors.RobertaProcessing(("a", 0), ("e", 1))
    bytes_.decoder = decoders.ByteLevel()

    unigram = Tokenizer(models.Unigram([("<unk>", 0.0), ("▁", -1.0), ("a", -2.0), ("é", -3.0)], 0))
    unigram.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Prepend("▁")])
    unigram.pre_tokenizer = pre_tokenizers.Metaspace()
    unigram.decoder = decoders.Sequence([decoders.Metaspace(), decoders.Strip(" ", 1, 0)])
    return [json.loads(each.to_str()) for each in (pieces, bytes_, unigram)]


def changed(document: dict[str, Any], draw: random.Random) -> str:
    """The text of the document after one to four changes of its structure, or of its bytes."""
    document = copy.deepcopy(document)
    for _ in range(draw.choice([1, 1, 1, 2, 3])):
        holder, key = draw.choice(list(_places(document)))
        kind = draw.randrange(7)
        if kind == 0:
            del holder[key]
        elif kind == 1 and isinstance(holder[key], list):
            holder[key] *= draw.choice([2, 3, 100])
        elif kind == 2:
            other, name = draw.choice(list(_places(document)))
            holder[key] = copy.deepcopy(other[name])
        elif kind == 3:
            name = draw.choice(["normalizer", "pre_tokenizer", "post_processor", "decoder"])
            children = {"normalizer": "normalizers", "pre_tokenizer": "pretokenizers",
                        "post_processor": "processors", "decoder": "decoders"}[name]  # fmt: skip
            steps = [draw.choice(STEPS) for _ in range(draw.choice([1, 2, 8, 40]))]
            document[name] = {"type": "Sequence", children: copy.deepcopy(steps)}
        else:
            holder[key] = copy.deepcopy(draw.choice(VALUES))
    text = json.dumps(document)
    if draw.random() < 0.1:
        at = draw.randrange(len(text))
        text = text[:at] + draw.choice(["[" * 5000, '"', "9" * 30, "\x00", ""]) + text[at + 1 :]
    return text


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    for key in value if isinstance(value, dict) else range(len(value)):
        yield value, key
        if isinstance(value[key], dict | list):
            yield from _places(value[key])


def outcome(path: Path) -> str:
    """How far a tokenizer gets by what `prunus.text` does with it; only its own errors are met."""
    try:
        tokenizer = load_tokenizer({"tokenizer.json": path})
    except PrunusError as error:
        return "refused by the library" if "this version of" in str(error) else "refused by prunus"
    try:
        cutting = own_copy(tokenizer)
        cutting.enable_truncation(16)
        for text in TEXTS:
            encode(tokenizer, [text])
            encode(cutting, [text])
        for number in range(6):
            decode(tokenizer, number)
    except PrunusError:
        return "failed at a text"
    return "used"


def main(first: int, last: int) -> None:
    """Try all seeds of a range."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    documents, counts = tokenizers(), collections.Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "tokenizer.json")
        for document in documents:
            path.write_text(json.dumps(document), encoding="utf-8")
            if (found := outcome(path)) != "used":
                raise SystemExit(f"a sound tokenizer was {found}")
        for seed in range(first, last):
            print(f"seed {seed}", flush=True)
            draw = random.Random(seed)
            path.write_text(changed(draw.choice(documents), draw), encoding="utf-8")
            begin = time.monotonic()
            counts[outcome(path)] += 1
            if time.monotonic() - begin > SECONDS:
                raise SystemExit(f"it took {time.monotonic() - begin:.0f} s")
    print(json.dumps(counts))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
