"""Every task on tiny models with a real tokenizer: the right model is as good, a wrong one not."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import prunus
from prunus.check import DataReport, check_data, load_tokenizer, read_data
from prunus.check.tasks import find_task
from prunus.errors import CheckpointError, InputError, UnsupportedError
from prunus.frontend import stand_in
from tests.check.tiny import LIMIT, REAL_VOCABULARY, bert, perturbed

WORDS = ("the", "cat", "sat", "on", "nobody", "quantum", "pineapples", "looked", "Berlin", "3")

pytestmark = pytest.mark.usefixtures("minilm_folder")


@cache
def tokenizer() -> Any:
    return load_tokenizer(stand_in.minilm_folder())


@cache
def both(head: str, labels: int = 2) -> tuple[Any, prunus.CompiledModel]:
    module = bert(head, vocab_size=REAL_VOCABULARY, num_labels=labels)
    if head == "ForSequenceClassification":  # whose bias would make one label of all texts
        logits = torch.cat([answer.logits for answer in answers(module, texts(40))])
        module.classifier.bias.data -= logits.mean(0)
    return module, prunus.compile(module, tune="cost", threads=1)


def texts(count: int, longest: int = 20) -> list[str]:
    draw = random.Random(0)
    return [" ".join(draw.choices(WORDS, k=draw.randint(1, longest))) for _ in range(count)]


def answers(module: Any, *given: Any, **options: Any) -> Any:
    """What transformers says to each text by itself, without padding."""
    for each in zip(*given, strict=True):
        inputs = tokenizer()(*each, return_tensors="pt", truncation=True, max_length=LIMIT)
        with torch.no_grad():
            yield module(**inputs, **options)


def check(
    folder: Path, rows: list[dict[str, Any]], both: tuple[Any, prunus.CompiledModel], **options: Any
) -> DataReport:
    path = folder / "rows.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    module, model = both
    return check_data(model, module, read_data(path), tokenizer(), **options)


def metrics(report: DataReport) -> dict[str, tuple[float, float]]:
    return {each.name: (each.prunus, each.transformers) for each in report.metrics}


def test_text_classification(tmp_path: Path) -> None:
    module, model = both("ForSequenceClassification", 3)
    labels = [int(answer.logits.argmax()) for answer in answers(module, texts(40))]
    assert len(set(labels)) == 3
    rows = [{"text": t, "label": n} for t, n in zip(texts(40), labels, strict=True)]
    right = check(tmp_path, rows, (module, model))
    assert right.same and right.differing == 0 and right.task == "text classification"
    assert metrics(right) == {"accuracy": (1, 1), "F1 (macro)": (1, 1)}
    assert (right.rows, right.answers, right.cut) == (40, 40, 0)
    wrong = check(tmp_path, rows, (module, perturbed(model, 30)))
    assert not wrong.same and wrong.differing > 0
    assert metrics(wrong)["accuracy"][0] == pytest.approx(1 - wrong.differing / 40)
    drop = metrics(wrong)["accuracy"][1] - metrics(wrong)["accuracy"][0]
    only = check(tmp_path, rows, (module, perturbed(model, 30)), tolerance=1.0)
    assert only.same and only.metrics[0].drop == pytest.approx(drop)


def test_pairs_of_texts(tmp_path: Path) -> None:
    module, model = both("ForSequenceClassification", 3)
    first, second = texts(30), texts(60)[30:]
    labels = [int(answer.logits.argmax()) for answer in answers(module, first, second)]
    rows = [
        {"premise": a, "hypothesis": b, "label": f"label_{n}"}
        for a, b, n in zip(first, second, labels, strict=True)
    ]
    assert metrics(check(tmp_path, rows, (module, model)))["accuracy"] == (1, 1)


def test_long_texts_are_cut_and_counted(tmp_path: Path) -> None:
    module, model = both("ForSequenceClassification", 3)
    long = texts(6, 300)
    lengths = [len(tokenizer()(text)["input_ids"]) for text in long]
    labels = [int(answer.logits.argmax()) for answer in answers(module, long)]
    rows = [{"text": t, "label": n} for t, n in zip(long, labels, strict=True)]
    report = check(tmp_path, rows, (module, model))
    assert report.cut == sum(length > LIMIT for length in lengths) > 0
    assert metrics(report)["accuracy"] == (1, 1)


def test_text_scoring(tmp_path: Path) -> None:
    module, model = both("ForSequenceClassification", 1)
    scores = [float(answer.logits) for answer in answers(module, texts(30))]
    rows = [{"sentence": t, "score": s} for t, s in zip(texts(30), scores, strict=True)]
    report = check(tmp_path, rows, (module, model))
    assert report.same and report.task == "text scoring"
    assert metrics(report)["Spearman"] == pytest.approx((1, 1))
    assert not check(tmp_path, rows, (module, perturbed(model, 30))).same


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
def test_sentence_similarity(tmp_path: Path, pooling: Any) -> None:
    module, model = both("Model")
    pools: dict[str, Callable[[Any], Any]] = {
        "mean": lambda tokens: tokens.mean(1),
        "cls": lambda tokens: tokens[:, 0],
        "max": lambda tokens: tokens.amax(1),
    }
    first, second = texts(30), texts(60)[30:]
    one, two = (
        torch.cat([pools[pooling](answer.last_hidden_state) for answer in answers(module, column)])
        for column in (first, second)
    )
    cosines = torch.nn.functional.cosine_similarity(one, two).tolist()
    rows = [
        {"sentence1": a, "sentence2": b, "score": 5 * c}
        for a, b, c in zip(first, second, cosines, strict=True)
    ]
    report = check(tmp_path, rows, (module, model), pooling=pooling)
    assert report.same and report.task == "sentence similarity"
    assert metrics(report)["Spearman"][1] == pytest.approx(1, abs=1e-3)
    wrong = check(tmp_path, rows, (module, perturbed(model, 30)), pooling=pooling)
    assert not wrong.same and wrong.differing > 10


def test_token_classification(tmp_path: Path) -> None:
    module, model = both("ForTokenClassification", 3)
    rows, cut = [], 0
    for text in [*texts(10), *texts(4, 150)]:
        words = text.split()
        encoded = tokenizer()(
            words, is_split_into_words=True, return_tensors="pt", truncation=True, max_length=LIMIT
        )
        with torch.no_grad():
            best = module(**encoded).logits[0].argmax(-1).tolist()
        places = encoded.word_ids(0)
        kept = [best[places.index(w)] for w in range(len(words)) if w in places]
        cut += len(tokenizer()(text)["input_ids"]) > LIMIT
        rows.append({"tokens": words, "ner_tags": kept + [0] * (len(words) - len(kept))})
    report = check(tmp_path, rows, (module, model))
    assert report.same and report.task == "token classification"
    assert report.cut == cut > 0
    assert metrics(report)["accuracy"] == (1, 1), "a word that was cut off is not judged"
    assert sum(len(row["tokens"]) for row in rows) > report.answers > report.rows
    assert not check(tmp_path, rows, (module, perturbed(model, 30))).same


def test_question_answering(tmp_path: Path) -> None:
    from prunus.text.questions import QuestionAnswering

    module, model = both("ForQuestionAnswering")

    def logits(inputs: Any) -> Any:
        with torch.no_grad():
            answer = module(**{name: torch.from_numpy(array) for name, array in inputs.items()})
        return answer.start_logits.numpy(), answer.end_logits.numpy()

    answering = QuestionAnswering(
        logits, tokenizer().backend_tokenizer, input_names=model.input_names, max_length=LIMIT
    )
    pairs = list(zip(texts(12, 6), texts(24, 120)[12:], strict=True))
    questions = [
        {"id": str(i), "question": question, "answers": [{"text": spans[0].answer}]}
        for i, ((question, _), spans) in enumerate(
            zip(pairs, answering.answers(pairs), strict=True)
        )
    ]
    document = {
        "data": [
            {"paragraphs": [{"context": context, "qas": [each]}]}
            for each, (_, context) in zip(questions, pairs, strict=True)
        ]
    }
    path = tmp_path / "squad.json"
    path.write_text(json.dumps(document))
    report = check_data(model, module, read_data(path), tokenizer())
    assert report.same and report.differing == 0 and report.rows == 12
    assert metrics(report) == {"exact match": (1, 1), "F1": (1, 1)}
    wrong = check_data(perturbed(model, 30), module, read_data(path), tokenizer())
    assert not wrong.same and metrics(wrong)["exact match"][0] < 1
    questions[0]["answers"] = []
    path.write_text(json.dumps(document))
    with_no_answer = check_data(model, module, read_data(path), tokenizer())
    assert with_no_answer.same and with_no_answer.rows == 12


ERRORS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "no label": ({"text": "a"}, {}, "columns text, but for labels"),
    "no text": ({"body": "a", "label": 0}, {}, "columns body, label, but for texts"),
    "unknown label": ({"text": "a", "label": 7}, {}, "label 7; the model knows 0 LABEL_0"),
    "negative tolerance": ({"text": "a", "label": 0}, {"tolerance": -1}, "give 0 or more"),
    "pooling": ({"text": "a", "label": 0}, {"pooling": "cls"}, "the model answers logits"),
    "no such column": ({"text": "a", "label": 0}, {"text_columns": ["x"]}, "expected x"),
}


@pytest.mark.parametrize(("row", "options", "says"), ERRORS.values(), ids=ERRORS.keys())
def test_data_that_does_not_fit(
    tmp_path: Path, row: dict[str, Any], options: dict[str, Any], says: str
) -> None:
    with pytest.raises(InputError, match=says):
        check(tmp_path, [row], both("ForSequenceClassification", 3), **options)


def test_a_tokenizer_of_another_vocabulary(tmp_path: Path) -> None:
    module = bert("ForSequenceClassification")
    model = prunus.compile(module, tune="cost", threads=1)
    with pytest.raises(InputError, match="tokenizer knows 30522 tokens, but the model only 90"):
        check(tmp_path, [{"text": "a", "label": 0}], (module, model))


def test_models_without_a_metric(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"logits \[batch, seq, 90\], for which there is no"):
        find_task({"logits": ("batch", "seq", 90)}, 2)
    module, model = both("ForSequenceClassification", 3)
    several = transformers.BertForSequenceClassification(module.config)
    several.config = transformers.BertConfig(problem_type="multi_label_classification")
    with pytest.raises(UnsupportedError, match="several labels"):
        check(tmp_path, [{"text": "a", "label": 0}], (several, model))
    config = transformers.ViTConfig(
        image_size=16, patch_size=8, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=24,
    )  # fmt: skip
    images = transformers.ViTForImageClassification(config).eval()
    example = {"pixel_values": np.zeros((2, 3, 16, 16), np.float32)}
    with pytest.raises(UnsupportedError, match="takes pixel_values"):
        compiled = prunus.compile(images, example, tune="cost", threads=1)
        check(tmp_path, [{"text": "a", "label": 0}], (images, compiled))


def test_folders_without_a_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no tokenizer"):
        load_tokenizer(tmp_path)
    bert().save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"holds no tokenizer: add .* tokenizer\.json"):
        load_tokenizer(tmp_path)


def test_a_hostile_tokenizer_is_refused(tmp_path: Path) -> None:
    """transformers would hand it to a library that panics."""
    merges = {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": ["a b"]}
    (tmp_path / "tokenizer.json").write_text(json.dumps({"version": "1.0", "model": merges}))
    with pytest.raises(CheckpointError, match="has the merge 'a b'"):
        load_tokenizer(tmp_path)
