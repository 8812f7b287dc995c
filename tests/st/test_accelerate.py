"""`accelerate` leaves what `encode` answers, and says what it cannot take."""

from __future__ import annotations

import importlib.util
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import prunus
from prunus.errors import InputError, PrunusError, UnsupportedError
from tests.runtime.processes import run_python

if importlib.util.find_spec("sentence_transformers") is None:
    pytest.skip("sentence-transformers is not installed", allow_module_level=True)

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Transformer

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

MOST_DISTANCE = 1e-5
LIMIT = 96
"""Tokens that the model reads of a sentence."""
OPTIONS: dict[str, Any] = {"threads": 1, "tune": "cost"}

SENTENCES = [
    "",
    "Yes.",
    "The plum tree behind the house was pruned in late winter, before its buds had opened.",
    "Why would anybody prune a tree?",
    "Pruning takes away the branches that bear no fruit, so that light reaches the others.",
    "El ciruelo florece en marzo. 梅の花が咲いた。",
    "A NETWORK\tcan be pruned\n\nas well: 90 % of its weights are set to zero!",
    "It rained.",
    "Sie aß drei Pflaumen, warf die Kerne in den Garten und vergaß sie; Jahre später stand dort "
    "ein kleiner Baum, von dem niemand wusste, wer ihn gepflanzt hatte.",
    "prune " * 200,  # more than the model reads, so that it is truncated
]


@pytest.fixture(scope="module")
def pair(minilm_folder: Path) -> tuple[Transformer, Transformer]:
    """The first module of MiniLM, 90 % pruned: as it is, and accelerated."""
    from prunus.frontend.stand_in import minilm_pruned

    plain, accelerated = transformer(minilm_folder), transformer(minilm_folder)
    plain.model = accelerated.model = minilm_pruned(0.9)[0]
    prunus.st.accelerate(model_of(accelerated), **OPTIONS)
    return plain, accelerated


def transformer(folder: Path) -> Transformer:
    from sentence_transformers.base.modules import Transformer

    made: Transformer = Transformer(str(folder), max_seq_length=LIMIT)
    return made


def model_of(first: Any, *rest: Any, **options: Any) -> SentenceTransformer:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(modules=[first, *rest], device="cpu", **options)


def pooled(first: Transformer, mode: Any = "mean", **options: Any) -> SentenceTransformer:
    from sentence_transformers.sentence_transformer.modules import Pooling

    include = options.pop("include_prompt", True)
    size = first.get_embedding_dimension()
    return model_of(first, Pooling(size, mode, include_prompt=include), **options)


def assert_alike(found: Any, wanted: Any) -> None:
    """Embeddings of one shape, each within the distance that is allowed."""
    assert type(found) is type(wanted)
    found, wanted = np.asarray(found, np.float64), np.asarray(wanted, np.float64)
    assert found.shape == wanted.shape
    lengths = np.linalg.norm(found, axis=-1), np.linalg.norm(wanted, axis=-1)
    np.testing.assert_allclose(*lengths, rtol=1e-4)
    distances = 1 - (found * wanted).sum(-1) / (lengths[0] * lengths[1])
    assert distances.max() <= MOST_DISTANCE


# What stays as it was

MODES = ["mean", "cls", "max", "lasttoken", "weightedmean", "mean_sqrt_len_tokens", ("cls", "max")]


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_every_pooling(mode: Any, pair: tuple[Transformer, Transformer]) -> None:
    plain, accelerated = (pooled(each, mode).encode(SENTENCES) for each in pair)
    assert len(np.unique(plain.round(4), axis=0)) == len(SENTENCES)
    assert_alike(accelerated, plain)


CALLS: dict[str, Callable[[SentenceTransformer], Any]] = {
    "normalized": lambda model: model.encode(SENTENCES, normalize_embeddings=True),
    "one by one": lambda model: model.encode(SENTENCES, batch_size=1),
    "in threes": lambda model: model.encode(SENTENCES, batch_size=3),
    "as a tensor": lambda model: model.encode(SENTENCES, convert_to_tensor=True),
    "a single sentence": lambda model: model.encode(SENTENCES[2]),
    "an empty string alone": lambda model: model.encode([""]),
    "nothing": lambda model: np.ones((1, 2)) + model.encode([]).size,
    "a prompt by name": lambda model: model.encode(SENTENCES, prompt_name="query"),
    "a prompt": lambda model: model.encode(SENTENCES, prompt="passage: "),
    "a query": lambda model: model.encode_query(SENTENCES[1:4]),
    "truncated vectors": lambda model: model.encode(SENTENCES, truncate_dim=32),
    "every token": lambda model: np.concatenate(
        model.encode(SENTENCES, output_value="token_embeddings", convert_to_numpy=False)
    ),
    "similarities": lambda model: model.similarity(
        model.encode(SENTENCES[1:]), model.encode(SENTENCES[:3])
    ),
}


