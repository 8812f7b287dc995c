"""The vectors of `embed` are those of `encode`, for models that sentence-transformers saved."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import prunus
import prunus.text
from prunus.errors import InputError
from prunus.text import TextModel
from prunus.text.vectors import POOLINGS, similarities
from tests.text.sentence_models import WIDTH, change, dense, modules, pooled

library = pytest.importorskip("sentence_transformers")

Folders = Callable[[str], tuple[Path, Path]]
Save = Callable[..., tuple[Any, Path]]

TEXTS = [
    "Zoë gathered 3,141 plums in Nice — naïvely 🍑.",
    "Rain.",
    "The gardener of Tokyo (東京) prunes; Anne-Marie watches, bewildered and amused.",
    "Plums!",
]
PROMPTS = {"query": "Find a text about this: ", "passage": "Plum "}


@pytest.fixture
def save(folders: Folders, tmp_path: Path) -> Save:
    """Saves a model of some modules by sentence-transformers; the model, and its folder."""
    from sentence_transformers.base.modules import Transformer

    def make(*behind: Any, first: Any = None, **options: Any) -> tuple[Any, Path]:
        import torch

        torch.manual_seed(3)
        first = Transformer(str(folders("vectors")[0]), **(first or {}))
        pooling = () if behind and isinstance(behind[0], modules().Pooling) else (pooled("mean"),)
        made = library.SentenceTransformer(
            modules=[first, *pooling, *behind], device="cpu", **options
        )
        made.save_pretrained(str(tmp_path / "saved"))
        return made, tmp_path / "saved"

    return make


def load(folder: Path) -> TextModel:
    return TextModel(prunus.from_pretrained(folder, threads=1))


def assert_alike(found: Any, expected: Any) -> None:
    assert found.shape == expected.shape and found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=2e-5 * max(1, np.abs(expected).max()))


@pytest.mark.parametrize(
    ("mode", "include"),
    [("mean", True), ("lasttoken", False), (POOLINGS, True), (POOLINGS, False)],
    ids=str,
)
def test_every_pooling_with_and_without_the_prompt(save: Save, mode: Any, include: bool) -> None:
    made, folder = save(pooled(mode, include_prompt=include), prompts=PROMPTS)
    model = load(folder)
    for name in (None, "query", "passage"):
        assert_alike(model.embed(TEXTS, prompt_name=name), made.encode(TEXTS, prompt_name=name))


def test_the_default_prompt_is_put_before_each_text(save: Save) -> None:
    made, folder = save(prompts=PROMPTS, default_prompt_name="query")
    model = load(folder)
    assert model.default_prompt_name == "query"
    assert dict(model.prompts) == made.prompts
    found = model.embed(TEXTS)
    assert_alike(found, made.encode(TEXTS))
    assert_alike(model.embed(TEXTS, prompt=""), made.encode(TEXTS, prompt=""))
    assert_alike(model.embed(TEXTS, prompt="a plum: "), made.encode(TEXTS, prompt="a plum: "))
    assert_alike(model.embed(TEXTS, prompt_name="document"), made.encode_document(TEXTS, prompt=""))
    assert np.abs(found - model.embed(TEXTS, prompt="")).max() > 1e-2, "the prompt changes them"
    pairs = [("one text", "and another"), ("a", "b")]
    assert_alike(model.embed(pairs), made.encode(pairs))


def test_prompts_that_cannot_be_used(save: Save) -> None:
    _, folder = save(
        pooled("mean", include_prompt=False), prompts=PROMPTS, first={"max_seq_length": 8}
    )
    model = load(folder)
    with pytest.raises(InputError, match="no prompt 'find', only query, document, passage"):
        model.embed(TEXTS, prompt_name="find")
    with pytest.raises(InputError, match="pass one of them"):
        model.embed(TEXTS, prompt_name="query", prompt="a")
    with pytest.raises(InputError, match="prompt is a int"):
        model.embed(TEXTS, prompt=3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="text is empty"):
        model.embed([""], prompt_name="query")
    long = "plum " * 20
    with pytest.raises(InputError, match=r"text 0 has .* at most 8"):
        model.embed(["a"], prompt=long)
    found = model.embed(["a"], prompt=long, truncate=True)  # [SEP] is left
    assert found.shape == (1, WIDTH)


def test_modules_behind_the_pooling(save: Save) -> None:
    import torch

    behind = [
        pooled(("cls", "mean")),
        dense(24, torch.nn.Tanh(), inputs=2 * WIDTH),
        modules().Dropout(0.5),
        modules().Normalize(),
        dense(12, torch.nn.SiLU(), inputs=24, bias=False),
        modules().Normalize(),
    ]
    made, folder = save(*behind)
    made.eval()
    assert_alike(load(folder).embed(TEXTS), made.encode(TEXTS))


def test_every_activation(save: Save) -> None:
    import torch

    kinds = [torch.nn.Identity, torch.nn.ReLU, torch.nn.SiLU, torch.nn.Sigmoid, torch.nn.Tanh]
    made, folder = save(*(dense(WIDTH, kind()) for kind in kinds))
    assert_alike(load(folder).embed(TEXTS), made.encode(TEXTS))


def test_truncated_and_normalized_vectors(save: Save) -> None:
    made, folder = save(modules().Normalize(), truncate_dim=8)
    model = load(folder)
    assert_alike(model.embed(TEXTS), made.encode(TEXTS))
    expected = made.encode(TEXTS, normalize_embeddings=True)
    assert_alike(model.embed(TEXTS, normalize=True), expected)
    assert np.linalg.norm(model.embed(TEXTS, normalize=False), axis=1).min() > 1


@pytest.mark.parametrize("kind", ["cosine", "dot", "euclidean", "manhattan", None])
def test_every_similarity(save: Save, kind: Any) -> None:
    made, folder = save(similarity_fn_name=kind)
    model = load(folder)
    assert model.similarity_fn_name == (kind or "cosine")
    vectors = made.encode(TEXTS)
    for ones, others in [(vectors, vectors[:2]), (vectors[0], vectors), (vectors[0], vectors[1])]:
        expected = made.similarity(ones, others).numpy()
        assert_alike(model.similarity(ones, others), expected)
    with pytest.raises(InputError, match=r"\(1, 3\) and \(4, 32\)"):
        model.similarity(np.zeros(3), vectors)
    assert similarities("euclidean", np.zeros((0, 3)), np.zeros((2, 3))).shape == (0, 2)


def test_the_length_of_sentence_transformers_is_in_the_place_of_the_tokenizers(
    save: Save,
) -> None:
    """A longer one too, up to what the model takes; texts are cut at the side that is set."""
    made, folder = save()
    change(folder, "tokenizer_config.json", model_max_length=6, truncation_side="left")
    for limit, expected in [(24, 24), (None, 6), (3, 3), (10_000, 64)]:
        change(folder, "sentence_bert_config.json", max_seq_length=limit)
        model = load(folder)
        assert model.longest == expected
        made = library.SentenceTransformer(str(folder), device="cpu")
        made.max_seq_length = min(made.max_seq_length, 64)  # it would ask for more than there is
        long = ["plum tree and " * 40]
        assert_alike(model.embed(long, truncate=True), made.encode(long))


def test_small_letters(save: Save, tmp_path: Path) -> None:
    _, folder = save()
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["normalizer"]["lowercase"] = False
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    change(folder, "tokenizer_config.json", do_lower_case=False)
    texts = ["A PLUM Tree"]
    found = []
    for lower in (False, True):
        change(folder, "sentence_bert_config.json", do_lower_case=lower)
        made = library.SentenceTransformer(str(folder), device="cpu")
        found.append(load(folder).embed(texts))
        assert_alike(found[-1], made.encode(texts))
    assert np.abs(found[0] - found[1]).max() > 1e-2


def test_a_saved_folder_has_all_of_it(save: Save, tmp_path: Path) -> None:
    import torch

    made, folder = save(
        dense(16, torch.nn.Tanh()),
        modules().Normalize(),
        prompts=PROMPTS,
        default_prompt_name="query",
        similarity_fn_name="dot",
    )
    compiled = prunus.from_pretrained(folder, threads=1)
    for target in (tmp_path / "one", tmp_path / "two"):
        compiled.save_pretrained(target)
        compiled = prunus.load(target, threads=1)  # the second is a copy of the first
        model = TextModel(compiled)
        assert_alike(model.embed(TEXTS), made.encode(TEXTS))
        assert model.similarity_fn_name == "dot"


def test_the_saved_minilm_equals_sentence_transformers(minilm_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "minilm"
    shutil.copytree(minilm_folder, folder)
    change(
        folder, "config_sentence_transformers.json", prompts=PROMPTS, default_prompt_name="query"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # position_ids are left over, unless the cache has it
        compiled = prunus.from_pretrained(folder, threads=1)
    compiled.save_pretrained(tmp_path / "saved")
    made = library.SentenceTransformer(str(folder), device="cpu")
    model = prunus.text.load(tmp_path / "saved", threads=1)
    assert model.longest == 256
    for name in (None, "passage", "document"):
        assert_alike(model.embed(TEXTS, prompt_name=name), made.encode(TEXTS, prompt_name=name))


@pytest.mark.parametrize(
    ("config", "pooling"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}, ("cls", "mean")),
        ({"pooling_mode_lasttoken": True}, "lasttoken"),
        ({"pooling_mode_mean_sqrt_len_tokens": True}, "mean_sqrt_len_tokens"),
        ({"word_embedding_dimension": 32}, "mean"),
    ],
)
def test_pooling_as_it_was_written_before_version_6(
    save: Save, config: dict[str, Any], pooling: Any
) -> None:
    _, folder = save()
    (folder / "1_Pooling" / "config.json").write_text(
        json.dumps({"word_embedding_dimension": WIDTH} | config)
    )
    made = library.SentenceTransformer(str(folder), device="cpu")
    model = load(folder)
    assert_alike(model.embed(TEXTS), made.encode(TEXTS))
    assert_alike(model.embed(TEXTS), model.embed(TEXTS, pooling=pooling))
