"""The files that travel with a saved model: their names, links among them, hostile folders."""

import os
from pathlib import Path

import pytest

from prunus.errors import SavedModelError
from prunus.runtime.companions import COMPANIONS, real_place
from prunus.runtime.saved import load_model
from tests.runtime.test_saved import DESCRIPTION, WEIGHTS, save, sign

POOLING = "1_Pooling/config.json"
COMMIT = "c0ffee" * 6 + "c0ff"


def write(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text or f"this is {path.name}")
    return path


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file that does not belong to the model."""
    return write(tmp_path / "home" / "id_rsa", "private key")


def test_companions_come_along_and_go_with_their_model(tmp_path: Path) -> None:
    for name in ("config.json", "tokenizer.json", "vocab.txt"):
        write(tmp_path / name)
    folder = save(tmp_path / "model", companions=[tmp_path / "config.json", tmp_path / "vocab.txt"])
    assert (folder / "config.json").read_text() == "this is config.json"
    assert load_model(folder).companions == (folder / "config.json", folder / "vocab.txt")
    (folder / "vocab.txt").unlink()
    assert load_model(folder).companions == (folder / "config.json",)
    write(folder / "README.md", "mine")
    save(folder, companions=[tmp_path / "tokenizer.json"])
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["README.md", WEIGHTS, DESCRIPTION, "tokenizer.json"]


def test_a_companion_with_a_folder_of_its_own(tmp_path: Path) -> None:
    """It has the name of another one, as sentence-transformers would have it."""
    companions = [tmp_path / "config.json", tmp_path / POOLING]
    for path in companions:
        write(path, f"this is {path.parent.name}")
    folder = tmp_path / "model"
    for _ in range(2):  # the second replaces the first, file by file
        save(folder, companions=companions)
        found = load_model(folder).companions
        assert found == (folder / "config.json", folder / POOLING)
        assert found[1].read_text() == "this is 1_Pooling"
    save(folder, companions=companions[:1])
    assert not (folder / POOLING).exists()


# Names


def test_every_known_name_round_trips(tmp_path: Path) -> None:
    paths = [write(tmp_path / "checkpoint" / name) for name in COMPANIONS]
    folder = save(tmp_path / "model", companions=paths)
    assert load_model(folder).companions == tuple(folder / name for name in COMPANIONS)


@pytest.mark.parametrize(
    "name", ["notes.txt", "README.md", "id_rsa", ".ssh", "model.py", "CONFIG.JSON", WEIGHTS]
)
def test_a_file_of_an_unknown_name_is_neither_copied_nor_accepted_nor_deleted(
    tmp_path: Path, name: str
) -> None:
    with pytest.raises(SavedModelError, match="not the name of a file that travels"):
        save(tmp_path / "other", companions=[write(tmp_path / name)])
    folder = save(tmp_path / "model")
    mine = write(folder / name, "mine") if name != WEIGHTS else folder / name
    sign(folder, lambda document: document["model"].update(companions=[name]))
    with pytest.raises(SavedModelError, match="not the name of a file that travels"):
        load_model(folder)
    save(folder)
    assert mine.is_file()
    assert name == WEIGHTS or mine.read_text() == "mine"
    load_model(folder)


# Links that are copied from


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "vocab.txt", POOLING])
def test_a_companion_that_is_a_link_out_of_its_folder_is_not_copied(
    tmp_path: Path, secret: Path, name: str
) -> None:
    folder = save(tmp_path / "model", companions=[write(tmp_path / "checkpoint" / name)])
    (folder / name).unlink()
    (folder / name).symlink_to(secret)
    loaded = load_model(folder)
    assert loaded.companions == (folder / name,)
    for place in (tmp_path / "next", folder):
        with pytest.raises(SavedModelError, match=r"leads through a link.*id_rsa.*not copied"):
            save(place, loaded.graph, companions=loaded.companions)
    assert not (tmp_path / "next").exists()
    assert secret.read_text() == "private key"


def test_a_linked_folder_of_a_companion_is_not_copied_from(tmp_path: Path) -> None:
    write(tmp_path / "home" / "config.json", "private")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "1_Pooling").symlink_to(tmp_path / "home")
    with pytest.raises(SavedModelError, match="leads through a link"):
        save(tmp_path / "next", companions=[tmp_path / "model" / POOLING])


def test_links_inside_a_folder_are_copied(tmp_path: Path) -> None:
    """As Kubernetes mounts volumes, and through a link to the folder itself."""
    write(tmp_path / "checkpoint" / "..data" / "config.json", "content")
    (tmp_path / "checkpoint" / "config.json").symlink_to("..data/config.json")
    (tmp_path / "link").symlink_to(tmp_path / "checkpoint")
    folder = save(tmp_path / "model", companions=[tmp_path / "link" / "config.json"])
    assert (folder / "config.json").read_text() == "content"
    assert not (folder / "config.json").is_symlink()


@pytest.mark.parametrize("inner", ["", "subfolder/"])
def test_a_snapshot_of_the_hub_is_copied(tmp_path: Path, inner: str) -> None:
    repository = tmp_path / "hub" / "models--owner--name"
    snapshot = repository / "snapshots" / COMMIT / inner
    snapshot.mkdir(parents=True)
    write(repository / "blobs" / "abc", "of the repository")
    write(tmp_path / "hub" / "blobs" / "de" / "def", "shared")
    (repository / "blobs" / "def").symlink_to("../../blobs/de/def")
    (snapshot / "config.json").symlink_to(repository / "blobs" / "abc")
    (snapshot / "tokenizer.json").symlink_to(repository / "blobs" / "def")
    names = ["config.json", "tokenizer.json"]
    folder = save(tmp_path / "model", companions=[snapshot / name for name in names])
    assert [(folder / name).read_text() for name in names] == ["of the repository", "shared"]


def test_a_folder_that_only_looks_like_a_snapshot_is_no_way_out(
    tmp_path: Path, secret: Path
) -> None:
    repository = tmp_path / "models--owner--name"
    snapshot = repository / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (repository / "blobs").symlink_to(secret.parent)
    (snapshot / "config.json").symlink_to("../../blobs/id_rsa")
    (snapshot / "vocab.txt").symlink_to("../../refs/main")
    write(repository / "refs" / "main")
    for name in ("config.json", "vocab.txt"):
        with pytest.raises(SavedModelError, match="leads through a link"):
            real_place(snapshot / name)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_companion_that_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(SavedModelError, match="not a file"):
        save(tmp_path / "model", companions=[tmp_path / "config.json"])


# Links that are written to


@pytest.mark.parametrize("keeps", [True, False])
def test_saving_touches_nothing_behind_a_linked_folder(tmp_path: Path, keeps: bool) -> None:
    pooling = write(tmp_path / "checkpoint" / POOLING)
    folder = save(tmp_path / "model", companions=[pooling])
    (folder / POOLING).unlink()
    (folder / "1_Pooling").rmdir()
    mine = write(tmp_path / "mine" / "config.json", "precious")
    (folder / "1_Pooling").symlink_to(mine.parent)
    if keeps:
        before = (folder / DESCRIPTION).read_bytes()
        with pytest.raises(SavedModelError, match="1_Pooling is a link, through which nothing"):
            save(folder, source="new", companions=[pooling])
        assert (folder / DESCRIPTION).read_bytes() == before
    else:
        save(folder, source="new")
    assert mine.read_text() == "precious"
    assert [path.name for path in mine.parent.iterdir()] == ["config.json"]


@pytest.mark.parametrize("name", [WEIGHTS, DESCRIPTION, "config.json"])
def test_saving_replaces_a_link_and_not_what_it_leads_to(tmp_path: Path, name: str) -> None:
    config = write(tmp_path / "checkpoint" / "config.json")
    folder = save(tmp_path / "model", companions=[config])
    elsewhere = (folder / name).rename(tmp_path / "elsewhere")
    content = elsewhere.read_bytes()
    (folder / name).symlink_to(elsewhere)
    save(folder, source="new", companions=[config])
    assert not (folder / name).is_symlink()
    assert elsewhere.read_bytes() == content
    (folder / "config.json").unlink()
    (folder / "config.json").symlink_to(elsewhere)
    save(folder, source="without it")
    assert not os.path.lexists(folder / "config.json")
    assert elsewhere.read_bytes() == content