@pytest.mark.parametrize("call", CALLS)
def test_every_way_to_encode(call: str, pair: tuple[Transformer, Transformer]) -> None:
    plain, accelerated = (pooled(each, prompts={"query": "find: "}) for each in pair)
    assert_alike(CALLS[call](accelerated), CALLS[call](plain))


def test_pooling_without_the_prompt(pair: tuple[Transformer, Transformer]) -> None:
    plain, accelerated = (
        pooled(each, include_prompt=False).encode(SENTENCES, prompt="find: ") for each in pair
    )
    assert_alike(accelerated, plain)


def test_modules_behind_it(pair: tuple[Transformer, Transformer]) -> None:
    from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling

    behind = [Pooling(384, "mean"), Dense(384, 48), Normalize()]
    plain, accelerated = (model_of(each, *behind).encode(SENTENCES) for each in pair)
    assert plain.shape == (len(SENTENCES), 48)
    assert_alike(accelerated, plain)


def test_what_the_configuration_says_of_every_text(
    pair: tuple[Transformer, Transformer],
) -> None:
    """A default prompt, which is left out of several poolings, then a LayerNorm, then a cut."""
    import torch
    from sentence_transformers.sentence_transformer.modules import LayerNorm, Pooling

    torch.manual_seed(1)
    behind = [Pooling(384, ("lasttoken", "mean"), include_prompt=False), LayerNorm(768)]
    torch.nn.init.uniform_(behind[1].norm.weight)
    options: dict[str, Any] = {
        "prompts": {"query": "find: "},
        "default_prompt_name": "query",
        "similarity_fn_name": "dot",
        "truncate_dim": 500,
    }
    plain, accelerated = (model_of(each, *behind, **options) for each in pair)
    expected = plain.encode(SENTENCES)
    assert expected.shape == (len(SENTENCES), 500)
    assert np.abs(expected - plain.encode(SENTENCES, prompt="")).max() > 1e-2
    assert_alike(accelerated.encode(SENTENCES), expected)
    assert_alike(accelerated.encode(SENTENCES, prompt=""), plain.encode(SENTENCES, prompt=""))
    scores = [each.similarity(expected[:2], expected) for each in (plain, accelerated)]
    assert_alike(*scores)


def test_a_shorter_limit_truncates(pair: tuple[Transformer, Transformer]) -> None:
    models = [pooled(each) for each in pair]
    for model in models:
        model.max_seq_length = 7
    try:
        plain, accelerated = (model.encode(SENTENCES) for model in models)
    finally:
        for model in models:
            model.max_seq_length = LIMIT
    assert_alike(accelerated, plain)
    assert np.abs(plain[2] - models[0].encode(SENTENCES[2])).max() > 1e-2


def test_what_it_says_of_itself(pair: tuple[Transformer, Transformer]) -> None:
    plain, accelerated = (pooled(each) for each in pair)
    assert accelerated.device == plain.device
    assert accelerated.get_embedding_dimension() == 384 == plain.get_embedding_dimension()
    assert accelerated.max_seq_length == plain.max_seq_length
    assert "CompiledTransformer" in repr(accelerated)
    assert accelerated.eval() is accelerated and accelerated.to("cpu") is accelerated
    assert pair[1].auto_model.compiled.threads == 1


def test_a_dense_model_is_changed_itself_and_returned(minilm_folder: Path) -> None:
    model = pooled(transformer(minilm_folder))
    before = model.encode(SENTENCES)
    assert prunus.st.accelerate(model, **OPTIONS) is model
    assert not list(model.parameters()), "the weights of the transformer are gone"
    assert_alike(model.encode(SENTENCES), before)


