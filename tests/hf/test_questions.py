"""The question-answering pipeline takes what that of transformers took."""

from __future__ import annotations

from collections.abc import Iterator
from types import GeneratorType
from typing import Any

import pytest

import prunus
from prunus import hf
from prunus.errors import InputError
from prunus.hf import PrunusModelForQuestionAnswering, QuestionAnsweringPipeline
from tests.hf.tiny import reading

WHO, WHAT = "Who pruned the tree?", "What did Zoë sell?"
SHORT = "In winter Zoë-Anne pruned the plum tree; afterwards she sold 3,141 plums for €2.50."
LONG = SHORT * 6  # several windows of 64 tokens


@pytest.fixture(scope="module")
def pipe(tokenizer: Any) -> QuestionAnsweringPipeline:
    module = reading("ForQuestionAnswering")
    model = PrunusModelForQuestionAnswering(prunus.compile(module), module.config)
    made = hf.pipeline("question-answering", model=model, tokenizer=tokenizer)
    assert isinstance(made, QuestionAnsweringPipeline)
    return made


def same(found: Any, expected: Any) -> bool:
    """Whether answers are the same; scores may differ in the last digits."""
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(same, found, expected))
    score = pytest.approx(expected["score"], rel=1e-5)
    return bool(found == {**expected, "score": score})


def test_an_answer_is_a_part_of_the_context(pipe: QuestionAnsweringPipeline) -> None:
    for context in (SHORT, LONG):
        answer = pipe(question=WHO, context=context)
        assert list(answer) == ["score", "start", "end", "answer"]
        assert context[answer["start"] : answer["end"]] == answer["answer"] != ""
        assert 0 < answer["score"] <= 1


def test_every_form_of_a_question(pipe: QuestionAnsweringPipeline) -> None:
    one, other = pipe(question=WHO, context=SHORT), pipe(question=WHAT, context=LONG)
    examples = [{"question": WHO, "context": SHORT}, {"question": WHAT, "context": LONG}]
    assert pipe(examples[0]) == one
    assert pipe(examples) == pipe(tuple(examples)) == [one, other]
    assert pipe(examples[:1]) == [one]
    assert pipe(question=[WHO, WHAT], context=[SHORT, LONG]) == [one, other]
    assert pipe(question=[WHO, WHO], context=SHORT) == [one, one]
    assert pipe([{**examples[0], "id": "7"}]) == [one]  # a row of a data set


def test_batches_and_generators_equal_one_by_one(pipe: QuestionAnsweringPipeline) -> None:
    examples = [
        {"question": question, "context": context}
        for question in (WHO, WHAT, "Where?")
        for context in (LONG, SHORT, "Zoë.")
    ]
    expected = [pipe(example, top_k=2) for example in examples]
    for batch_size in (1, 2, 5):
        assert same(pipe(examples, top_k=2, batch_size=batch_size), expected)
    asked = []

    def rows() -> Iterator[dict[str, str]]:
        for example in examples:
            asked.append(example)
            yield example

    answers = pipe(rows(), top_k=2)
    assert isinstance(answers, GeneratorType) and asked == []
    assert same(next(answers), expected[0]) and len(asked) == 1
    assert same(list(answers), expected[1:])


def test_several_answers(pipe: QuestionAnsweringPipeline) -> None:
    answers = pipe(question=WHO, context=LONG, top_k=4)
    assert len({(each["start"], each["end"]) for each in answers}) == 4
    scores = [each["score"] for each in answers]
    assert scores == sorted(scores, reverse=True)
    assert pipe(question=WHO, context=LONG) == answers[0]


def test_no_answer(pipe: QuestionAnsweringPipeline) -> None:
    answers = pipe(question=WHO, context="Zoë.", top_k=9, handle_impossible_answer=True)
    assert [each for each in answers if each["answer"] == ""] == [
        {"score": pytest.approx(0.5, abs=0.5), "start": 0, "end": 0, "answer": ""}
    ]
    assert all(each["answer"] for each in pipe(question=WHO, context="Zoë.", top_k=9))


