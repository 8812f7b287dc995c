"""The page in a real browser: at two widths, light and dark, and on paper."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

from prunus.reporting.findings import Findings
from tests.debian import require_tools

if TYPE_CHECKING:
    from playwright.sync_api import Browser

Theme = Literal["light", "dark"]

FLAGS = (
    "--no-sandbox",  # tests may run as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

OVERFLOWING = """() => {
    const width = document.documentElement.clientWidth;
    const visible = element => getComputedStyle(element).overflowX == "visible";
    const free = element => !element || visible(element) && free(element.parentElement);
    return [...document.body.querySelectorAll("*")]
        .filter(each => each.getBoundingClientRect().right > width + 1 && free(each))
        .map(each => each.outerHTML.slice(0, 80));
}"""
"""Elements that reach beyond the page, but for those inside something that scrolls."""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    sync_api = pytest.importorskip("playwright.sync_api")
    lock = tmp_path_factory.getbasetemp().parent / "browser.lock"
    require_tools(("chromium",), ("chromium",), lock)
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        yield browser
        browser.close()


@pytest.mark.parametrize("theme", ["light", pytest.param("dark", marks=pytest.mark.wide)])
@pytest.mark.parametrize("width", [390, 1280])
def test_it_renders(
    browser: Browser, findings: Findings, tmp_path: Path, width: int, theme: Theme
) -> None:
    image = pytest.importorskip("PIL.Image")
    path = tmp_path / "report.html"
    findings.write(path)
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=theme)
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("requestfailed", lambda request: said.append(request.url))
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri(), wait_until="load")
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [path.as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(OVERFLOWING) == []
    charts = page.locator("figure.chart svg:visible")
    assert charts.count() == 6
    for chart in charts.all():
        box = chart.bounding_box()
        assert box is not None and box["width"] > 100 and box["height"] > 50
    assert page.locator("#headline .number").inner_text().endswith("×")
    with image.open(io.BytesIO(page.screenshot())) as shot:
        corner = shot.convert("L").getpixel((2, 2))
    assert corner > 200 if theme == "light" else corner < 60, "paper of the theme"
    page.close()


def test_it_prints(browser: Browser, findings: Findings, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    findings.write(path)
    page = browser.new_page(color_scheme="dark")
    page.goto(path.as_uri())
    printed = page.pdf(format="A4")
    assert printed.startswith(b"%PDF") and len(printed) > 20_000
    page.emulate_media(media="print")
    paper = page.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--paper')")
    assert paper.strip() == "#fffefd", "paper is white, whatever the screen is"
    page.close()
