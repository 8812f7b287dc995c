"""The real client of the hub against a real server on loopback that serves one repository."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
from safetensors.numpy import save

from prunus.frontend import hub

NAME = "someone/tiny-bert"
MAIN, OLDER = "a" * 40, "b" * 40
CONFIG = json.dumps({"architectures": ["BertModel"], "model_type": "bert"}).encode()
WEIGHTS = save({"pooler.dense.weight": np.arange(65536, dtype=np.float32)})
TOKENIZER = {
    "tokenizer.json": b"{}",
    "tokenizer_config.json": b'{"model_max_length": 512}',
    "vocab.txt": b"[PAD]\n",
}
OTHERS = {
    "README.md": b"#",
    "flax_model.msgpack": b"flax",
    "onnx/model.onnx": b"onnx",
    "pytorch_model.bin": b"pickle",
    "tf_model.h5": b"tf",
    "training_args.bin": b"pickle",
}
WHOLE = {"config.json": CONFIG, "model.safetensors": WEIGHTS, **TOKENIZER, **OTHERS}


@dataclass
class Hub:
    """One repository, who may read it, and what was asked for."""

    url: str = ""
    commits: dict[str, dict[str, bytes]] = field(default_factory=lambda: {MAIN: WHOLE})
    branches: dict[str, str] = field(default_factory=lambda: {"main": MAIN})
    token: str | None = None
    gated: bool = False
    down: bool = False
    breaks: int = 0  # how many transfers of the weights end in the middle
    requests: list[tuple[str, str]] = field(default_factory=list)
    tokens: set[str | None] = field(default_factory=set)

    def downloads(self) -> list[str]:
        """The files that were sent, sorted."""
        files = [path for method, path in self.requests if method == "GET" and "/resolve/" in path]
        return sorted(path.split("/resolve/")[1].split("/", 1)[1] for path in files)


class Handler(BaseHTTPRequestHandler):
    """The end points of the hub that the client needs to read a model repository."""

    protocol_version = "HTTP/1.1"
    server: Any

    def do_GET(self) -> None:
        state: Hub = self.server.state
        path = unquote(self.path.partition("?")[0])
        if f"/{NAME}" in path:  # the client has questions of its own as well
            state.requests.append((self.command, path))
            state.tokens.add(self.headers["Authorization"])
        if state.down:
            self.reply(503, b"", {})
        elif f"/{NAME}" not in path:
            self.refuse(404, "RepoNotFound")
        elif state.gated:
            self.refuse(403, "GatedRepo")
        elif state.token and self.headers["Authorization"] != f"Bearer {state.token}":
            self.refuse(401, "RepoNotFound")
        else:
            self.answer(state, path)

    do_HEAD = do_GET

    def answer(self, state: Hub, path: str) -> None:
        kind, _, rest = path.partition(f"/{NAME}")[2].lstrip("/").partition("/")
        revision, _, file = rest.partition("/")
        commit = state.branches.get(revision or "main", revision)
        if commit not in state.commits:
            self.refuse(404, "RevisionNotFound")
            return
        files = state.commits[commit]
        if kind == "resolve":
            self.send_file(state, commit, file, files.get(file))
        elif kind == "tree":
            self.reply_json([{"type": "file", "path": p, "size": len(c), "oid": oid(c)}
                             for p, c in files.items()])  # fmt: skip
        else:
            siblings = [{"rfilename": name} for name in files]
            self.reply_json({"id": NAME, "sha": commit, "siblings": siblings})

    def send_file(self, state: Hub, commit: str, name: str, content: bytes | None) -> None:
        headers = {"X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        if content is None:
            self.refuse(404, "EntryNotFound", headers)
            return
        headers["ETag"] = f'"{oid(content)}"'
        if self.command == "GET" and len(content) > 10_000:
            self.send_weights(state, content, headers)
        else:
            self.reply(200, content, headers)

    def send_weights(self, state: Hub, content: bytes, headers: dict[str, str]) -> None:
        start, status = 0, 200
        if asked := self.headers["Range"]:
            start, status = int(asked.removeprefix("bytes=").rstrip("-")), 206
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        if state.breaks:
            state.breaks -= 1
            half = content[start : len(content) // 2]
            self.reply(status, half, headers, length=len(content) - start)
            self.close_connection = True
        else:
            self.reply(status, content[start:], headers)

    def refuse(self, status: int, code: str, headers: dict[str, str] | None = None) -> None:
        self.reply(status, b"", {"X-Error-Code": code, "X-Error-Message": code, **(headers or {})})

    def reply_json(self, content: Any) -> None:
        self.reply(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def reply(
        self, status: int, body: bytes, headers: dict[str, str], length: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        """Nothing: the tests read ``Hub.requests``."""


def oid(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


@pytest.fixture
def server() -> Iterator[Hub]:
    state = Hub()
    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listener.state = state  # type: ignore[attr-defined]
    state.url = f"http://127.0.0.1:{listener.server_port}"
    thread = Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield state
    listener.shutdown()
    thread.join()
    listener.server_close()


SOURCE = str(Path(hub.__file__).parents[2])  # prunus as it is tested here, from any directory
Ask = Callable[..., dict[str, Any]]

# The client reads its environment when it is imported, so each question is put in a new process.
QUESTION = """
import json, sys
from prunus.errors import CheckpointError
from prunus.frontend import hub
name, arguments = json.loads(sys.argv[1])
try:
    found = hub.resolve(name, **arguments)
