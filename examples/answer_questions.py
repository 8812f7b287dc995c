"""Answer questions over a text of any length: a script of transformers 4 in which one line changed.

    python examples/answer_questions.py                        # a stand-in, nothing to download
    python examples/answer_questions.py book.txt --model my-pruned-bert -q "Who pruned the tree?"
    python examples/answer_questions.py book.txt --model my-pruned-bert -q "Who?" --transformers

The model is a hub name or a folder with its tokenizer, made for question answering, as most pruned
checkpoints are. transformers has dropped its pipeline for them, so prunus brings one of its own,
which takes and answers the same. With --transformers PyTorch computes the logits, and the rest is
the same, for a comparison. The stand-in has random weights: its speed tells something, its answers
do not.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from transformers import (
    AutoModelForQuestionAnswering,
    AutoTokenizer,
)

import prunus
from prunus.frontend.stand_in import save_stand_in
from prunus.hf import PrunusModelForQuestionAnswering, pipeline
from prunus.text.questions import QuestionAnswering

WINDOW, ANSWER, BATCH = 384, 15, 8  # tokens, tokens, windows; the first two as in transformers 4

STORY = (
    "In the winter of 1871 Zoë Anders pruned the old plum tree behind the mill. Her neighbours "
    "laughed, since she cut off nine branches of ten. In the next summer the tree bore 314 plums, "
    "more than ever before, and she sold them on the market of Altona for two marks a basket. "
) * 8
QUESTIONS = ("Who pruned the tree?", "How many plums did it bear?", "Where were they sold?")

Ask: TypeAlias = Callable[[Sequence[str], str], list[Any]]
"""The answers to questions about one text: dicts with `answer`, `score`, `start` and `end`."""


def main() -> None:
    """Read, ask, print."""
    arguments = parse_arguments()
    story = read(arguments.file) if arguments.file else STORY
    questions = arguments.question or QUESTIONS
    with tempfile.TemporaryDirectory() as folder:
        name = arguments.model or make_stand_in(Path(folder, "stand-in"))
        ask = open_pytorch(name) if arguments.transformers else open_prunus(name)
        begin = time.perf_counter()
        answers = ask(questions, story)
        seconds = time.perf_counter() - begin
    for question, answer in zip(questions, answers, strict=True):
        place = f"{answer['start']}–{answer['end']}"
        print(f"{question}\n  {answer['answer']}  ({place}, score {answer['score']:.5f})")
    print(f"{len(answers) / seconds:.1f} questions a second", file=sys.stderr)


def open_prunus(name: str) -> Ask:
    """The pipeline as it was written for transformers 4, but for the model."""
    tokenizer = AutoTokenizer.from_pretrained(name)
    model = PrunusModelForQuestionAnswering.from_pretrained(name)  # the one line
    pipe = pipeline("question-answering", model=model, tokenizer=tokenizer)
    return lambda questions, story: pipe(question=questions, context=story, batch_size=BATCH)


def open_pytorch(name: str) -> Ask:
    """The same reading of long texts and choice of answers, with the logits of PyTorch."""
    tokenizer = AutoTokenizer.from_pretrained(name)
    model = AutoModelForQuestionAnswering.from_pretrained(name).eval()

    def logits(inputs: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        with torch.inference_mode():
            answer = model(**{key: torch.from_numpy(value) for key, value in inputs.items()})
        return answer.start_logits.numpy(), answer.end_logits.numpy()

    reader = QuestionAnswering(
        logits,
        tokenizer.backend_tokenizer,
        input_names=tokenizer.model_input_names,
        max_length=min(WINDOW, tokenizer.model_max_length),
        batch_size=BATCH,
    )

    def ask(questions: Sequence[str], story: str) -> list[Any]:
        pairs = [(question, story) for question in questions]
        return [asdict(best) for (best,) in reader.answers(pairs, max_answer_length=ANSWER)]

    return ask


def parse_arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("file", nargs="?", type=Path, help="a text file; default: a short story")
    parser.add_argument("-q", "--question", action="append", help="may be given several times")
    parser.add_argument("--model", help="a hub name or a folder; default: a stand-in")
    parser.add_argument("--transformers", action="store_true", help="run PyTorch instead")
    return parser.parse_args()


def read(path: Path) -> str:
    """The text of a file in UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise prunus.InputError(f"{path} cannot be read as text: {error}") from error


def make_stand_in(folder: Path) -> str:
    """A tiny BERT with random weights, pruned to a tenth, and a real tokenizer."""
    name = save_stand_in(folder, "BertForQuestionAnswering")
    print("The model is a STAND-IN with random weights: its answers mean nothing.", file=sys.stderr)
    return name


if __name__ == "__main__":
    try:
        main()
    except prunus.PrunusError as error:
        sys.exit(f"error: {error}")
