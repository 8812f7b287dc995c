"""What a tokenizer class of transformers makes of a `tokenizer.json`, beside which it has settings.

Most classes take only the vocabulary and the merges of the file. They make the steps around these
themselves, from `tokenizer_config.json` and `special_tokens_map.json`; this is done here for the
classes of encoders. The others take the whole file, and a setting that it contradicts is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prunus.errors import CheckpointError
from prunus.text.panics import guarded
from prunus.text.special_tokens import SpecialTokens
from prunus.text.tokenizer_rules import steps_of

if TYPE_CHECKING:
    from tokenizers import Tokenizer, normalizers

Settings = Mapping[str, Any]
Document = Mapping[str, Any]


def read_flag(settings: Settings, name: str, default: bool | None) -> bool | None:
    """A setting that is true or false, or says nothing.

    Raises:
        CheckpointError: it is something else.
    """
    value = settings.get(name, default)
    if value is not None and type(value) is not bool:
        raise CheckpointError(
            f"tokenizer_config.json has {name} = {value!r:.40}, expected true or false: correct it"
        )
    return value


def bert_normalizer(settings: Settings) -> normalizers.Normalizer:
    """The normalizer that BERT's settings describe."""
    from tokenizers import normalizers

    return normalizers.BertNormalizer(
        lowercase=bool(read_flag(settings, "do_lower_case", True)),
        strip_accents=read_flag(settings, "strip_accents", None),
        handle_chinese_chars=bool(read_flag(settings, "tokenize_chinese_chars", True)),
    )


def _bert(tokenizer: Tokenizer, settings: Settings) -> None:
    from tokenizers import decoders, pre_tokenizers

    tokenizer.normalizer = bert_normalizer(settings)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()


def _bytes(tokenizer: Tokenizer, settings: Settings) -> None:
    from tokenizers import decoders, pre_tokenizers

    prefix = bool(read_flag(settings, "add_prefix_space", False))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    tokenizer.decoder = decoders.ByteLevel()


def _words(tokenizer: Tokenizer, settings: Settings) -> None:
    from tokenizers import decoders, pre_tokenizers

    scheme = "always" if read_flag(settings, "add_prefix_space", True) else "never"
    space = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), space])
    tokenizer.decoder = decoders.Metaspace(prepend_scheme=scheme)


def _pieces(tokenizer: Tokenizer, settings: Settings) -> None:
    from tokenizers import Regex, decoders, normalizers, pre_tokenizers

    small = [normalizers.Lowercase()] if read_flag(settings, "do_lower_case", False) else []
    tokenizer.normalizer = normalizers.Sequence([
        *small,
        normalizers.Replace(Regex(r"\s{2,}|[\n\r\t]"), " "),
        normalizers.NFC(),
        normalizers.Strip(left=False, right=True),
    ])  # fmt: skip
    cuts = read_flag(settings, "split_by_punct", False)
    points = [pre_tokenizers.Punctuation(behavior="isolated")] if cuts else []
    scheme = "always" if read_flag(settings, "add_prefix_space", True) else "first"
    space = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*points, space])
    tokenizer.decoder = decoders.Metaspace(prepend_scheme=scheme)


