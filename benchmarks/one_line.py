"""Three common scripts before and after the one line that prunus asks for: classify the texts of a
CSV file, embed sentences, answer questions over a long text. And what the wrapper costs.

The models are a BERT-base with 90 % random zeros and a real MiniLM pruned to 90 %; the texts are
real sentences of 4 to 60 words. Both programs tokenise and batch alike, only the model differs.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from harness import figure, header, make_parser, medians, say, table, write_json
from sentence_transformers import SentenceTransformer
from transformers import AutoTokenizer

import prunus
from prunus.bench import interleave, turn_of
from prunus.frontend.stand_in import save_stand_in
from prunus.hf import PrunusModelForQuestionAnswering, PrunusModelForSequenceClassification

EXAMPLES = Path(__file__).parents[1] / "examples"
Script = Callable[[], object]


def example(name: str) -> Any:
    """A program of `examples/` as a module."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def classify(folder: str, arguments: argparse.Namespace) -> tuple[Script, Script, int]:
    """The pipeline of transformers over many texts."""
    texts = list(example("embed_sentences").SENTENCES) * arguments.repeat
    tokenizer = AutoTokenizer.from_pretrained(folder)

    def script(model: Any) -> Script:
        pipe = transformers.pipeline("text-classification", model=model, tokenizer=tokenizer)
        return lambda: list(pipe((text for text in texts), batch_size=8, truncation=True))

    before = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    after = PrunusModelForSequenceClassification.from_pretrained(folder, threads=arguments.threads)
    return script(before), script(after), len(texts)


def embed(folder: str, arguments: argparse.Namespace) -> tuple[Script, Script, int]:
    """`encode` of sentence-transformers with the pruned MiniLM."""
    program = example("embed_sentences")
    texts = list(program.SENTENCES) * arguments.repeat
    place = program.pruned_minilm(folder)

    def script(model: SentenceTransformer) -> Script:
        return lambda: model.encode(texts)

    before, after = (SentenceTransformer(place, device="cpu") for _ in range(2))
    return (
        script(before),
        script(prunus.st.accelerate(after, threads=arguments.threads)),
        len(texts),
    )


def answer(folder: str, arguments: argparse.Namespace) -> tuple[Script, Script, int]:
    """Questions over a text that takes several windows."""
    program = example("answer_questions")
    before, after = program.open_pytorch(folder), program.open_prunus(folder)
    questions = program.QUESTIONS
    return (
        lambda: before(questions, program.STORY),
        lambda: after(questions, program.STORY),
        len(questions),
    )


def overhead(folder: str, arguments: argparse.Namespace) -> float:
    """Seconds that a call of a drop-in class takes beyond one of the model in it, for one token."""
    model = PrunusModelForQuestionAnswering.from_pretrained(folder, threads=arguments.threads)
    ids = torch.ones((1, 1), dtype=torch.int64)
    inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": ids, "token_type_ids": ids * 0}
    bare, wrapped = interleave(
        [turn_of(lambda: model.compiled(**inputs)), turn_of(lambda: model(**inputs))],
        rounds=arguments.rounds,
        seconds=arguments.seconds,
    )
    return statistics.median(wrapped) - statistics.median(bare)


def main() -> None:
    """Print a row for each script, and the wrapper's cost."""
    parser = make_parser(__doc__, rounds=3, seconds=1.0)
    parser.add_argument("--repeat", type=int, default=8, help="times that each of 8 texts comes")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as root:
        classifier, reader = (
            save_stand_in(Path(root, head), f"BertFor{head}", size=arguments.size)
            for head in ("SequenceClassification", "QuestionAnswering")
        )
        for name, make, folder in (
            ("classify_csv.py, BERT-base", classify, classifier),
            ("embed_sentences.py, MiniLM", embed, str(Path(root, "minilm"))),
            ("answer_questions.py, BERT-base", answer, reader),
        ):
            say(name)
            before, after, count = make(folder, arguments)
            times = medians({"before": before, "after": after}, arguments)
            rates = {key: count / seconds for key, seconds in times.items()}
            rows.append({"script": name, **rates, "speedup": rates["after"] / rates["before"]})
        extra = overhead(reader, arguments)
    what = "90 % zeros, scripts as in examples/"
    packages = ("torch", "transformers", "sentence-transformers")
    print(header(what, arguments, packages) + "\n")
    cells = [
        (row["script"], figure(row["before"]), figure(row["after"]), f"{row['speedup']:.1f}×")
        for row in rows
    ]
    print(table(("script", "PyTorch, items/s", "prunus, items/s", "speed-up"), cells))
    print(f"\nA drop-in class adds {1e6 * extra:.0f} µs to a call")
    write_json({"rows": rows, "overhead_seconds": extra}, arguments)


if __name__ == "__main__":
    main()
