"""`prunus run`: inputs from anywhere, outputs summed up, written and checked; texts answered."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from prunus.cli import run as run_module
from prunus.cli.inputs import read_inputs
from prunus.cli.texts import Asked, answers_text
from prunus.errors import InputError
from prunus.text import Entity, Fill, Label

IDS = [[3, 4, 5, 0], [6, 7, 0, 0]]
MASK = [[1, 1, 1, 0], [1, 1, 0, 0]]

CONTEXT = "In winter, gardeners prune the plum trees."


@pytest.fixture(scope="module")
def minilm(minilm_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real MiniLM, saved by prunus."""
    import prunus

    pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp("saved") / "minilm"
    with pytest.warns(UserWarning, match="position_ids"):
        compiled = prunus.from_pretrained(minilm_folder, threads=1)
    compiled.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def squad(minilm_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a tiny model for questions, with a real tokenizer."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=30522, hidden_size=32, num_hidden_layers=1, num_attention_heads=2
    )
    folder = tmp_path_factory.mktemp("checkpoints") / "squad"
    transformers.BertForQuestionAnswering(config).save_pretrained(folder)
    shutil.copy(minilm_folder / "tokenizer.json", folder)
    return folder


def test_random_inputs_are_summed_up(prunus: Any, pruned_folder: Path) -> None:
    ran = prunus("run", pruned_folder, "--random", "2x9", "-t", "1")
    assert ran.status == 0, ran.stderr
    assert "start_logits  float32 [2, 9]  min " in ran.stdout
    data = prunus("run", pruned_folder, "--random", "2x9", "-t", "1", "--json").json()
    assert data["outputs"]["end_logits"]["shape"] == [2, 9]
    assert data["largest_difference"] is None and data["written_to"] is None


def test_files_in_and_out(prunus: Any, pruned_folder: Path, tmp_path: Path) -> None:
    arrays = {"input_ids": np.array(IDS), "attention_mask": np.array(MASK)}
    np.savez(tmp_path / "in.npz", allow_pickle=False, **arrays)
    (tmp_path / "in.json").write_text(json.dumps({"input_ids": IDS, "attention_mask": MASK}))
    written = []
    for name in ("in.npz", "in.json"):
        output = tmp_path / f"{name}.out.npz"
        ran = prunus("run", pruned_folder, "--inputs", tmp_path / name, "-o", output, "-t", "1")
        assert ran.status == 0, ran.stderr
        assert f"written to {output}" in ran.stdout
        written.append(read_inputs(output))
    assert written[0].keys() == {"start_logits", "end_logits"}
    for name, array in written[0].items():
        np.testing.assert_array_equal(array, written[1][name])


@pytest.mark.wide
def test_check_agrees_with_transformers(prunus: Any, pruned_folder: Path) -> None:
    arguments = ("run", pruned_folder, "--random", "2x9", "-t", "1", "--check")
    data = prunus(*arguments, "--json").json()
    assert 0 <= data["largest_difference"] <= 1e-4


@pytest.mark.parametrize("difference", [0.01, float("nan")])
def test_check_fails_on_a_difference(
    prunus: Any, pruned_folder: Path, monkeypatch: pytest.MonkeyPatch, difference: float
) -> None:
    monkeypatch.setattr(run_module, "_difference", lambda *arguments: difference)
    ran = prunus("run", pruned_folder, "--random", "1x4", "-t", "1", "--check")
    assert ran.status == 1
    assert "NOT the same answer" in ran.stdout


def test_a_saved_folder_cannot_be_checked(prunus: Any, pruned_folder: Path, tmp_path: Path) -> None:
    assert prunus("compile", pruned_folder, "-o", tmp_path, "-t", "1").status == 0
    ran = prunus("run", tmp_path, "--random", "1x4", "-t", "1", "--check")
    assert ran.status == 2
    assert "give the checkpoint" in ran.stderr


