"""Saved folders: the same answers bit by bit, without a module of torch, from wherever they lie."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch

import prunus
from prunus.errors import InputError, PrunusError, SavedModelError
from prunus.hf import (
    PrunusModel,
    PrunusModelForFeatureExtraction,
    PrunusModelForSequenceClassification,
)
from prunus.ir import Constant
from tests.frontend.test_hub import (  # noqa: F401 - a fixture
    MAIN,
    NAME,
    Hub,
    environment,
    server,
)
from tests.hf.tiny import checkpoint

SOURCE = str(Path(__file__).parents[2] / "src")
IDS = torch.tensor([[5, 6, 7, 8], [9, 10, 0, 0]])
GIVEN: dict[str, Any] = {"input_ids": IDS, "attention_mask": (IDS > 0).long()}


@pytest.fixture
def saved(classifier: PrunusModel, tmp_path: Path) -> Path:
    classifier.save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


def test_a_saved_model_answers_the_same(saved: Path, classifier: PrunusModel) -> None:
    for cls in (PrunusModel, PrunusModelForSequenceClassification):
        model = cls.from_pretrained(saved)
        assert type(model) is PrunusModelForSequenceClassification
        answer, expected = model(**GIVEN), classifier(**GIVEN)
        assert type(answer) is type(expected)
        assert torch.equal(answer.logits, expected.logits)
        expected = {**classifier.config.to_dict(), "_name_or_path": str(saved)}
        assert model.config.to_dict() == expected


def test_no_module_is_built_from_a_saved_model(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a module of torch was built")

    monkeypatch.setattr(torch.nn.Module, "__init__", build)
    begin = time.perf_counter()
    model = PrunusModel.from_pretrained(saved, threads=1)
    assert time.perf_counter() - begin < 1  # second; it takes hundredths
    assert model.compiled.threads == 1
    assert model(**GIVEN).logits.shape == (2, 2)


def test_a_saved_model_is_saved_again(saved: Path, classifier: PrunusModel) -> None:
    model = PrunusModel.from_pretrained(saved)
    model.config.id2label = {0: "sweet", 1: "sour"}
    model.save_pretrained(saved)
    again = PrunusModel.from_pretrained(saved)
    assert again.config.id2label == {0: "sweet", 1: "sour"}
    assert torch.equal(again(**GIVEN).logits, classifier(**GIVEN).logits)


def test_the_task_is_saved_where_the_checkpoint_was_made_for_another(
    tmp_path: Path,
) -> None:
    checkpoint(tmp_path, "DistilBert", "ForTokenClassification")
    with pytest.warns(UserWarning, match="left out"):
        model = PrunusModelForFeatureExtraction.from_pretrained(tmp_path)
    model.save_pretrained(tmp_path / "saved")
    again = PrunusModel.from_pretrained(tmp_path / "saved")
    assert type(again) is PrunusModelForFeatureExtraction
    assert again.config.architectures == ["DistilBertModel"]


def test_subfolders(folder: Path, saved: Path, classifier: PrunusModel, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "both" / "checkpoint")
    shutil.copytree(saved, tmp_path / "both" / "saved")
    for inner in ("checkpoint", "saved"):
        model = PrunusModel.from_pretrained(tmp_path / "both", subfolder=inner)
        assert torch.equal(model(**GIVEN).logits, classifier(**GIVEN).logits)


OPEN = """
import sys, torch
from prunus.hf import PrunusModel
name, output = sys.argv[1:]
ids = torch.tensor([[5, 6, 7, 8], [9, 10, 0, 0]])
answers = []
for where in ({}, {"subfolder": "small"}, {"local_files_only": True}):
    model = PrunusModel.from_pretrained(name, token="hf_secret", **where)
    answers.append(model(input_ids=ids, attention_mask=(ids > 0).long()).logits)
