"""Kernels of every model are those of the golden file: a change of code is seen, and meant.

PRUNUS_REWRITE_GOLDEN=1 writes the files again; `python -m tests.replay --against COMMIT` says which
kernels changed, and whether outputs did.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import pytest

from prunus.kernels.epilogue import Epilogue
from prunus.kernels.panel import Panel
from prunus.kernels.target import parse_target
from prunus.plan import make_plan
from tests.replay.__main__ import differences
from tests.replay.cases import MODELS, TARGETS, cases, compiled
from tests.replay.record import kernels, normalized

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("name", MODELS)
def test_kernels_are_those_of_the_golden_file(name: str) -> None:
    lines = []
    for case in cases((name,)):
        for zeros, model in compiled(case):
            for text in TARGETS:
                target = parse_target(text)
                made = kernels(model, target)
                digest = hashlib.sha256("\n".join(made).encode()).hexdigest()[:16]
                lines.append(f"{zeros} {target.cpu}: {len(made)} kernels {digest}\n")
    file = GOLDEN / f"{name}.txt"
    if os.environ.get("PRUNUS_REWRITE_GOLDEN"):
        file.parent.mkdir(exist_ok=True)
        file.write_text("".join(lines))
    assert "".join(lines) == file.read_text(), "PRUNUS_REWRITE_GOLDEN=1 writes the lines again"


PROGRAMS = ("Bert", "HybridBert", "DebertaV2")
PROGRAM_TARGETS = (*TARGETS, "llvm -mtriple=aarch64-linux-gnu")


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_are_those_of_the_golden_files(name: str) -> None:
    (case,) = cases((name,))
    model = dict(compiled(case))[f"{name} 4x1"]
    for text in PROGRAM_TARGETS:
        target = parse_target(text)
        program = make_plan(model.graph, replace(model.options, target=target))
        file = GOLDEN / "programs" / f"{name} {target.isa.name}.txt"
        found = str(program)
        if os.environ.get("PRUNUS_REWRITE_GOLDEN"):
            file.write_text(found)
        assert found == file.read_text(), f"{file.name}: PRUNUS_REWRITE_GOLDEN=1 writes it again"


def test_normalized_code_keeps_all_but_names() -> None:
    target, kernel = parse_target(TARGETS[1]), Panel(16, 4, False, Epilogue())
    ir = kernel.ir(target)
    plain = normalized(ir, kernel.symbol)
    renamed = ir.replace('%".', '%"v.').replace(kernel.symbol, "other")
    assert renamed != ir and normalized(renamed, "other") == plain
    assert normalized(Panel(16, 5, False, Epilogue()).ir(target), "") != plain
    changed = ir.replace("fmul", "fadd", 1) if "fmul" in ir else ir.replace("add", "sub", 1)
    assert normalized(changed, kernel.symbol) != plain


def test_differences_name_what_changed() -> None:
    old = {"a": {"kernels": ["dense 1", "pack 2"], "outputs": "x"}, "b": {"kernels": []}}
    new = {"a": {"kernels": ["dense 1", "pack 3"], "outputs": "y"}, "c": {"kernels": []}}
    assert list(differences(old, old)) == []
    assert list(differences(old, new)) == [
        "a: native step 1: pack 2 became pack 3",
        "a: other outputs",
        "b: only in the old record",
        "c: only in the new record",
    ]
