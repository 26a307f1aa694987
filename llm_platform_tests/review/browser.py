"""A real browser, and axe-core in it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip
PHONE = {"width": 390, "height": 844}
DESK = {"width": 1440, "height": 900}
LACKING = next(
    (
        f"{what} is not there: {how}"
        for there, what, how in (
            (find_spec("playwright"), "playwright", "make install-dev"),
            (find_spec("axe_playwright_python"), "axe-core", "make install-dev"),
            (CHROMIUM, "Chromium", "make tools"),
        )
        if not there
    ),
    None,
)
"""What keeps these tests from running, and the command that brings it; None where nothing does."""

RUN_AXE = """
async () => (await axe.run(document,
    {runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}))
  .violations.map((found) => `${found.id}: ${found.nodes.map((node) => node.html.slice(0, 120)).join(" | ")}`)
"""


@contextmanager
def open_chromium() -> Iterator[Any]:
    """A browser for the length of a `with` block."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


def violations(page: Any) -> list[str]:
    """What axe-core holds against a page; its context has to be opened with `bypass_csp`."""
    import axe_playwright_python

    page.evaluate((Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8"))
    found: list[str] = page.evaluate(RUN_AXE)
    return found
