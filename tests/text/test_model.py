"""Texts in and answers out, against the pipelines of transformers on the same checkpoint."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

import prunus
import prunus.text
from prunus.errors import CheckpointError, InputError, UnsupportedError
from prunus.text import TextModel

Folders = Callable[[str], tuple[Path, Path]]

TEXTS = [
    "Zoë gathered 3,141 plums in Nice — naïvely 🍑.",
    "Rain.",
    "The unembeddable gardener of Tokyo (東京) prunes; Anne-Marie watches, bewildered and amused.",
    "It was a plum of a film, and the seedlings never looked better than on that winter evening.",
    "Plums!",
]
LONG = "plum " * 100


@pytest.fixture
def load(folders: Folders) -> Callable[..., TextModel]:
    """Loads the folder saved for a task, to be asked in small batches."""
    return lambda key, **options: prunus.text.load(
        folders(key)[1], threads=1, batch_size=2, **options
    )


@pytest.fixture
def pipeline(folders: Folders) -> Callable[..., Any]:
    """The pipeline of transformers for a task, on the checkpoint."""
    transformers = pytest.importorskip("transformers")

    def make(task: str, key: str, **options: Any) -> Any:
        folder = str(folders(key)[0])
        return transformers.pipeline(task, model=folder, tokenizer=folder, device="cpu", **options)

    return make


@pytest.mark.parametrize("key", ["text", "several", "value", "single"])
def test_labels(load: Any, pipeline: Any, key: str) -> None:
    expected = pipeline("text-classification", key)(TEXTS, top_k=None)
    found = load(key).classify(TEXTS)
    assert [[each.label for each in one] for one in found] == [
        [each["label"] for each in one] for one in expected
    ]
    scores = [each.score for one in found for each in one]
    assert scores == pytest.approx(
        [each["score"] for one in expected for each in one], abs=1e-4, rel=1e-4
    )


def test_pairs_of_texts(load: Any, pipeline: Any) -> None:
    pairs = [(TEXTS[0], TEXTS[1]), (TEXTS[2], TEXTS[3])]
    expected = pipeline("text-classification", "text")(
        [{"text": one, "text_pair": other} for one, other in pairs], top_k=None
    )
    for one, other in zip(load("text").classify(pairs), expected, strict=True):
        assert [each.label for each in one] == [each["label"] for each in other]
        assert [each.score for each in one] == pytest.approx(
            [each["score"] for each in other], abs=1e-4
        )


def test_entities(load: Any, pipeline: Any) -> None:
    expected = pipeline("token-classification", "tokens", aggregation_strategy="simple")(TEXTS)
    found = load("tokens").label_tokens(TEXTS)
    assert {each.label for one in found for each in one} == {"PER", "LOC", "MISC"}
    assert any(" " in each.text for one in found for each in one)
    for text, one, other in zip(TEXTS, found, expected, strict=True):
        assert [(each.label, each.start, each.end) for each in one] == [
            (each["entity_group"], each["start"], each["end"]) for each in other
        ]
        assert [each.score for each in one] == pytest.approx(
            [each["score"] for each in other], abs=1e-4
        )
        assert all(each.text == text[each.start : each.end] for each in one)


def test_masks(load: Any, pipeline: Any) -> None:
    texts = ["The [MASK] prunes.", "In [MASK] the gardener [MASK] plums, and the plums wait."]
    expected = pipeline("fill-mask", "masks")(texts, top_k=4)
    found = load("masks").fill(texts, top_k=4)
    assert [len(one) for one in found] == [1, 2]
    expected = [[expected[0]], expected[1]]  # a single mask has no list of its own there
    for one, other in zip(chain(*found), chain(*expected), strict=True):
        assert [(each.id, each.token) for each in one] == [
            (each["token"], each["token_str"]) for each in other
        ]
        assert [each.score for each in one] == pytest.approx(
            [each["score"] for each in other], abs=1e-4, rel=1e-3
        )


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
def test_vectors(load: Any, pipeline: Any, pooling: Any, normalize: bool) -> None:
    hidden = [np.array(each)[0] for each in pipeline("feature-extraction", "vectors")(TEXTS)]
    pools: dict[str, Any] = {"mean": np.mean, "max": np.max, "cls": lambda array, axis: array[0]}
    expected = np.stack([pools[pooling](each, axis=0) for each in hidden])
    if normalize:
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    found = load("vectors").embed(TEXTS, pooling=pooling, normalize=normalize)
    assert found.dtype == np.float32 and found.shape == (len(TEXTS), 32)
    np.testing.assert_allclose(found, expected, atol=1e-4 * max(1, np.abs(expected).max()))


def test_spans(load: Any, folders: Folders) -> None:
    """The decoding has tests of its own; here the logits come from the right inputs."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    checkpoint = str(folders("question")[0])
    module = transformers.AutoModelForQuestionAnswering.from_pretrained(checkpoint).eval()
    tokenizer = Tokenizer.from_file(f"{checkpoint}/tokenizer.json")
    tokenizer.no_padding()
    question, context = "Who prunes?", TEXTS[3]
    encoding = tokenizer.encode(question, context)
    with torch.no_grad():
        answer = module(
            input_ids=torch.tensor([encoding.ids]),
            token_type_ids=torch.tensor([encoding.type_ids]),
        )
    allowed = [i for i, number in enumerate(encoding.sequence_ids) if number == 1]
    start, end = (x[0, [0, *allowed]].softmax(-1)[1:] for x in (answer[0], answer[1]))
    scores = torch.triu(start[:, None] * end[None, :])
    first, last = divmod(int(scores.argmax()), len(allowed))
    (span,) = load("question").answer(question, context)
    assert span.score == pytest.approx(float(scores.max()), abs=1e-4)
    assert span.start <= encoding.offsets[allowed[first]][0]
    assert span.end >= encoding.offsets[allowed[last]][1]
    assert span.answer == context[span.start : span.end]


