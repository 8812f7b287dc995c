"""A compiled model together with its tokenizer: text in, answers out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar, Unpack

import numpy as np

from prunus import api
from prunus.errors import CheckpointError, InputError, UnsupportedError
from prunus.ir.dims import evaluate
from prunus.text.answers import Entity, Fill, Label, entities, fills, text_labels
from prunus.text.files import SETTINGS, load_with_sides, special_token
from prunus.text.questions import Choosing, QuestionAnswering, Span, check_sides
from prunus.text.sentences import Sentences
from prunus.text.settings import Labels, Task, find_task, longest_text
from prunus.text.tokens import (
    MODEL_INPUTS,
    Row,
    Text,
    batches,
    check_text,
    encode,
    lower_case,
    own_copy,
    own_tokens,
    padding_id,
    prompt_length,
    with_prompt,
)
from prunus.text.vectors import (
    Normalize,
    Pooling,
    Similarity,
    check_pooling,
    normalized,
    pooled,
    similarities,
)

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

    from prunus.model import CompiledModel

Array = np.ndarray[Any, Any]
Result = TypeVar("Result")

_LONGEST_WINDOW = 384
"""Tokens of a window with question and context, as question answering is usually trained."""

_FILL_ROWS = 4
"""Texts with masks in a call: each token has a logit for every word of the vocabulary."""

_METHODS: dict[Task, str] = {
    "question-answering": "answer",
    "text-classification": "classify",
    "token-classification": "label_tokens",
    "fill-mask": "fill",
    "feature-extraction": "embed",
}


def load(folder: str | os.PathLike[str], *, batch_size: int = 32, **options: Any) -> TextModel:
    """Load a folder that `save_pretrained` wrote, with the tokenizer in it.

    Needs neither torch nor transformers. The options are those of `prunus.load`.

    Raises:
        SavedModelError: a folder that is damaged, hostile, or written by a newer version.
        CheckpointError: a tokenizer or settings that are missing, damaged, or of another model.
        UnsupportedError: a model that takes more than text, or answers something else.
        InputError: options that cannot be used.
    """
    return TextModel(api.load(folder, **options), batch_size=batch_size)


class TextModel:
    """A model that takes texts. Which method it has an answer for is told by its `task`.

    Texts are run in batches of similar length and come back in their order. The tokenizer, the
    labels and the pooling are read from the files that came with the model.

    Attributes:
        model: The compiled model.
        task: What it is for, as the hub calls it.
        tokenizer: Its tokenizer, which neither cuts nor pads.
        longest: Tokens of a text at most; None where there is no limit.
        batch_size: Texts of a call, at most.
    """

    def __init__(self, model: CompiledModel, *, batch_size: int = 32) -> None:
        """Put a compiled model and the files that came with it together; for errors see `load`."""
        if batch_size < 1:
            raise InputError(f"batch_size is {batch_size}: it must be at least 1")
        self.model, self.batch_size = model, batch_size
        self.task = find_task(model.signature.answer)
        self._input_names = _input_names(model)
        companions = model.source.companions
        folder = companions[0].parent if companions else None  # that of config.json
        self._files = {path.name: path for path in companions if path.parent == folder}
        self.tokenizer, self._sides = load_with_sides(self._files)
        if self.task == "question-answering":
            check_sides(self._sides.padding, self._sides.truncation, SETTINGS)
        _check_vocabulary(model, self.tokenizer)
        self._sentences = Sentences()
        if self.task == "feature-extraction" and folder is not None:
            self._sentences = Sentences.read(folder, _width(model))
        if self._sentences.lower_case:
            lower_case(self.tokenizer)
        self.longest = longest_text(self._files, model.longest, self._sentences.max_length)

    def classify(self, texts: Sequence[Text], *, truncate: bool = False) -> list[list[Label]]:
        """All labels of each text, the best first.

        Args:
            texts: Texts, or pairs for a model that was trained on pairs.
            truncate: Whether a text that is too long is cut, rather than an error.

        Raises:
            InputError: no text, one that is empty or too long, or a model of another task.
        """
        self._check_task("text-classification")
        return self._run(
            self._encode(texts, truncate),
            "logits",
            lambda place, logits: text_labels(logits, self.labels),
        )

    def label_tokens(self, texts: Sequence[str], *, truncate: bool = False) -> list[list[Entity]]:
        """The entities in each text, in their order; arguments and errors as in `classify`."""
        self._check_task("token-classification")
        encodings = self._encode(texts, truncate)
        for text in texts:
            check_text(text)  # a pair has places in two texts
        return self._run(
            encodings,
            "logits",
            lambda i, logits: entities(texts[i], encodings[i], logits, self.labels),
        )

    def fill(
        self, texts: Sequence[str], *, top_k: int = 5, truncate: bool = False
    ) -> list[list[list[Fill]]]:
        """For each text, and each mask in it, the likeliest tokens.

        Raises:
            InputError: as `classify`, or a text without a mask.
        """
        self._check_task("fill-mask")
        if top_k < 1:
            raise InputError(f"top_k is {top_k}: it must be at least 1")
        encodings = self._encode(texts, truncate)
        mask = self.tokenizer.token_to_id(self.mask_token)
        masks = [np.flatnonzero(np.array(each.ids) == mask) for each in encodings]
        for number, places in enumerate(masks):
            if len(places) == 0:
                raise InputError(
                    f"text {number} has no mask to fill: write {self.mask_token} where a word is "
                    "to be found"
                )
        return self._run(
            encodings,
            "logits",
            lambda i, logits: [fills(each, self.tokenizer, top_k) for each in logits[masks[i]]],
            rows=_FILL_ROWS,
        )

    def embed(
        self,
        texts: Sequence[Text],
        *,
        prompt_name: str | None = None,
        prompt: str | None = None,
        pooling: Pooling | Sequence[Pooling] | None = None,
        normalize: bool | None = None,
        truncate: bool = False,
    ) -> Array:
        """A vector for each text, float32 `[texts, features]`: that of `encode` of
        sentence-transformers where the model came with its files, else the mean over the tokens.

        Args:
            texts: Texts, or pairs.
            prompt_name: The prompt of that name is put before each text; None for the default
                prompt of the configuration, if it has one.
            prompt: Put before each text instead; "" for none.
            pooling: How the tokens become one vector, several joined; None for what the
                configuration says.
            normalize: Whether each vector has length 1; None for what the configuration says, False
                to leave out a normalization that comes last.
            truncate: Whether a text that is too long is cut, rather than an error.

        Raises:
            InputError: as `classify`, an unknown pooling, or a prompt that cannot be used.
        """
        self._check_task("feature-extraction")
        settings = self._sentences
        modes = settings.pooling if pooling is None else check_pooling(pooling)
        before = settings.prompt(prompt_name, prompt)
        encodings = self._encode(texts, truncate, before)
        skipped = 0
        if before and not settings.include_prompt:
            skipped = prompt_length(self._cutting_tokenizer, before)
        vectors: Array = np.stack(
            self._run(
                encodings,
                "last_hidden_state",
                lambda place, hidden: pooled(hidden, modes, skipped),
            )
        )
        modules = list(settings.modules)
        if normalize is False and modules and isinstance(modules[-1], Normalize):
            modules.pop()
        for module in modules:
            vectors = module(vectors)
        vectors = vectors[:, : settings.dimensions]
        return normalized(vectors) if normalize else vectors

    def similarity(self, ones: Array, others: Array) -> Array:
        """How similar vectors of texts are, float32 `[n, m]`, by the function that the model was
        trained for (`similarity_fn_name`): the cosine if nothing is said, the dot product, or the
        Euclidean or Manhattan distance times -1.

        Args:
            ones: Vectors `[n, features]` as `embed` makes them, or one `[features]`.
            others: `[m, features]`, or one.

        Raises:
            InputError: a model of another task, or vectors of different lengths.
        """
        self._check_task("feature-extraction")
        return similarities(self.similarity_fn_name, ones, others)

    @property
    def similarity_fn_name(self) -> Similarity:
        """The function that `similarity` uses."""
        return self._sentences.similarity

    @property
    def prompts(self) -> Mapping[str, str]:
        """The prompts that `embed` knows by name."""
        return self._sentences.prompts

    @property
    def default_prompt_name(self) -> str | None:
        """The name of the prompt that `embed` takes when none is passed."""
        return self._sentences.default_prompt

    def answer(self, question: str, context: str, **choice: Unpack[Choosing]) -> list[Span]:
        """The best answers to a question in a context, however long; see
        `QuestionAnswering.answers` for the arguments.
        """
        return self.questions.answer(question, context, **choice)

    def answers(
        self, pairs: Iterable[tuple[str, str]], **choice: Unpack[Choosing]
    ) -> Iterator[list[Span]]:
        """The best answers for each question and its context; see `QuestionAnswering.answers`."""
        return self.questions.answers(pairs, **choice)

    @cached_property
    def questions(self) -> QuestionAnswering:
        """Question answering with this model.

        Raises:
            InputError: it is a model of another task.
        """
        self._check_task("question-answering")
        longest = _LONGEST_WINDOW if self.longest is None else min(self.longest, _LONGEST_WINDOW)
        return QuestionAnswering(
            self._span_logits, self.tokenizer, input_names=self._input_names, max_length=longest
        )

    @cached_property
    def labels(self) -> Labels:
        """The labels of a classifier, of texts or tokens.

        Raises:
            CheckpointError: those in `config.json` are not as many as the model has.
        """
        return Labels.read(self._files, _width(self.model))

    @cached_property
    def mask_token(self) -> str:
        """What stands for a word that is to be found."""
        usual = "<mask>" if self.tokenizer.token_to_id("[MASK]") is None else "[MASK]"
        return special_token(self._files, "mask_token", usual)

    @cached_property
    def _cutting_tokenizer(self) -> Tokenizer:
        tokenizer = own_copy(self.tokenizer)
        if self.longest is not None:
            tokenizer.enable_truncation(self.longest, direction=self._sides.truncation)
        return tokenizer

    def _encode(self, texts: Sequence[Text], truncate: bool, prompt: str = "") -> list[Encoding]:
        if isinstance(texts, str):
            raise InputError(f"texts is the string {texts!r:.40}: pass a list of texts")
        if len(texts) == 0:
            raise InputError("there are no texts: pass at least one")
        if prompt:
            texts = with_prompt(prompt, texts)
        if truncate:
            return encode(self._cutting_tokenizer, texts)
        encodings = encode(self.tokenizer, texts)
        for number, each in enumerate(encodings):
            if self.longest is not None and len(each) > self.longest:
                raise InputError(
                    f"text {number} has {len(each)} tokens, but the model takes at most "
                    f"{self.longest}: shorten it, or pass truncate=True to cut it there"
                )
        return encodings

    def _run(
        self,
        encodings: Sequence[Encoding],
        part: str,
        read: Callable[[int, Array], Result],
        *,
        rows: int | None = None,
    ) -> list[Result]:
        """What `read` makes of each text's place and its part of the answer: that of its own tokens
        where there is one for every token.
        """
        size = self.batch_size if rows is None else min(rows, self.batch_size)
        sequences = [Row.of(each) for each in encodings]
        padding = padding_id(self.tokenizer)
        found: dict[int, Result] = {}
        side = self._sides.padding
        for places, inputs in batches(
            sequences, self._input_names, size=size, padding=padding, side=side
        ):
            for place, answer in zip(places, self.model(**inputs)[part], strict=True):
                if answer.ndim == 2:
                    answer = answer[own_tokens(len(sequences[place]), len(answer), side)]
                found[place] = read(place, answer)
        return [found[place] for place in range(len(found))]

    def _span_logits(self, inputs: Mapping[str, Array]) -> tuple[Array, Array]:
        answer = self.model(**inputs)
        return answer["start_logits"], answer["end_logits"]

    def _check_task(self, task: Task) -> None:
        if self.task != task:
            raise InputError(
                f"{self.model.source.name} is a model for {self.task}, so `{_METHODS[task]}` has "
                f"no answer: call `{_METHODS[self.task]}`, or load a model for {task}"
            )

    def __repr__(self) -> str:
        return f"TextModel({self.model.source.name}, {self.task}, longest={self.longest})"


def _input_names(model: CompiledModel) -> tuple[str, ...]:
    """The inputs that texts become, of those that the model takes."""
    for each in model.signature.inputs:
        if each.default is None and each.name not in MODEL_INPUTS:
            raise UnsupportedError(
                f"{model.source.name} takes {each.name}, which cannot be made from text alone: "
                "call the model with arrays"
            )
    return tuple(each.name for each in model.signature.inputs if each.name in MODEL_INPUTS)


def _width(model: CompiledModel) -> int:
    """Features of the first part of a model's answer."""
    (first, *_) = model.graph.outputs
    return evaluate(model.graph.type_of(first).shape[-1], {})


def _check_vocabulary(model: CompiledModel, tokenizer: Tokenizer) -> None:
    known = model.vocabulary
    highest = max(tokenizer.get_vocab().values(), default=0)
    if known is not None and highest >= known:
        raise CheckpointError(
            f"the tokenizer has tokens up to the id {highest}, but {model.source.name} knows "
            f"{known} tokens: it belongs to another model; copy the right one into the folder"
        )