def test_a_simulated_model_says_so(prunus: Any, dense_folder: Path) -> None:
    arguments = ("run", dense_folder, "--random", "1x4", "-t", "1", "--simulate", "0.9")
    assert "SIMULATED" in prunus(*arguments).stdout
    assert prunus(*arguments, "--json").json()["simulated"].startswith("0.9 of all")


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ({"input_ids": [[1, 999]]}, "999"),
        ({"input_ids": [[1] * 50]}, "at most 40"),
        ({"input_ids": [[]]}, "is 0: nothing to compute"),
        ({"input_idz": [[1]]}, "input_idz"),
    ],
    ids=["unknown id", "too long", "empty", "unknown name"],
)
def test_inputs_that_do_not_fit(
    prunus: Any, pruned_folder: Path, tmp_path: Path, inputs: Any, says: str
) -> None:
    path = tmp_path / "in.json"
    path.write_text(json.dumps(inputs))
    ran = prunus("run", pruned_folder, "--inputs", path, "-t", "1")
    assert ran.status == 2
    assert says in ran.stderr


def test_random_takes_one_shape(prunus: Any, pruned_folder: Path) -> None:
    ran = prunus("run", pruned_folder, "--random", "1x4,2x4", "-t", "1")
    assert ran.status == 2
    assert "one shape" in ran.stderr


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("in.txt", b"1 2", "neither"),
        ("in.json", b"{", "cannot be read"),
        ("in.json", b"\xff\xfe", "cannot be read"),
        ("in.json", b"[" * 100_000, "cannot be read"),
        ("in.json", b"[1]", "expected an object"),
        ("in.json", b'{"x": [[1], [1, 2]]}', "unequal length"),
        ("in.json", b'{"x": ["a"]}', "expected numbers"),
        ("in.npz", b"not a zip", "cannot be read"),
        ("in.npz", b"PK\x03\x04", "cannot be read"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=says):
        read_inputs(tmp_path / name)


def test_an_array_without_a_name(tmp_path: Path) -> None:
    with (tmp_path / "in.npz").open("wb") as file:
        np.save(file, np.ones(3))
    with pytest.raises(InputError, match="without a name"):
        read_inputs(tmp_path / "in.npz")


def test_a_pickle_is_not_opened(tmp_path: Path) -> None:
    np.savez(tmp_path / "in.npz", x=np.array([{}], dtype=object))
    with pytest.raises(InputError, match="cannot be read"):
        read_inputs(tmp_path / "in.npz")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.npz cannot be read"):
        read_inputs(tmp_path / "none.npz")


