"""Every page in a real browser: axe-core, a phone, the keyboard alone, no script, and a run that is followed."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from llm_platform.operations.answering.under_way import Noted
from llm_platform.operations.reviewing.review import ReviewDesk
from llm_platform.operations.watching.drift import monitor
from llm_platform.review.app import review_app
from llm_platform.review.people import Access, Person
from llm_platform.warehouse.lake import Warehouse
from llm_platform_tests.review.browser import DESK, LACKING, PHONE, open_chromium, violations
from llm_platform_tests.review.cases import (
    EXTRACT,
    FILM,
    GENERATE,
    NOON,
    OTHER_FILM,
    Clock,
    filled,
    judged,
    open_lake,
    team_with,
)
from llm_platform_tests.review.served import served
from llm_platform_tests.team import NAME, Team, right_answer

pytestmark = pytest.mark.skipif(LACKING is not None, reason=str(LACKING))
DOCUMENTS = 60
GUIDELINES = {
    "guidelines": f"Read the whole ticket.\n\nIrony is what it means: https://example.org/{'a' * 120}",
    "labels": {"SAD": "wants a repair"},
}
PAGES = (
    "/",
    f"/{NAME}",
    f"/{NAME}/answers",
    f"/{NAME}/answers?only=differing&open=1",
    f"/{NAME}/queue/disagreements",
    f"/{NAME}/queue/answers?document=1",
    f"/{NAME}/verdicts",
    f"/{NAME}/history",
    f"/{NAME}/agreement",
    f"/{NAME}/cards/card",
    f"/{NAME}/cards/drift",
    "/nowhere/answers",
)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with open_chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Team:
    team = Team(tmp_path_factory.mktemp("pages"), "http://127.0.0.1:9", documents=DOCUMENTS)
    team.specification["review"] = GUIDELINES
    team.write_specification()
    return team


@pytest.fixture(scope="module")
def lake(team: Team, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    with open_lake(tmp_path_factory.mktemp("lake")) as lake:
        right: dict[str, str | None] = {str(number): right_answer(number) for number in range(DOCUMENTS)}
        filled(lake, team.loaded, {"clear": right, "vague": {**dict.fromkeys(right, "SAD"), "3": None}})
        judged(lake, team.loaded, cards_folder=team.settings.cards_folder / NAME)
        monitor(lake, team.loaded, cards_folder=team.settings.cards_folder / NAME, now=NOON)
        yield lake


@contextmanager
def site(lake: Warehouse, team: Team, name: str = "ada") -> Iterator[str]:
    desk = ReviewDesk(
        lake,
        team.loaded,
        second_opinions=1.0,
        cards_folder=team.settings.cards_folder / NAME,
        progress_folder=team.settings.progress_folder,
    )
    app = review_app({NAME: desk}, Access(local=Person(name, "adjudicator")), hosts=("127.0.0.1",), clock=Clock())
    with served(app) as url:
        yield url


@contextmanager
def opened(chromium: Any, url: str, **given: Any) -> Iterator[Any]:
    context = chromium.new_context(base_url=url, **given)
    try:
        yield context.new_page()
    finally:
        context.close()


def held_against(page: Any, path: str, width: int) -> list[str]:
    """What is wrong with a page: for axe-core, and by being wider than the screen."""
    page.goto(path)
    page.evaluate("() => { for (const one of document.querySelectorAll('details')) one.open = true; }")
    found = [f"{path} {one}" for one in violations(page)]
    wide = page.evaluate("() => document.documentElement.scrollWidth")
    return found + ([f"{path} is {wide} pixels wide"] if wide > width else [])


def test_the_pages_of_an_owner_pass_axe_on_a_phone(chromium: Any, lake: Warehouse, team: Team) -> None:
    """People who see, hear or move otherwise answer for applications, too; the rest of the matrix runs at night."""
    with site(lake, team) as url, opened(chromium, url, viewport=PHONE, bypass_csp=True) as page:
        found = [one for path in PAGES[:3:2] for one in held_against(page, path, PHONE["width"])]

    assert found == []


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("screen", [DESK, PHONE], ids=["desk", "phone"])
def test_every_page_passes_axe(chromium: Any, lake: Warehouse, team: Team, screen: dict[str, int], scheme: str) -> None:
    """Contrast, names, order of headings, scroll regions that the keyboard reaches: on each page, in each look."""
    given = {"viewport": screen, "color_scheme": scheme, "bypass_csp": True}
    with site(lake, team, f"{scheme}{screen['width']}") as url, opened(chromium, url, **given) as page:
        found = [one for path in PAGES for one in held_against(page, path, screen["width"])]

    assert found == []


@pytest.mark.slow
@pytest.mark.parametrize("task", [EXTRACT, GENERATE], ids=["extract", "generate"])
def test_pages_of_other_tasks_pass_axe(chromium: Any, tmp_path: Path, task: dict[str, Any]) -> None:
    """Fields, boxes and typed answers are other controls than labels."""
    team = team_with(tmp_path, documents={"0": "Solaris, a film of 1972.\n\nBy Tarkovsky. " * 30}, **task)
    with open_lake(tmp_path) as lake:
        filled(lake, team.loaded, {"clear": {"0": FILM}, "vague": {"0": OTHER_FILM}})
        paths = ("", "/queue/disagreements", "/answers?open=0", "/queue/answers?document=0")
        with site(lake, team) as url, opened(chromium, url, viewport=PHONE, bypass_csp=True) as page:
            found = [one for path in paths for one in held_against(page, f"/{NAME}{path}", PHONE["width"])]
            page.goto(f"/{NAME}/queue/disagreements")
            answer = page.locator(".verdict .answers").bounding_box()
            button = page.get_by_role("button", name="A is right").bounding_box()

    assert found == []
    assert answer["y"] >= 0
    assert answer["y"] + answer["height"] <= button["y"]
    assert button["y"] + button["height"] <= PHONE["height"]


def reach(page: Any, name: str) -> None:
    """Press Tab until what has the focus is called so."""
    for _ in range(150):
        page.keyboard.press("Tab")
        said = page.evaluate("() => document.activeElement.ariaLabel || document.activeElement.textContent.trim()")
        if said.startswith(name):
            return
    raise AssertionError(f"nothing that begins with {name!r} is reached by Tab")


@pytest.mark.slow
def test_with_the_keyboard_alone_an_owner_gets_from_the_start_to_a_verdict(
    chromium: Any, lake: Warehouse, team: Team
) -> None:
    """Who uses no mouse reads what serves, finds a wrong answer, and says what is right."""
    with site(lake, team, "keys") as url, opened(chromium, url, viewport=DESK) as page:
        page.goto("/")
        reach(page, "Answers")
        page.keyboard.press("Enter")
        page.wait_for_url(f"**/{NAME}/answers")
        page.locator("#only").focus()
        page.keyboard.type("with a w")
        reach(page, "Show")
        page.keyboard.press("Enter")
        page.wait_for_url("**only=wrong**")
        reach(page, "Open and judge 1")
        page.keyboard.press("Enter")
        page.wait_for_url("**open=1**")
        reach(page, "HAPPY")
        page.keyboard.press("Enter")
        page.wait_for_url("**#d-1*")
        said = page.locator("[id^='d-1'] .said").first.inner_text()

    assert said == "keys: HAPPY"


@pytest.mark.slow
def test_without_script_the_same_way_works(chromium: Any, lake: Warehouse, team: Team) -> None:
    """Where scripts are forbidden, everything is a link, a form or a button."""
    with site(lake, team, "plain") as url, opened(chromium, url, java_script_enabled=False) as page:
        page.goto("/")
        page.get_by_role("link", name="Report card", exact=True).click()
        page.locator("ul.ids a").first.click()
        page.get_by_role("button", name="Cannot tell").click()
        page.get_by_role("link", name="My verdicts").click()
        page.get_by_role("link", name="Change the verdict on").first.click()
        page.get_by_role("button", name="HAPPY").click()
        page.get_by_role("link", name="My verdicts").click()
        said = page.locator("tbody tr").first.inner_text()
        page.get_by_role("link", name="Start").click()
        heading = page.locator("h1").inner_text()

    assert "HAPPY" in said
    assert heading == "Where things stand"


@pytest.mark.slow
def test_a_run_is_followed_without_a_reload_and_its_end_brings_the_new_numbers(
    chromium: Any, lake: Warehouse, team: Team
) -> None:
    """Somebody watches a long run in a corner of the screen."""
    path = team.settings.progress_folder / NAME / "r-1.json"
    path.parent.mkdir(parents=True, exist_ok=True)

    def say(done: int) -> None:
        aside = path.with_suffix(".new")
        aside.write_text(
            Noted(
                release_id="r", run_id="run-1", host=socket.gethostname(), process=os.getpid(), at=datetime.now(UTC),
                done=done, total=60, tokens_per_second=90.0, seconds_left=4.0, tokens=900, cost_usd=None,
                failed={"HTTP 400": 1}, retries={},
            ).model_dump_json(),
            encoding="utf-8",
        )  # fmt: skip
        aside.rename(path)

    with site(lake, team, "follows") as url, opened(chromium, url) as page:
        page.goto("/")
        page.evaluate("() => { window.same = true; }")
        say(10)
        page.get_by_text("10 of 60 texts").wait_for()
        say(20)
        page.get_by_text("20 of 60 texts").wait_for()
        same = page.evaluate("() => window.same")
        page.get_by_text("HTTP 400 (1)").wait_for()
        path.unlink()
        page.wait_for_function("() => window.same === undefined")
        page.locator("h1").wait_for()
        rest = page.locator(".work").count()

    assert same is True
    assert rest == 0