# Other processes


def test_it_is_pickled_without_weights(pair: tuple[Transformer, Transformer]) -> None:
    plain, accelerated = (pooled(each) for each in pair)
    data = pickle.dumps(accelerated)
    assert len(data) < 2e6, "the tokenizer, mostly"
    assert_alike(pickle.loads(data).encode(SENTENCES), plain.encode(SENTENCES))


@pytest.mark.wide
def test_a_pool_of_processes(pair: tuple[Transformer, Transformer]) -> None:
    plain, accelerated = (pooled(each) for each in pair)
    found = accelerated.encode(SENTENCES, device=["cpu", "cpu"], chunk_size=3)
    assert_alike(found, plain.encode(SENTENCES))


def test_the_module_is_light() -> None:
    code = """
import sys, prunus
prunus.st.accelerate
print(*{"torch", "transformers", "sentence_transformers", "numpy", "llvmlite"} & set(sys.modules))
"""
    shown = run_python("-c", code)
    assert shown.stdout == "\n", shown.stderr


# What it cannot take


def refused(expected: type[PrunusError], match: str, model: Any, **options: Any) -> None:
    with pytest.raises(expected, match=match):
        prunus.st.accelerate(model, **(options or OPTIONS))


def test_it_was_accelerated_already(pair: tuple[Transformer, Transformer]) -> None:
    refused(InputError, "accelerated already; load it again", model_of(pair[1]))


def test_no_model_of_sentence_transformers(pair: tuple[Transformer, Transformer]) -> None:
    plain, _ = pair
    refused(InputError, r"a BertModel was given.*prunus\.compile", plain.model)
    refused(InputError, "a Transformer was given", plain)
    refused(InputError, "a str was given", "all-MiniLM-L6-v2")


def test_another_first_module(pair: tuple[Transformer, Transformer]) -> None:
    from sentence_transformers.sentence_transformer.modules import Router, StaticEmbedding

    plain, _ = pair
    router = Router.for_query_document([plain], [plain])
    refused(UnsupportedError, "is a Router, expected a Transformer", model_of(router))
    static = StaticEmbedding(plain.tokenizer, embedding_dim=8)
    refused(UnsupportedError, "is a StaticEmbedding", model_of(static))


def test_images(minilm_folder: Path) -> None:
    first = transformer(minilm_folder)
    first.modality_config = {
        "text": {"method": "get_text_features", "method_output_name": "pooler_output"},
        "image": {"method": "get_image_features", "method_output_name": "pooler_output"},
    }
    refused(UnsupportedError, r"takes text, image \(by get_image_features,", model_of(first))


def test_another_backend(minilm_folder: Path) -> None:
    first = transformer(minilm_folder)
    first.backend = "onnx"
    refused(InputError, "runs on the backend 'onnx'", model_of(first))


def test_another_device_or_precision(minilm_folder: Path) -> None:
    model = model_of(transformer(minilm_folder))
    refused(InputError, r"is torch\.float16, expected torch\.float32", model.half())
    refused(InputError, r"is on meta; load the model with device='cpu'", model.to("meta"))


@pytest.mark.parametrize("options", [{"threads": 0}, {"tune": "never"}, {"threshold": 2}], ids=str)
def test_options_that_cannot_be_used(
    options: dict[str, Any], pair: tuple[Transformer, Transformer]
) -> None:
    plain, _ = pair
    refused(InputError, next(iter(options)), model_of(plain), **options)
    assert plain.model.config.model_type == "bert", "the model is as it was"


def test_an_unknown_option(pair: tuple[Transformer, Transformer]) -> None:
    with pytest.raises(TypeError, match="speed"):
        prunus.st.accelerate(model_of(pair[0]), speed=11)


def test_what_would_be_ignored_at_a_call(pair: tuple[Transformer, Transformer]) -> None:
    _, accelerated = pair
    features = accelerated.preprocess(["Yes."])
    with pytest.raises(InputError, match="output_attentions"):
        accelerated(features, output_attentions=True)
    with pytest.raises(InputError, match="return_dict=False"):
        accelerated.auto_model.forward(return_dict=False)


def test_saving(pair: tuple[Transformer, Transformer], tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"save the model before accelerate"):
        pooled(pair[1]).save_pretrained(str(tmp_path / "model"))
