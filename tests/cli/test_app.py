"""Help, versions, errors and exit statuses: what all commands have in common."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import prunus as package
from prunus.cli import models
from prunus.errors import InputError

COMMANDS = ("bench", "compile", "explain", "run", "check", "profile", "env", "cache")
HEAVY = ("torch", "transformers", "llvmlite", "numpy", "huggingface_hub")


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_every_command_explains_itself_with_examples(prunus: Any, command: str, flag: str) -> None:
    ran = prunus(command, flag)
    assert ran.status == 0
    assert "Examples:" in ran.stdout
    assert f"prunus {command}" in ran.stdout


def test_the_commands_are_listed_in_order(prunus: Any) -> None:
    text = prunus("--help").stdout
    places = [text.index(f"│ {command}") for command in COMMANDS]
    assert places == sorted(places)


def test_help_imports_nothing_heavy() -> None:
    ran = python(
        "import sys; from prunus.cli.app import app\n"
        "try: app(['bench', '--help'])\n"
        "except SystemExit: pass\n"
        f"sys.exit(', '.join(set({HEAVY!r}) & set(sys.modules)) or 0)"
    )
    assert ran.returncode == 0, ran.stderr


def test_version(prunus: Any) -> None:
    assert prunus("--version").stdout == f"prunus {package.__version__}\n"


WRONG = {
    "no command": ([], "Usage"),
    "unknown command": (["bensch"], "bensch"),
    "batch 0": (["bench", "stand-in", "-b", "0"], "whole number from 1"),
    "no lengths": (["bench", "stand-in", "-s", ""], "empty part"),
    "no shapes": (["bench", "stand-in", "--shape", ""], "empty part"),
    "bad shape": (["bench", "stand-in", "--shape", "8"], "not a shape"),
    "shape twice": (["bench", "stand-in", "--shape", "1x8", "-b", "1"], "one or the other"),
    "unknown engine": (["bench", "stand-in", "--engine", "prunus,tvm"], "no engine 'tvm'"),
    "no engine": (["bench", "stand-in", "--engine", ""], "no engine ''"),
    "no rounds": (["bench", "stand-in", "--rounds", "0"], "rounds"),
    "no threads": (["bench", "stand-in", "-t", "0"], "threads=0"),
    "many threads": (["explain", "stand-in", "-t", "9999"], "threads=9999"),
    "bad block": (["explain", "stand-in", "--block", "4"], "block"),
    "empty block": (["explain", "stand-in", "--block", "0x1"], "positive"),
    "bad threshold": (["explain", "stand-in", "--threshold", "1.5"], "share from 0 to 1"),
    "bad target": (["explain", "stand-in", "--target", "llvm -mcpu=abacus"], "abacus"),
    "bad tune": (["explain", "stand-in", "--tune", "luck"], "luck"),
    "bad recipe": (["explain", "stand-in", "--simulate", "90%"], "not understood"),
    "bad random recipe": (["explain", "random:1"], "out of range"),
    "N:M stand-in": (["explain", "random:0.5@2:4"], "random:0 --simulate 0.5@2:4"),
    "two recipes": (
        ["explain", "stand-in", "--simulate", "0.9", "--simulate", "0.8"],
        "2 times",
    ),
    "revision of a stand-in": (["explain", "stand-in", "--revision", "main"], "--revision"),
    "no such folder": (["explain", "./no/such/folder"], "There is no folder"),
    "not on the disk": (["explain", "nobody/nothing", "--local-files-only"], "nobody/nothing"),
    "no inputs": (["run", "stand-in"], "--random 1x128"),
    "two inputs": (["run", "stand-in", "--random", "1x8", "--inputs", "x.npz"], "one kind of"),
    "outputs of a wrong kind": (["run", "stand-in", "--random", "1x8", "-o", "x.txt"], ".npz"),
    "no output": (["compile", "stand-in"], "--output"),
    "nothing of that kind": (["cache", "clear", "nonsense"], "nonsense"),
}


@pytest.mark.parametrize(("arguments", "says"), WRONG.values(), ids=WRONG.keys())
def test_wrong_use_is_one_message(prunus: Any, arguments: list[str], says: str) -> None:
    ran = prunus(*arguments)
    assert ran.status == 2
    assert says in ran.stderr + ran.stdout * (not arguments)
    assert "Traceback" not in ran.stderr
    assert ran.stdout == "" or not arguments


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], None]:
    """Makes the search for the model do something else."""

    def fail(action: Callable[[], None]) -> None:
        monkeypatch.setattr("prunus.cli.explain.find_model", lambda options: action())

    return fail


def raise_error() -> None:
    raise InputError("markup such as [bold] and a long line " + "that goes on " * 20)


def test_a_message_is_printed_as_it_is(prunus: Any, failing: Any) -> None:
    failing(raise_error)
    ran = prunus("explain", "model")
    assert ran.status == 2
    assert ran.stderr == f"prunus: markup such as [bold] and a long line {'that goes on ' * 20}\n"


def test_debug_shows_where_an_error_comes_from(prunus: Any, failing: Any) -> None:
    failing(raise_error)
    with pytest.raises(InputError):
        prunus("explain", "model", "--debug")


def test_ctrl_c_is_130(prunus: Any, failing: Any) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    failing(interrupt)
    assert prunus("explain", "model").status == 130


def test_a_warning_is_one_line(prunus: Any, failing: Any) -> None:
    def warn() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("the pooler is left out", stacklevel=1)
        raise InputError("enough")

    failing(warn)
    lines = prunus("explain", "model").stderr.splitlines()
    assert lines == ["prunus: warning: the pooler is left out", "prunus: enough"]


def test_a_real_process_gives_the_message_the_status_and_no_traceback() -> None:
    command = [sys.executable, "-m", "prunus", "explain", "./nowhere"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith("prunus: There is no folder")
    debugged = subprocess.run(
        [*command, "--debug"], capture_output=True, text=True, timeout=120, check=False
    )
    assert debugged.returncode == 1
    assert "Traceback" in debugged.stderr and "CheckpointError" in debugged.stderr


def test_saved_folders_take_no_revision(prunus: Any, tmp_path: Path) -> None:
    (tmp_path / "prunus.json").write_text("{}")
    ran = prunus("explain", tmp_path, "--revision", "main")
    assert ran.status == 2
    assert "saved by prunus" in ran.stderr


def test_what_a_library_prints_stays_off_standard_output(
    prunus: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compile_loudly(self: models.StandIn, simulation: object, options: object) -> None:
        print("compiling, please wait")
        raise InputError("enough")

    monkeypatch.setattr(models.StandIn, "compile", compile_loudly)
    ran = prunus("explain", "stand-in", "--json")
    assert ran.stdout == ""
    assert "please wait" in ran.stderr