def test_a_checkpoint_answers_as_its_saved_folder(load: Any, folders: Folders) -> None:
    compiled = prunus.from_pretrained(folders("vectors")[0], threads=1)
    np.testing.assert_allclose(
        TextModel(compiled).embed(TEXTS), load("vectors").embed(TEXTS), atol=1e-5
    )


def test_another_class_than_the_configuration_names(folders: Folders) -> None:
    with pytest.warns(UserWarning, match="classifier"):
        compiled = prunus.from_pretrained(folders("text")[0], threads=1, architecture="BertModel")
    model = TextModel(compiled)
    assert model.task == "feature-extraction"
    assert model.embed(["a plum"]).shape == (1, 32)


def test_texts_that_are_too_long(load: Any, pipeline: Any) -> None:
    model = load("text")
    assert model.longest == 64
    with pytest.raises(InputError, match=r"text 1 has 102 tokens.* at most 64.*truncate=True"):
        model.classify(["plum", LONG])
    cut = model.classify(["plum", LONG], truncate=True)
    expected = pipeline("text-classification", "text")(LONG, truncation=True, max_length=64)[0]
    assert cut[1][0].label == expected["label"]
    assert cut[1][0].score == pytest.approx(expected["score"], abs=1e-4)
    assert cut[0] == model.classify(["plum"])[0]


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        ([], "no texts"),
        ([""], "text is empty"),
        (["a", " \t"], "text is empty"),
        ("a text", "pass a list"),
        ([None], "NoneType"),
        (["\ud800"], "not valid Unicode"),
    ],
)
def test_bad_texts(load: Any, texts: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        load("text").classify(texts)


def test_what_no_model_takes(load: Any) -> None:
    with pytest.raises(InputError, match="pooling is 'sum'"):
        load("vectors").embed(["a"], pooling="sum")
    with pytest.raises(InputError, match="the text is a tuple"):
        load("tokens").label_tokens([("a", "b")])
    with pytest.raises(InputError, match="text 0 has no mask"):
        load("masks").fill(["a"])
    with pytest.raises(InputError, match="top_k is 0"):
        load("masks").fill(["[MASK]"], top_k=0)
    with pytest.raises(InputError, match="batch_size is 0"):
        TextModel(load("text").model, batch_size=0)


@pytest.mark.parametrize("method", ["classify", "label_tokens", "fill", "embed"])
def test_a_model_of_another_task(load: Any, method: str) -> None:
    with pytest.raises(InputError, match=f"question-answering, so `{method}` has no answer"):
        getattr(load("question"), method)(["a"])
    with pytest.raises(InputError, match="so `answer` has no answer: call `embed`"):
        load("vectors").answer("a?", "b")


def _changed(folder: Path, target: Path, **files: Any) -> Path:
    """A copy with other contents of some files; None takes one away."""
    shutil.copytree(folder, target)
    for name, content in files.items():
        path = target / {"vocab": "vocab.txt"}.get(name, f"{name}.json")
        if content is None:
            path.unlink()
        else:
            path.write_text(content if isinstance(content, str) else json.dumps(content))
    return target


def test_only_a_vocabulary(load: Any, folders: Folders, tmp_path: Path) -> None:
    """As checkpoints of BERT were saved before there was a `tokenizer.json`."""
    folder = _changed(
        folders("vectors")[1], tmp_path / "old", tokenizer=None, special_tokens_map=None
    )
    old, new = TextModel(prunus.load(folder, threads=1)), load("vectors")
    texts = [*TEXTS, "[MASK] and [UNK] are tokens, [NOT] this", "café CAFÉ ｆｕｌｌ\u2028line"]
    for text in texts:
        one, other = old.tokenizer.encode(text), new.tokenizer.encode(text)
        assert (one.ids, one.offsets, one.type_ids) == (other.ids, other.offsets, other.type_ids)
    pair = [each.tokenizer.encode("one", "two words").type_ids for each in (old, new)]
    assert pair[0] == pair[1] == [0, 0, 0, 1, 1, 1]
    np.testing.assert_array_equal(old.embed(texts), new.embed(texts))


def test_case_and_added_tokens_of_a_vocabulary(folders: Folders, tmp_path: Path) -> None:
    files = {"tokenizer": None, "tokenizer_config": {"do_lower_case": False}}
    kept = _changed(folders("vectors")[1], tmp_path / "cased", **files)
    tokenizer = prunus.text.load(kept, threads=1).tokenizer
    assert tokenizer.encode("plum").tokens == ["[CLS]", "plum", "[SEP]"]
    assert tokenizer.encode("Plum").tokens == ["[CLS]", "[UNK]", "[SEP]"]


def test_added_tokens_are_numbered(minilm_folder: Path, tmp_path: Path) -> None:
    from prunus.text.files import load_tokenizer

    added = tmp_path / "added_tokens.json"
    files = {
        "vocab.txt": minilm_folder / "vocab.txt",
        "config.json": minilm_folder / "config.json",
        "added_tokens.json": added,
    }
    added.write_text('{"<b>": 30523, "<a>": 30522}')
    assert load_tokenizer(files).encode("x <b>").ids[2] == 30523
    added.write_text('{"<a>": 40000}')
    with pytest.raises(CheckpointError, match=r"numbers '<a>' as 40000"):
        load_tokenizer(files)


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (
            {"tokenizer": None, "vocab": None},
            r"looked for tokenizer.json, and for vocab.txt .*, found config.json, ",
        ),
        (
            {"tokenizer": None, "tokenizer_config": {"tokenizer_class": "MPNetTokenizerFast"}},
            "without a tokenizer",
        ),
        ({"tokenizer": "{}"}, r"has the model None"),
        ({"tokenizer": None, "vocab": "plum\n"}, r"has no token '\[UNK\]'"),
        ({"tokenizer": None, "tokenizer_config": "{"}, "not readable JSON"),
        ({"tokenizer": None, "tokenizer_config": "[]"}, "holds a list"),
    ],
)
def test_a_bad_tokenizer(
    folders: Folders, tmp_path: Path, files: dict[str, Any], says: str
) -> None:
    folder = _changed(folders("vectors")[1], tmp_path / "bad", **files)
    with pytest.raises(CheckpointError, match=says):
        prunus.text.load(folder, threads=1)


