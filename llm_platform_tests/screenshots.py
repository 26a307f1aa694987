"""`python -m llm_platform_tests.screenshots APPLICATION`: the pictures of the pages in `docs/pictures`, made anew.

It serves the pages of this namespace's state, after `make demo`, opens each in Chromium as a newcomer would, and writes
one picture each; those whose name ends in `_phone` are 390 pixels wide, those in `_dark` for a dark room. With
`--dagster http://127.0.0.1:3000`, where `llm-platform dev` runs on that state, Dagster's graph and checks are made.
"""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from llm_platform.operations.releases import loaded_application
from llm_platform.operations.reviewing.review import ReviewDesk
from llm_platform.resources.warehouse import WarehouseResource
from llm_platform.review.app import review_app
from llm_platform.review.people import Access, Person
from llm_platform.review.status import NamespaceStatus
from llm_platform.settings.settings import CHECKOUT, load_settings
from llm_platform_tests.review.browser import DESK, LACKING, PHONE, open_chromium
from llm_platform_tests.review.served import served

TALLEST = 1_100
"""Pixels of a picture: what is below is seen by scrolling."""
LOOKS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("start_page", "/", {}),
    ("start_page_dark", "/", {"color_scheme": "dark"}),
    ("start_page_phone", "/", {"viewport": PHONE}),
    ("answers_page", "/{name}/answers?only=wrong", {}),
    ("answers_phone", "/{name}/answers?only=wrong", {"viewport": PHONE, "color_scheme": "dark"}),
    ("review_page", "/{name}/queue/disagreements", {}),
    ("review_phone", "/{name}/queue/disagreements", {"viewport": PHONE}),
    ("report_card", "/{name}/cards/card", {}),
    ("report_card_phone", "/{name}/cards/card", {"viewport": PHONE, "color_scheme": "dark"}),
    ("drift_page", "/{name}/cards/drift", {}),
)


OF_DAGSTER: tuple[tuple[str, str, dict[str, int]], ...] = (
    ("asset_graph", "/asset-groups~group%3A%22{name}%22/", {"width": 2300, "height": 1350}),
    ("dagster_checks", "/assets/{name}/report?view=checks", {"width": 1600, "height": 790}),
)
LOADING_MILLISECONDS = 8_000
"""Dagster's pages ask for what they show after they are there."""


def main() -> None:
    """Write the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("application", nargs="?", default="movie_reviews")
    parser.add_argument("--to", type=Path, default=CHECKOUT / "docs" / "pictures")
    parser.add_argument("--dagster", help="Where `llm-platform dev` has Dagster's pages.")
    given = parser.parse_args()
    if LACKING is not None:
        raise SystemExit(LACKING)
    settings = load_settings()
    loaded = loaded_application(*settings.application_files, given.application)
    with WarehouseResource.of(settings).open() as lake, open_chromium() as browser:
        desk = ReviewDesk(lake, loaded, cards_folder=settings.cards_folder / given.application)
        app = review_app(
            {given.application: desk},
            Access(local=Person("ada", "reviewer")),
            hosts=("127.0.0.1",),
            platform=lambda: NamespaceStatus(namespace=settings.namespace),
            clock=lambda: datetime.now(UTC),
        )
        with served(app) as url:
            for picture, path, look in LOOKS:
                _take(browser, f"{url}{path.format(name=given.application)}", given.to / f"{picture}.png", look)
        if given.dagster:
            for picture, path, size in OF_DAGSTER:
                address = f"{given.dagster.rstrip('/')}{path.format(name=given.application)}"
                _take_dagster(browser, address, given.to / f"{picture}.png", size)


def _take(browser: Any, address: str, to: Path, look: dict[str, Any]) -> None:
    context = browser.new_context(**{"viewport": DESK, "color_scheme": "light", **look})
    page = context.new_page()
    page.goto(address)
    page.evaluate("() => document.fonts.ready")
    width = context.pages[0].viewport_size["width"]
    height = min(page.evaluate("() => document.documentElement.scrollHeight"), TALLEST)
    page.set_viewport_size({"width": width, "height": max(height, 500)})
    page.screenshot(path=to)
    context.close()


def _take_dagster(browser: Any, address: str, to: Path, size: dict[str, int]) -> None:
    page = browser.new_page(viewport=size)
    page.goto(address)
    page.wait_for_timeout(LOADING_MILLISECONDS)
    page.screenshot(path=to)
    page.close()


if __name__ == "__main__":
    main()