def test_settings_have_their_effects(pipe: QuestionAnsweringPipeline) -> None:
    answers = pipe(question=WHO, context=SHORT, top_k=50, max_answer_len=1, align_to_words=False)
    pieces = {each["answer"] for each in answers}
    assert "sold" in pieces and not any(" " in piece for piece in pieces)
    words = pipe(question=WHO, context=SHORT, top_k=50, max_answer_len=1)
    assert "plums" in {each["answer"] for each in words} and "##s" not in pieces
    for setting in ("max_seq_len", "doc_stride", "batch_size"):
        pipe(question=WHO, context=LONG, **dict[str, Any]({setting: 32}))
    assert {(32, 128, 1), (64, 32, 1), (64, 128, 32)} <= pipe._readers.keys()


def test_settings_of_the_pipeline(pipe: QuestionAnsweringPipeline, tokenizer: Any) -> None:
    strict = hf.pipeline("question-answering", pipe.model, tokenizer, top_k=3, batch_size=4)
    assert len(strict(question=WHO, context=SHORT)) == 3
    assert len(strict(question=WHO, context=SHORT, top_k=2)) == 2
    assert strict(question=WHO, context=SHORT, top_k=1) == pipe(question=WHO, context=SHORT)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "there is nothing to answer: give question= and context="),
        ({"question": WHO}, "there is nothing to answer"),
        ({"question": "", "context": SHORT}, "the question is empty"),
        ({"question": WHO, "context": " "}, "the context is empty"),
        ({"question": [WHO, WHO], "context": [SHORT]}, "2 questions and 1 contexts"),
        ({"inputs": []}, "the list of questions is empty"),
        ({"inputs": WHO}, "expected a dict with a question and a context, found 'Who"),
        ({"inputs": {"question": WHO, "text": SHORT}}, r"found keys \['question', 'text'\]"),
        ({"inputs": [WHO]}, "expected a dict with a question and a context"),
        ({"inputs": {}, "question": WHO}, "stand beside other inputs"),
        ({"question": "plum " * 80, "context": SHORT}, "no room for the context"),
        ({"question": WHO, "context": SHORT, "top_k": 0}, "top_k is 0"),
        ({"question": WHO, "context": SHORT, "max_seq_len": 65}, "takes? at most 64"),
    ],
)
def test_what_cannot_be_answered(
    given: dict[str, Any], message: str, pipe: QuestionAnsweringPipeline
) -> None:
    with pytest.raises(InputError, match=message):
        pipe(**given)


def test_unknown_settings(pipe: QuestionAnsweringPipeline, tokenizer: Any) -> None:
    with pytest.raises(TypeError, match="unknown setting 'topk'; question answering takes top_k"):
        pipe(question=WHO, context=SHORT, topk=2)
    with pytest.raises(TypeError, match="unknown setting 'stride'"):
        QuestionAnsweringPipeline(pipe.model, tokenizer, stride=2)


def test_models_and_tokenizers_that_do_not_fit(
    pipe: QuestionAnsweringPipeline, classifier: Any, tokenizer: Any
) -> None:
    with pytest.raises(InputError, match="found a PrunusModelForSequenceClassification: load"):
        QuestionAnsweringPipeline(classifier, tokenizer)
    with pytest.raises(InputError, match="needs a fast tokenizer, found a NoneType"):
        QuestionAnsweringPipeline(pipe.model, None)
    compiled = prunus.compile(reading("ForQuestionAnswering", vocab_size=100))
    small = PrunusModelForQuestionAnswering(compiled, pipe.model.config)
    with pytest.raises(InputError, match=r"has 30522 tokens, but the embedding .* has 100 rows"):
        QuestionAnsweringPipeline(small, tokenizer)
