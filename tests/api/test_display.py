"""A model and its explanation as people see them: a small table, in a notebook one of HTML."""

import dataclasses
import re
from html.parser import HTMLParser

import pytest

from prunus.model import CompiledModel, Source
from prunus.plan.explain_html import table_html
from tests.api.test_pickle import new_model

HOSTILE = '<script>alert("x")</script> & <b>bold</b>'


class Tags(HTMLParser):
    """The tags of a page, each closed, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.text = ""
        self._open: list[str] = []
        self.feed(page)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._open.append(tag)
        self.seen.add(tag)
        for name, value in attrs:
            assert (name, value) == ("style", "text-align:left"), "colours are the notebook's own"

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag
        self.text += " "

    def handle_data(self, data: str) -> None:
        self.text += data


def model_named(name: str, simulated: str | None = None) -> CompiledModel:
    model = new_model()
    model.source = Source(name, simulated)
    return model


def test_a_model_is_a_small_table() -> None:
    first, *rows = repr(model_named("a name")).splitlines()
    assert first == "CompiledModel a name"
    shown = dict(row.split(maxsplit=1) for row in rows)
    assert list(shown) == ["layers", "zeros", "inputs", "size", "target", "threads"]
    assert shown["threads"] == "1"
    assert shown["inputs"] == "input_ids i64[batch, seq], attention_mask i64[batch, seq]"
    assert re.fullmatch(
        r"\d+\.\d % of the linear layers, \d+\.\d % of the whole model", shown["zeros"]
    )
    assert re.search(r"AVX|NEON", shown["target"])


def test_it_counts_the_layers_that_skip_zeros() -> None:
    model = new_model(threshold=0.0)
    layers = sum(step.op == "linear" for step in model.program.native_steps)
    assert f"layers     {layers} sparse, 0 dense" in repr(model)
    assert f"layers     0 sparse, {layers} dense" in repr(model.recompile(sparse=False))


def test_simulated_zeros_are_told_first() -> None:
    shown = repr(model_named("a name", "0.9 of them")).splitlines()
    assert shown[1].split(maxsplit=1) == ["SIMULATED", "0.9 of them"]


def test_html_says_the_same() -> None:
    model = model_named("a name", "0.9 of them")
    page = Tags(model._repr_html_())
    assert page.text.split() == repr(model).split()
    explanation = model.explain()
    shown = Tags(explanation._repr_html_())
    assert sorted(shown.text.split()) == sorted(str(explanation).split())
    assert shown.seen <= {"table", "caption", "b", "thead", "tbody", "tr", "th", "td", "pre"}


def test_html_escapes_names() -> None:
    model = model_named(HOSTILE, HOSTILE)
    explanation = model.explain()
    first = dataclasses.replace(explanation.layers[0], name=HOSTILE, reason=HOSTILE)
    explanation = dataclasses.replace(explanation, layers=(first, *explanation.layers[1:]))
    for page in (model._repr_html_(), explanation._repr_html_()):
        tags = Tags(page)
        assert "script" not in tags.seen and HOSTILE in tags.text
    assert Tags(table_html(HOSTILE, [(HOSTILE,)], (HOSTILE,))).text.count(HOSTILE) == 3


def test_in_a_notebook() -> None:
    notebooks = pytest.importorskip("nbformat.v4")
    client = pytest.importorskip("nbclient").NotebookClient
    pytest.importorskip("ipykernel")
    code = "from tests.api.test_pickle import new_model\nmodel = new_model()\nmodel"
    cells = [notebooks.new_code_cell(code), notebooks.new_code_cell("model.explain()")]
    book = notebooks.new_notebook(cells=cells)
    client(book, kernel_name="python3", timeout=120).execute()
    for cell in book.cells:
        assert cell.outputs[0].data["text/html"].startswith("<")
        assert "text/plain" in cell.outputs[0].data