def test_a_tokenizer_of_another_vocabulary(folders: Folders, tmp_path: Path) -> None:
    folder = shutil.copytree(folders("vectors")[1], tmp_path / "other")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_tokens(["plumtree"])
    tokenizer.save(str(folder / "tokenizer.json"))
    with pytest.raises(CheckpointError, match=r"up to the id 30522.* knows 30522 tokens"):
        prunus.text.load(folder, threads=1)


def test_labels_that_do_not_fit(folders: Folders, tmp_path: Path) -> None:
    folder = _changed(folders("text")[1], tmp_path / "two", config={"id2label": {"0": "a"}})
    with pytest.raises(CheckpointError, match="the model has 3 labels"):
        prunus.text.load(folder, threads=1).classify(["a"])
    folder = _changed(folders("text")[1], tmp_path / "none", config={})
    labels = prunus.text.load(folder, threads=1).classify(["a"])[0]
    assert {each.label for each in labels} == {"LABEL_0", "LABEL_1", "LABEL_2"}


def test_a_task_without_texts() -> None:
    torch = pytest.importorskip("torch")
    model = prunus.compile(torch.nn.Linear(3, 2), [torch.ones(1, 3)], threads=1)
    with pytest.raises(UnsupportedError, match="call it with arrays"):
        TextModel(model)


def test_it_travels(load: Any) -> None:
    model = load("vectors")
    other = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(other.embed(TEXTS), model.embed(TEXTS))


def test_neither_torch_nor_transformers(folders: Folders) -> None:
    script = (
        "import sys, prunus.text\n"
        "model = prunus.text.load(sys.argv[1], threads=1)\n"
        "model.classify(['a plum'])\n"
        "print([name for name in ('torch', 'transformers') if name in sys.modules])\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script, str(folders("text")[1])],
        check=True,
        capture_output=True,
        text=True,
    )
    assert ran.stdout.strip() == "[]"
