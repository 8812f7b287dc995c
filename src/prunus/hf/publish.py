"""A compiled model goes to the hub, with its card."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from prunus.hf.card import measure as measure_times
from prunus.hf.card import model_card

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo

    from prunus.hf.models import PrunusModel


def push(
    model: PrunusModel,
    repo_id: str,
    *,
    private: bool | None,
    token: str | bool | None,
    revision: str | None,
    commit_message: str,
    create_pr: bool,
    measure: bool,
) -> CommitInfo:
    """Upload the files of a model and its card; see `PrunusModel.push_to_hub`."""
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    timings = measure_times(model.compiled) if measure else ()
    with TemporaryDirectory(prefix="prunus-push-") as folder:
        model.save_pretrained(folder)
        Path(folder, "README.md").write_text(model_card(model, repo_id, timings), encoding="utf-8")
        # The hub may have the name in another spelling, or with the owner added.
        repository = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        return api.upload_folder(
            repo_id=repository,
            folder_path=folder,
            commit_message=commit_message,
            revision=revision,
            create_pr=create_pr,
        )