@dataclass(frozen=True, slots=True)
class TokenizerClass:
    """How a class makes a tokenizer from a vocabulary and settings.

    Attributes:
        model: The type of the model in `tokenizer.json`.
        parameters: The parameters of that model, beside vocabulary and merges.
        tokens: Its special tokens, where no file names others.
        make_steps: Sets normalizer, pre-tokenizer and decoder.
        pair: How two texts are framed: `C` and `S` are the special tokens `cls` and `sep`, or
            those that `frame` names.
        types: Whether the second text has the type 1.
        frame: The names of the special tokens around a text.
        roberta_frame: Whether they are put there by RoBERTa's own step, which trims offsets.
    """

    model: str
    parameters: Mapping[str, Any]
    tokens: Mapping[str, str]
    make_steps: Callable[[Tokenizer, Settings], None]
    pair: str = "C A S B S"
    types: bool = False
    frame: tuple[str, str] = ("cls_token", "sep_token")
    roberta_frame: bool = False

    def prepare(self, document: Document, special: SpecialTokens, settings: Settings) -> Document:
        """The document with what the class takes of it; the steps follow by `finish`."""
        model = document["model"]
        kept = {key: model[key] for key in ("vocab", "merges") if key in model}
        made = {"type": self.model, **self.parameters, **kept}
        if self.model == "WordPiece":
            made["unk_token"] = special.named["unk_token"]
        if self.parameters.get("unk_id") == 1:  # of DeBERTa-v2, which looks for it first
            unknown = [special.named["unk_token"], 0.0]
            vocab = model.get("vocab")
            found = vocab.index(unknown) if isinstance(vocab, list) and unknown in vocab else None
            made["unk_id"] = settings.get("unk_id", 1) if found is None else found
        charsmap = [each for each in _steps(document) if each.get("type") == "Precompiled"]
        return {
            **document,
            "model": made,
            "added_tokens": [],
            "normalizer": charsmap[0] if charsmap else None,
            "pre_tokenizer": None,
            "post_processor": None,
            "decoder": None,
        }

    def finish(self, tokenizer: Tokenizer, special: SpecialTokens, settings: Settings) -> None:
        """Set the steps, once the special tokens are known to the tokenizer."""
        from tokenizers import processors

        self.make_steps(tokenizer, settings)
        cls, sep = (self._numbered(tokenizer, special.named[name]) for name in self.frame)
        if self.roberta_frame:
            is_bytes = self.model == "BPE"
            tokenizer.post_processor = processors.RobertaProcessing(
                sep,
                cls,
                not is_bytes or bool(read_flag(settings, "trim_offsets", True)),
                is_bytes and bool(read_flag(settings, "add_prefix_space", False)),
            )
            return
        for token, _ in (cls, sep):
            if token.startswith("$") or ":" in token:  # means a text, or a type, in a template
                raise CheckpointError(
                    f"the token {token!r:.40} cannot frame a text, as '$' at its beginning and ':' "
                    "have a meaning there: name another one in tokenizer_config.json"
                )
        parts = {"C": cls[0], "S": sep[0], "A": "$A", "B": "$B"}
        second = self.pair.split().index("B")
        tokenizer.post_processor = guarded(
            lambda reason: CheckpointError(
                f"{cls[0]!r:.40} and {sep[0]!r:.40} cannot frame a text ({reason}): name other "
                "special tokens in tokenizer_config.json"
            ),
            processors.TemplateProcessing,
            single=[f"{parts[each]}:0" for each in "CAS"],
            pair=[
                f"{parts[each]}:{int(self.types and place >= second)}"
                for place, each in enumerate(self.pair.split())
            ],
            special_tokens=[cls, sep],
        )

    def _numbered(self, tokenizer: Tokenizer, token: str) -> tuple[str, int]:
        number = tokenizer.token_to_id(token)
        if number is None:
            raise CheckpointError(
                f"tokenizer.json has no token {token!r:.60}, which frames each text of a model of "
                "this class: name the right one in tokenizer_config.json"
            )
        return token, number


_ROBERTA_PAIR = "C A S S B S"
_BRACKETS = {
    "bos_token": "[CLS]",
    "eos_token": "[SEP]",
    "unk_token": "[UNK]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
}
_ANGLES = {
    "bos_token": "<s>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "sep_token": "</s>",
    "pad_token": "<pad>",
    "cls_token": "<s>",
    "mask_token": "<mask>",
}
_WORD_PIECE = {"continuing_subword_prefix": "##", "max_input_chars_per_word": 100}
_BPE = {
    "dropout": None,
    "unk_token": None,
    "continuing_subword_prefix": "",
    "end_of_word_suffix": "",
    "fuse_unk": False,
    "byte_fallback": False,
}
_BERT_TOKENS = {key: token for key, token in _BRACKETS.items() if key[:3] not in ("bos", "eos")}

BERT = TokenizerClass("WordPiece", _WORD_PIECE, _BERT_TOKENS, _bert, types=True)
MPNET = TokenizerClass(
    "WordPiece",
    _WORD_PIECE,
    {**_ANGLES, "unk_token": "[UNK]"},
    _bert,
    pair=_ROBERTA_PAIR,
    roberta_frame=True,
)
ROBERTA = TokenizerClass("BPE", _BPE, _ANGLES, _bytes, pair=_ROBERTA_PAIR, roberta_frame=True)
DEBERTA = TokenizerClass("BPE", _BPE, _BRACKETS, _bytes, pair=_ROBERTA_PAIR)
DEBERTA_V2 = TokenizerClass(
    "Unigram", {"unk_id": 1, "byte_fallback": False}, _BRACKETS, _pieces, types=True
)
XLM_ROBERTA = TokenizerClass(
    "Unigram",
    {"unk_id": 3, "byte_fallback": False},
    _ANGLES,
    _words,
    pair=_ROBERTA_PAIR,
    frame=("bos_token", "eos_token"),
)

