"""Explanations and other tables as HTML, for a notebook."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from prunus.plan.explain import Explanation
from prunus.plan.explain_text import LAYER_COLUMNS, headline, layer_rows, remarks


def explanation_html(explanation: Explanation) -> str:
    """The explanation with its layers as a table; the rest is the text of `explain_text`."""
    title, *shares = headline(explanation)
    table = table_html(title, layer_rows(explanation), LAYER_COLUMNS)
    return "\n".join((*_lines(shares), table, *_lines(remarks(explanation))))


def table_html(title: str, rows: Iterable[Sequence[str]], head: Sequence[str] = ()) -> str:
    """A table of plain texts, in the notebook's own colours.

    Args:
        title: The caption.
        rows: Texts by row and column.
        head: The headings of the columns; without them the first column is one of headings.
    """
    lines = [f'<table><caption style="text-align:left"><b>{escape(title)}</b></caption>']
    if head:
        lines.append(f"<thead><tr>{_cells(head, 'th')}</tr></thead>")
    lines.append("<tbody>")
    for row in rows:
        first = "" if head else _cells(row[:1], "th")
        lines.append(f"<tr>{first}{_cells(row if head else row[1:], 'td')}</tr>")
    return "\n".join((*lines, "</tbody></table>"))


def _cells(texts: Iterable[str], tag: str) -> str:
    return "".join(f'<{tag} style="text-align:left">{escape(text)}</{tag}>' for text in texts)


def _lines(texts: Iterable[str]) -> tuple[str, ...]:
    """Lines as they are, with their spaces."""
    return ("<pre>", escape("\n".join(texts)), "</pre>")