torch.save(answers, output)
print(model.config.id2label, model.config.name_or_path, type(model).__name__)
"""


def test_a_saved_model_on_the_hub(
    saved: Path,
    classifier: PrunusModel,
    server: Hub,  # noqa: F811
    tmp_path: Path,
) -> None:
    files = {path.name: path.read_bytes() for path in saved.iterdir()}
    server.token = "hf_secret"
    server.commits[MAIN] = files | {f"small/{name}": data for name, data in files.items()}
    ran = subprocess.run(
        [sys.executable, "-c", OPEN, NAME, str(tmp_path / "answers")],
        env=environment(server, tmp_path),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    said = f"{{0: 'plum', 1: 'cherry'}} {NAME} PrunusModelForSequenceClassification"
    assert said in ran.stdout
    answers = torch.load(tmp_path / "answers")
    assert len(answers) == 3
    assert all(torch.equal(answer, classifier(**GIVEN).logits) for answer in answers)


class FakeHub:
    """What is pushed to the hub, kept in a folder."""

    def __init__(self, place: Path) -> None:
        self.place, self.calls = place, dict[str, dict[str, Any]]()

    def __call__(self, token: str | None = None) -> FakeHub:
        self.calls["api"] = {"token": token}
        return self

    def create_repo(self, repo_id: str, **options: Any) -> Any:
        self.calls["create_repo"] = {"repo_id": repo_id, **options}
        return type("RepoUrl", (), {"repo_id": f"owner/{repo_id}"})

    def upload_folder(self, folder_path: str, **options: Any) -> str:
        self.calls["upload_folder"] = options
        shutil.copytree(folder_path, self.place)
        return "the commit"


def test_push_to_hub(
    classifier: PrunusModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = FakeHub(tmp_path / "pushed")
    monkeypatch.setattr(huggingface_hub, "HfApi", hub)
    options: dict[str, Any] = {"revision": "next", "commit_message": "Sour", "create_pr": True}
    commit = classifier.push_to_hub("plums", private=True, token="hf_secret", **options)
    assert str(commit) == "the commit"
    assert hub.calls == {
        "api": {"token": "hf_secret"},
        "create_repo": {"repo_id": "plums", "private": True, "exist_ok": True},
        "upload_folder": {"repo_id": "owner/plums", **options},
    }
    model = PrunusModel.from_pretrained(hub.place)
    assert torch.equal(model(**GIVEN).logits, classifier(**GIVEN).logits)
    card = (hub.place / "README.md").read_text(encoding="utf-8")
    assert "## Zeros" in card and "| 1 × 32 |" in card


def test_push_without_measuring(
    classifier: PrunusModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = FakeHub(tmp_path / "pushed")
    monkeypatch.setattr(huggingface_hub, "HfApi", hub)
    classifier.push_to_hub("plums", measure=False)
    assert "## Speed" not in (hub.place / "README.md").read_text(encoding="utf-8")


SECRET = '{"model_type": "bert", "token": "hf_private"}'


@pytest.mark.parametrize("is_listed", [True, False])
def test_nothing_outside_of_a_folder_is_pushed(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_listed: bool
) -> None:
    """The folder's configuration is a link to a file of the user."""
    (tmp_path / "credentials.json").write_text(SECRET)
    (saved / "config.json").unlink()
    if not is_listed:
        compiled = prunus.load(saved)
        compiled.save_pretrained(saved)
        assert compiled.source.companions == ()
    (saved / "config.json").symlink_to(tmp_path / "credentials.json")
    hub = FakeHub(tmp_path / "pushed")
    monkeypatch.setattr(huggingface_hub, "HfApi", hub)
    with pytest.raises(SavedModelError, match=r"credentials\.json, outside of its folder"):
        PrunusModel.from_pretrained(saved).push_to_hub("name", measure=False)
    assert "upload_folder" not in hub.calls


def test_a_checkpoint_with_a_link_to_a_private_file_is_not_pushed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(folder, tmp_path / "checkpoint")
    (tmp_path / "id_rsa").write_text("private key")
    (tmp_path / "checkpoint" / "vocab.txt").symlink_to(tmp_path / "id_rsa")
    hub = FakeHub(tmp_path / "pushed")
    monkeypatch.setattr(huggingface_hub, "HfApi", hub)
    with pytest.raises(SavedModelError, match=r"id_rsa, outside of its folder"):
        PrunusModel.from_pretrained(tmp_path / "checkpoint").push_to_hub("name", measure=False)
    assert "upload_folder" not in hub.calls


def test_the_configuration_is_not_written_through_a_link(
    saved: Path, classifier: PrunusModel, tmp_path: Path
) -> None:
    """transformers would write through it."""
    mine = tmp_path / "mine.json"
    mine.write_text("precious")
    (saved / "config.json").unlink()
    (saved / "config.json").symlink_to(mine)
    classifier.save_pretrained(saved)
    assert mine.read_text() == "precious"
    assert not (saved / "config.json").is_symlink()
    assert PrunusModel.from_pretrained(saved).config.id2label == {0: "plum", 1: "cherry"}


def test_saving_at_once_never_mixes_models_and_configurations(
    folder: Path, classifier: PrunusModel, tmp_path: Path
) -> None:
    other = PrunusModel.from_pretrained(folder)
    graph, bias = other.compiled.graph, "classifier.bias"
    moved = Constant(np.asarray(graph.constants[bias].value) + 1)
    other.compiled.graph = replace(graph, constants={**graph.constants, bias: moved})
    other.config.id2label = {0: "sweet", 1: "sour"}
    for number in range(6):
        place = tmp_path / str(number)
        with ThreadPoolExecutor(2) as pool:
            for saving in [
                pool.submit(each.save_pretrained, place) for each in (classifier, other)
            ]:
                saving.result()
        # A pickled model refers to its own save, or to none.
        texts = [each.compiled.__reduce__()[1][0] for each in (classifier, other)]
        assert len({json.loads(text)["digest"] for text in texts}) == 2
        found = PrunusModel.from_pretrained(place)
        is_other = not torch.equal(found(**GIVEN).logits, classifier(**GIVEN).logits)
        assert found.config.id2label[0] == ("sweet" if is_other else "plum")
    assert sorted(path.name for path in tmp_path.iterdir()) == list("012345")


@pytest.mark.parametrize("path", ["a\0b", "x" * 300, "x/" * 3000, "\ud800", "file/a/b"])
def test_paths_that_no_folder_can_have_are_refused(
    path: str, classifier: PrunusModel, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    for model in (classifier, classifier.compiled):
        with pytest.raises(InputError, match="cannot name a folder") as info:
            model.save_pretrained(tmp_path / path)
        assert ascii(path[:4])[1:-1] in str(info.value)
        with pytest.raises(InputError, match="cannot name a folder"):
            model.save_pretrained(f"{tmp_path}/{path}")
    for load in (PrunusModel.from_pretrained, prunus.from_pretrained, prunus.load):
        with pytest.raises(PrunusError):
            load(f"{tmp_path}/{path}")