CLASSES: dict[str, TokenizerClass] = {
    **dict.fromkeys(
        ("Bert", "ConvBert", "DistilBert", "Electra", "LayoutLM", "Lxmert", "MobileBert"), BERT
    ),
    "SqueezeBert": BERT,
    "MPNet": MPNET,
    **dict.fromkeys(("Bart", "LED", "Longformer", "Mvp", "Roberta"), ROBERTA),
    "Deberta": DEBERTA,
    "DebertaV2": DEBERTA_V2,
    "XLMRoberta": XLM_ROBERTA,
}
"""By the names of classes, without `Tokenizer`."""

_TYPES = {
    **dict.fromkeys(
        ("bert", "convbert", "distilbert", "electra", "layoutlm", "lxmert", "megatron-bert"), "Bert"
    ),
    **dict.fromkeys(("mobilebert", "nomic_bert", "squeezebert"), "Bert"),
    "mpnet": "MPNet",
    **dict.fromkeys(
        ("bart", "data2vec-text", "ibert", "lilt", "longformer", "roberta", "roberta-prelayernorm"),
        "Roberta",
    ),
    "deberta": "Deberta",
    "deberta-v2": "DebertaV2",
    **dict.fromkeys(("gte", "jina_embeddings_v3", "xlm-roberta"), "XLMRoberta"),
}
"""The classes for types of models whose files name none."""

_WHOLE_TYPES = frozenset(
    ["bigbird_pegasus", "modernbert", "modernbert-decoder", "nystromformer", "pegasus_x", "umt5"]
)
"""Types of models for which transformers takes the whole file, whatever class is named."""

_CHECKED = {
    **dict.fromkeys(
        ("Funnel", "LayoutLMv2", "Splinter"),
        ("do_lower_case", "strip_accents", "tokenize_chinese_chars"),
    ),
    **dict.fromkeys(
        ("Albert", "FNet", "RemBert"), ("do_lower_case", "keep_accents", "add_prefix_space")
    ),
    "XLNet": ("do_lower_case",),
    **dict.fromkeys(
        ("Barthez", "BigBird", "Blenderbot", "Camembert", "CodeGen", "Cohere", "GPT2", "GPTNeoX",
         "LayoutLMv3", "Luke", "MarkupLM", "Qwen2", "Whisper", "XGLM"),
        ("add_prefix_space",),
    ),
}  # fmt: skip
"""Settings of other classes that a file must not contradict."""


def class_name(settings: Settings, config: Settings) -> str:
    """The class that transformers takes, without `Tokenizer`; empty for one that takes the file
    as it is.
    """
    kind = config.get("model_type")
    if kind in _WHOLE_TYPES:
        return ""
    named = settings.get("tokenizer_class") or config.get("tokenizer_class")
    if named:
        return str(named).removesuffix("Fast").removesuffix("Tokenizer")
    return _TYPES.get(str(kind), "")


def check_settings(name: str, document: Document, settings: Settings) -> None:
    """Refuse settings that the steps of a file contradict, of a class that is not in `CLASSES`.

    Raises:
        CheckpointError: names the setting and what the file does.
    """
    for setting in _CHECKED.get(name, ()):
        wanted, found = read_flag(settings, setting, None), _found(document, setting)
        if wanted is not None and found is not None and wanted != found:
            raise CheckpointError(
                f"tokenizer_config.json has {setting} = {str(wanted).lower()}, but tokenizer.json "
                f"does otherwise, and of a {name}Tokenizer prunus takes the file as it is: save "
                "the tokenizer again with `AutoTokenizer.from_pretrained(…).save_pretrained(…)`"
            )


def _found(document: Document, setting: str) -> bool | None:
    """What the steps do of what a setting says; None where they do not tell."""
    steps = _steps(document)
    kinds = {step.get("type") for step in steps}
    if setting == "add_prefix_space":
        for step in steps:
            if step.get("type") == "Metaspace" and "prepend_scheme" in step:
                return bool(step["prepend_scheme"] != "never")
            if step.get("type") in ("ByteLevel", "Metaspace") and "add_prefix_space" in step:
                return bool(step["add_prefix_space"])
        return None
    if setting == "keep_accents":
        return "StripAccents" not in kinds
    own = next((step for step in steps if step.get("type") == "BertNormalizer"), None)
    if own is None:
        return "Lowercase" in kinds if setting == "do_lower_case" else None
    key = {"do_lower_case": "lowercase", "tokenize_chinese_chars": "handle_chinese_chars"}
    found = own.get(key.get(setting, setting))
    return found if found is not None else bool(own.get("lowercase"))


def _steps(document: Document) -> list[Mapping[str, Any]]:
    """The steps of normalizing and splitting, those inside of others too."""
    parts = (document.get("normalizer"), document.get("pre_tokenizer"))
    return [step for part in parts for step in steps_of(part)]