except CheckpointError as error:
    print(json.dumps({"error": str(error)}))
else:
    files = sorted(p.relative_to(found.folder).as_posix() for p in found.folder.rglob("*"))
    print(json.dumps({"commit": found.commit, "folder": str(found.folder), "files": files,
        "fingerprint": found.fingerprint(), "config": found.config, "name": found.name,
        "torch": "torch" in sys.modules, "companions": [p.name for p in found.companion_files()]}))
"""


def environment(server: Hub, folder: Path) -> dict[str, str]:
    """Of a process that knows no hub but the server, and keeps its files in the folder."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
    return {
        **inherited,
        "PYTHONPATH": SOURCE,
        "HF_ENDPOINT": server.url,
        "HF_HOME": str(folder / "home"),
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }


@pytest.fixture
def ask(server: Hub, tmp_path: Path) -> Ask:
    """Resolve in a fresh process that knows the server; the answer, and what stderr showed."""

    def run(name: str = NAME, env: dict[str, str] | None = None, **options: Any) -> dict[str, Any]:
        process = subprocess.run(
            [sys.executable, "-c", QUESTION, json.dumps([name, options])],
            env={**environment(server, tmp_path), **(env or {})},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert process.returncode == 0, process.stderr
        return {**json.loads(process.stdout), "stderr": process.stderr}

    return run


def test_a_repository_is_fetched_once(server: Hub, ask: Ask, tmp_path: Path) -> None:
    first = ask()
    wanted = sorted(["config.json", "model.safetensors", *TOKENIZER])
    assert first["files"] == wanted == server.downloads()
    assert (first["name"], first["commit"], first["fingerprint"]) == (NAME, MAIN, MAIN)
    assert first["config"]["architectures"] == ["BertModel"]
    assert first["companions"] == sorted(["config.json", *TOKENIZER])
    assert Path(first["folder"]).is_relative_to(tmp_path / "home")
    assert Path(first["folder"], "model.safetensors").read_bytes() == WEIGHTS
    assert "Fetching" in first["stderr"]  # the progress bar
    assert not first["torch"]

    for how in (
        {},  # asks only whether `main` is still the same commit
        {"env": {"HF_HUB_OFFLINE": "1"}},
        {"local_files_only": True},
        {"revision": MAIN},
        {"env": {"HF_ENDPOINT": "http://127.0.0.1:9"}},  # nobody listens there
    ):
        server.requests.clear()
        again = ask(**how)
        assert (again["folder"], again["commit"]) == (first["folder"], MAIN)
        assert server.downloads() == []
        assert len(server.requests) == (1 if how == {} else 0)
    server.down = True
    assert ask()["folder"] == first["folder"]


def test_a_new_commit_is_noticed(server: Hub, ask: Ask) -> None:
    ask()
    server.commits[OLDER] = WHOLE | {"config.json": b'{"new": 1}'}
    server.branches["main"] = OLDER
    assert ask()["config"] == {"new": 1}


def test_revisions(server: Hub, ask: Ask) -> None:
    server.commits[OLDER] = WHOLE | {"config.json": b'{"old": 1}'}
    server.branches["v1"] = OLDER
    for revision in ("v1", OLDER):
        found = ask(revision=revision)
        assert (found["commit"], found["config"]) == (OLDER, {"old": 1})
    assert "no revision 'v9'" in ask(revision="v9")["error"]


def test_offline_and_not_in_the_cache(server: Hub, ask: Ask) -> None:
    for how in ({"env": {"HF_HUB_OFFLINE": "1"}}, {"local_files_only": True}):
        error = ask(**how)["error"]
        assert NAME in error
        assert "not (wholly) in the cache" in error
        assert "once with network access" in error
    assert server.requests == []


def test_offline_with_the_configuration_but_no_weights(server: Hub, ask: Ask) -> None:
    found = ask()
    Path(found["folder"], "model.safetensors").unlink()
    for how in ({"env": {"HF_HUB_OFFLINE": "1"}}, {"local_files_only": True}):
        assert "not (wholly) in the cache" in ask(**how)["error"]
    assert ask()["files"] == found["files"]  # fetched again


def test_offline_without_a_tokenizer_file(server: Hub, ask: Ask) -> None:
    """A cache that another program filled in part is good enough for the model itself."""
    found = ask()
    Path(found["folder"], "tokenizer.json").unlink()
    assert ask(env={"HF_HUB_OFFLINE": "1"})["folder"] == found["folder"]


def test_a_transfer_that_breaks_off_once_is_tried_again(server: Hub, ask: Ask) -> None:
    server.breaks = 1
    found = ask()
    assert Path(found["folder"], "model.safetensors").read_bytes() == WEIGHTS
    assert server.downloads().count("model.safetensors") == 2


def test_a_transfer_that_stays_broken(server: Hub, ask: Ask) -> None:
    server.breaks = 99
    error = ask()["error"]
    assert f"{NAME} could not be fetched from {server.url}" in error
    assert "try again" in error
    server.breaks = 0
    assert ask()["commit"] == MAIN


def test_missing_repository(server: Hub, ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "mine" / "tiny-bert").mkdir(parents=True)
    error = ask("mine/tiny-brt")["error"]
    assert "neither a folder mine/tiny-brt here nor a repository" in error
    assert server.url in error
    assert "Did you mean mine/tiny-bert?" in error


def test_private_and_gated_repositories(server: Hub, ask: Ask) -> None:
    server.token = "hf_secret"
    refused = ask()["error"]
    assert "needs `token`" in refused
    assert "hf_wrong" not in ask(token="hf_wrong")["error"]
    server.tokens.clear()
    assert ask(token="hf_secret")["commit"] == MAIN
    assert server.tokens == {"Bearer hf_secret"}
    server.gated = True
    assert "is gated" in ask(env={"HF_HOME": "other"}, token="hf_secret")["error"]


def test_token_and_cache_of_the_environment(server: Hub, ask: Ask, tmp_path: Path) -> None:
    server.token = "hf_secret"
    found = ask(env={"HF_TOKEN": "hf_secret", "HF_HUB_CACHE": str(tmp_path / "cache")})
    assert Path(found["folder"]).is_relative_to(tmp_path / "cache")
    found = ask(token="hf_secret", cache_dir=str(tmp_path / "given"))
    assert Path(found["folder"]).is_relative_to(tmp_path / "given")


def test_nobody_answers(ask: Ask) -> None:
    error = ask(env={"HF_ENDPOINT": "http://127.0.0.1:9"})["error"]
    assert "could not be fetched from http://127.0.0.1:9" in error


def index(*shards: str) -> bytes:
    return json.dumps({"weight_map": {f"w{i}": shard for i, shard in enumerate(shards)}}).encode()


@pytest.mark.parametrize(
    ("files", "weights"),
    [
        ({"pytorch_model.bin": b"p", "tf_model.h5": b"t"}, ["pytorch_model.bin"]),
        (
            {"model.safetensors.index.json": index("a.safetensors", "b.safetensors"),
             "a.safetensors": b"a", "b.safetensors": b"b", "c.safetensors": b"c",
             "pytorch_model.bin": b"p"},
            ["a.safetensors", "b.safetensors", "model.safetensors.index.json"],
        ),
        (
            {"pytorch_model.bin.index.json": index("x.bin", "y.bin"), "x.bin": b"x", "y.bin": b"y"},
            ["pytorch_model.bin.index.json", "x.bin", "y.bin"],
        ),
    ],
)  # fmt: skip
def test_other_forms(files: dict[str, bytes], weights: list[str], server: Hub, ask: Ask) -> None:
    server.commits[MAIN] = {"config.json": CONFIG, **files}
    assert ask()["files"] == sorted(["config.json", *weights])


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"model.safetensors": WEIGHTS}, "has no config.json"),
        ({"tokenizer.json": b"{}", "small/config.json": CONFIG}, "has no config.json"),
        ({"config.json": b"{"}, "not readable JSON"),
        ({"config.json": CONFIG, "tf_model.h5": b"t"}, "only tf_model.h5 (TensorFlow"),
        ({"config.json": CONFIG, "model.safetensors.index.json": index("a.safetensors")},
         "names the shard 'a.safetensors'"),
    ],
)  # fmt: skip
def test_repositories_that_do_not_do(
    files: dict[str, bytes], message: str, server: Hub, ask: Ask
) -> None:
    server.commits[MAIN] = files if "config.json" not in files else {**files, "vocab.txt": b""}
    if files.get("config.json") == b"{":
        server.commits[MAIN]["model.safetensors"] = WEIGHTS
    assert message in ask()["error"]


def test_subfolder(server: Hub, ask: Ask) -> None:
    inner = {f"small/[1]/{name}": content for name, content in WHOLE.items()}
    server.commits[MAIN] = {**WHOLE, **inner, "small/[1]/config.json": b'{"small": 1}'}
    found = ask(subfolder="small/[1]")
    assert found["config"] == {"small": 1}
    assert found["fingerprint"] == f"{MAIN}/small/[1]"
    assert server.downloads() == sorted(f"small/[1]/{name}" for name in found["files"])
    assert "check the subfolder" in ask(subfolder="large")["error"]
