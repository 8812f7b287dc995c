"""The script runs as a user runs it, with prunus and with the logits of PyTorch."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.examples.test_deploy_pruned_bert import EXAMPLES, run
from tests.hf.tiny import reading

SCRIPT = str(EXAMPLES / "answer_questions.py")
ANSWER = re.compile(r"^(.+\?)\n  (.+)  \((\d+)–(\d+), score (\S+)\)$", re.MULTILINE)

pytestmark = [
    pytest.mark.wide,
    pytest.mark.usefixtures("minilm_folder"),
]


def test_it_answers_as_pytorch_does() -> None:
    after = run(SCRIPT)
    before = run(SCRIPT, "--transformers")
    assert "STAND-IN" in after and "questions a second" in after
    answers = ANSWER.findall(after)
    assert [answer[0] for answer in answers] == [
        "Who pruned the tree?", "How many plums did it bear?", "Where were they sold?",
    ]  # fmt: skip
    assert [answer[:4] for answer in ANSWER.findall(before)] == [each[:4] for each in answers]


def test_it_takes_a_file_and_a_model(tmp_path: Path, minilm_folder: Path) -> None:
    from transformers import AutoTokenizer

    reading("ForQuestionAnswering").save_pretrained(tmp_path / "model")
    AutoTokenizer.from_pretrained(minilm_folder, model_max_length=64).save_pretrained(
        tmp_path / "model"
    )
    text = "Zoë pruned the plum tree in winter. " * 9
    (tmp_path / "book.txt").write_text(text, encoding="utf-8")
    given = (str(tmp_path / "book.txt"), "--model", str(tmp_path / "model"), "-q", "Who?")
    ((question, answer, start, end, score),) = ANSWER.findall(run(SCRIPT, *given))
    assert question == "Who?" and text[int(start) : int(end)] == answer and float(score) > 0


def test_it_says_what_is_wrong(tmp_path: Path) -> None:
    printed = run(SCRIPT, str(tmp_path / "none.txt"), status=1)
    assert "none.txt cannot be read as text" in printed and "Traceback" not in printed