def test_outputs_that_cannot_be_written(prunus: Any, pruned_folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "no" / "such" / "folder.npz"
    ran = prunus("run", pruned_folder, "--random", "1x4", "-t", "1", "-o", output)
    assert ran.status == 2
    assert "cannot be written" in ran.stderr


def test_vectors_of_texts(prunus: Any, minilm: Path) -> None:
    arguments = ("run", minilm, "--text", "A plum.", "--text", "Plums", "-t", "1")
    ran = prunus(*arguments)
    assert ran.status == 0, ran.stderr
    assert "feature-extraction" in ran.stdout
    assert re.search(r"\nA plum\.\n  384 numbers: -?\d\.\d{4} .*\n\nPlums\n", ran.stdout)
    data = prunus(*arguments, "--json").json()
    assert data["task"] == "feature-extraction" and data["threads"] == 1
    assert [each["text"] for each in data["answers"]] == ["A plum.", "Plums"]
    one, other = (np.array(each["answer"]) for each in data["answers"])
    assert one @ other / np.linalg.norm(one) / np.linalg.norm(other) > 0.8


def test_texts_need_neither_torch_nor_much_time(minilm: Path) -> None:
    """Typically half a second, for which a busy machine gets ten; the second start counts, as the
    first one compiles.
    """
    script = (
        "import sys\n"
        "from prunus.cli import main\n"
        "try:\n"
        "    main()\n"
        "finally:\n"
        "    print({'torch', 'transformers'} & sys.modules.keys(), file=sys.stderr)\n"
    )
    command = [sys.executable, "-c", script, "run", str(minilm), "--text", "A plum.", "-t", "1"]
    for _ in range(2):
        begin = time.perf_counter()
        ran = subprocess.run(command, check=True, capture_output=True, text=True)
        seconds = time.perf_counter() - begin
    assert "384 numbers" in ran.stdout
    assert ran.stderr.splitlines()[-1] == "set()"
    assert seconds < 10


def test_a_question(prunus: Any, squad: Path, tmp_path: Path) -> None:
    """The checkpoint answers as the folder that is saved of it."""
    assert prunus("compile", squad, "-o", tmp_path, "-t", "1").status == 0
    arguments = ("--question", "When?", "--text", CONTEXT, "--top-k", 2, "-t", "1")
    data = [prunus("run", folder, *arguments, "--json").json() for folder in (squad, tmp_path)]
    assert data[0]["answers"] == data[1]["answers"]
    assert data[0]["question"] == "When?"
    (answered,) = data[0]["answers"]
    best, second = answered["answer"]
    assert best["score"] >= second["score"] > 0
    assert CONTEXT[best["start"] : best["end"]] == best["answer"] != ""
    text = prunus("run", squad, *arguments).stdout
    assert f"  {best['score']:.4f}  {best['answer']}  ({best['start']}–{best['end']})\n" in text


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--text", "a"], "add --question"),
        (["--text", "a", "--question", "b?", "--truncate"], "--truncate means nothing"),
        (["--text", "", "--question", "b?"], "context is empty"),
        (["--text", "a", "--question", ""], "question is empty"),
        (["--question", "b?", "--random", "1x4"], "belong to --text"),
        (["--text", "a", "--random", "1x4"], "one kind of"),
        (["--text", "a", "--question", "b?", "--check"], "are for arrays"),
        ([], "one kind of"),
    ],
)
def test_options_that_do_not_fit_texts(
    prunus: Any, squad: Path, arguments: list[str], says: str
) -> None:
    ran = prunus("run", squad, *arguments, "-t", "1")
    assert ran.status == 2
    assert says in ran.stderr


@pytest.mark.parametrize("option", [("--question", "b?"), ("--top-k", "3")])
def test_options_that_mean_nothing_for_vectors(prunus: Any, minilm: Path, option: Any) -> None:
    ran = prunus("run", minilm, "--text", "a", *option, "-t", "1")
    assert ran.status == 2
    assert f"{option[0]} means nothing" in ran.stderr


def test_a_model_without_a_tokenizer(prunus: Any, pruned_folder: Path) -> None:
    ran = prunus("run", pruned_folder, "--text", "a", "--question", "b?", "-t", "1")
    assert ran.status == 2
    assert "looked for tokenizer.json" in ran.stderr


@pytest.mark.parametrize(
    ("task", "method", "answer", "line"),
    [
        ("text-classification", "classify", [Label("good", 0.75)], "  0.7500  good"),
        (
            "token-classification",
            "label_tokens",
            [Entity("PER", 0.5, "Zoë", 3, 6)],
            "  0.5000  PER  Zoë  (3–6)",
        ),
        ("token-classification", "label_tokens", [], "  nothing found"),
        ("fill-mask", "fill", [[Fill("plum", 0.25, 7)]], "  0.2500  plum"),
    ],
)
def test_answers_for_people(task: Any, method: str, answer: Any, line: str) -> None:
    compiled = SimpleNamespace(source=SimpleNamespace(name="m"), simulated="0.9 of all")
    model: Any = SimpleNamespace(task=task, model=compiled)
    setattr(model, method, lambda texts, **options: [answer for _ in texts])
    asked = Asked(["a text"])
    text = answers_text(model, asked, asked.answers(model))
    assert text == f"m: {task}, SIMULATED 0.9 of all\n\na text\n{line}"
