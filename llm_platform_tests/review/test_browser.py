"""The page in a real browser: keys, undo, a phone, no script, and what a screen reader gets."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from llm_platform.operations.reviewing.review import CLAIM_SECONDS, ReviewDesk
from llm_platform.review.app import review_app
from llm_platform.review.people import Access, Person
from llm_platform.warehouse.lake import Warehouse
from llm_platform_tests.review.browser import LACKING, PHONE, open_chromium
from llm_platform_tests.review.cases import EXTRACT, FILM, OTHER_FILM, Clock, filled, open_lake, team_with
from llm_platform_tests.review.served import served
from llm_platform_tests.team import NAME, Team

pytestmark = pytest.mark.skipif(LACKING is not None, reason=str(LACKING))
TEXTS = {str(number): f"Ticket {number}. " + "The printer on the third floor burns again. " * 30 for number in range(6)}

READABLE = """
() => {
  const light = (colour) => {
    const [r, g, b] = colour.match(/[\\d.]+/g).slice(0, 3).map(Number).map((v) => v / 255)
      .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const colour = getComputedStyle(one).backgroundColor;
      if (!/rgba\\(.*, 0\\)|transparent/.test(colour)) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const found = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    const box = element.getBoundingClientRect();
    if (!own || !box.width || !box.height || element.closest("script, style, .unseen, .skip, kbd")) continue;
    const [one, other] = [light(getComputedStyle(element).color), light(behind(element))].sort((a, b) => b - a);
    const contrast = (one + 0.05) / (other + 0.05);
    if (contrast < 4.5) found.push(`${element.tagName} ${element.className} ${contrast.toFixed(2)}`);
  }
  return found;
}
"""
"""Elements whose text has less contrast with what is behind it than WCAG 2.2 asks for (1.4.3, level AA)."""

UNNAMED = """
() => [...document.querySelectorAll(
    "button, a[href], input:not([type=hidden]), textarea, select, progress, table, dialog")]
  .filter((one) => !one.hidden && !one.closest("[hidden]")).filter((one) => {
    const label = one.labels && one.labels.length ? one.labels[0].textContent : "";
    const by = (one.getAttribute("aria-labelledby") || "").split(" ")
      .map((id) => document.getElementById(id)?.textContent || "").join("");
    const table = one.tagName === "TABLE";
    const near = table ? (one.caption?.textContent || one.closest("[aria-label]")?.ariaLabel) : "";
    const text = ["BUTTON", "A"].includes(one.tagName) ? one.textContent : "";
    return !(label + by + (near || "") + text + (one.ariaLabel || "")).trim();
  }).map((one) => one.outerHTML.slice(0, 80))
"""
"""Controls and tables that a screen reader could not name."""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with open_chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Team:
    return team_with(tmp_path_factory.mktemp("browser"), documents=TEXTS)


@pytest.fixture(scope="module")
def lake(team: Team, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    with open_lake(tmp_path_factory.mktemp("lake")) as lake:
        filled(lake, team.loaded, {"clear": dict.fromkeys(TEXTS, "SAD"), "vague": dict.fromkeys(TEXTS, "HAPPY")})
        yield lake


def page_app(lake: Warehouse, team: Team, name: str) -> Any:
    times = itertools.count(0, CLAIM_SECONDS + 1)
    desk = ReviewDesk(lake, team.loaded, second_opinions=1.0, clock=lambda: next(times))
    return review_app({NAME: desk}, Access(local=Person(name, "adjudicator")), hosts=("127.0.0.1",), clock=Clock())


@pytest.fixture
def opened(chromium: Any, lake: Warehouse, team: Team, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A page of a person of this test's own; mistakes in scripts and refused content fail the test."""
    said: list[str] = []
    with served(page_app(lake, team, request.node.name)) as url:
        context = chromium.new_context(base_url=url, **getattr(request, "param", {}))
        page = context.new_page()
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
        yield page
        context.close()
    assert said == []


def verdicts(lake: Warehouse, by: str) -> list[tuple[str, str | None]]:
    rows = lake.application(NAME).annotations.verdicts().to_pylist()
    return sorted({(row["document_id"], row["answer"]) for row in rows if row["by"] == by})


def document_of(page: Any) -> str:
    return str(page.locator("#document-title").inner_text()).removeprefix("Document ")


def after(page: Any, action: Any) -> str:
    """Do something that opens another document; returns its key."""
    before = page.locator("input[name=group]").get_attribute("value")
    action()
    page.wait_for_function("(before) => document.querySelector('input[name=group]')?.value !== before", arg=before)
    return document_of(page)


def test_a_person_at_a_keyboard_judges_without_touching_the_mouse(
    opened: Any, lake: Warehouse, request: pytest.FixtureRequest
) -> None:
    """Somebody who judges 300 documents a day does it with one finger, and hears what happened."""
    opened.goto(f"/{NAME}/queue/audit")
    first = document_of(opened)
    opened.evaluate("() => { window.same = true; }")

    second = after(opened, lambda: opened.keyboard.press("1"))
    third = after(opened, lambda: opened.keyboard.press("c"))

    by = request.node.name
    assert verdicts(lake, by) == sorted([(first, "HAPPY"), (second, None)])
    assert opened.evaluate("() => window.same")  # the page was not loaded again
    assert opened.evaluate("() => document.activeElement.id") == "document-title"
    assert "Saved: Cannot tell" in opened.locator("#announcement").inner_text()

    assert after(opened, lambda: opened.keyboard.press("u")) == second
    opened.keyboard.press("n")
    opened.keyboard.type("1 c u: keys are letters in a note")
    assert opened.evaluate("() => document.activeElement.id") == "note"
    assert verdicts(lake, by) == [(first, "HAPPY")]
    opened.keyboard.press("Escape")
    assert after(opened, lambda: opened.keyboard.press("2")) == third
    assert verdicts(lake, by) == sorted([(first, "HAPPY"), (second, "SAD")])

    opened.keyboard.press("?")
    assert opened.locator("dialog").is_visible()
    opened.keyboard.press("1")
    opened.locator("#keys-on").uncheck()
    opened.keyboard.press("Escape")
    opened.keyboard.press("1")
    assert document_of(opened) == third
    assert len(verdicts(lake, by)) == 2


def test_enter_in_a_text_box_decides_nothing(opened: Any, lake: Warehouse, request: pytest.FixtureRequest) -> None:
    """Browsers press the first button of a form on Enter; here that would be a verdict."""
    opened.goto(f"/{NAME}/queue/audit")
    opened.locator("#remarks summary").click()

    opened.locator("#tags").fill("odd")
    opened.locator("#tags").press("Enter")
    opened.wait_for_load_state()

    assert verdicts(lake, request.node.name) == []
    assert opened.locator("#tags").input_value() == "odd"


@pytest.mark.parametrize("opened", [{"java_script_enabled": False}], indirect=True)
def test_without_script_every_step_works(opened: Any, lake: Warehouse, request: pytest.FixtureRequest) -> None:
    """Where scripts are forbidden, people review all the same."""
    opened.goto(f"/{NAME}")
    opened.get_by_role("link", name="Begin: Random check").click()
    document = document_of(opened)

    opened.locator("#remarks summary").click()
    opened.get_by_label("use as few-shot").check()
    opened.get_by_role("button", name="SAD").click()

    assert document_of(opened) != document
    assert verdicts(lake, request.node.name) == [(document, "SAD")]
    assert document in lake.application(NAME).annotations.tagged("use as few-shot")["document_id"].to_pylist()
    opened.get_by_role("button", name="Undo my last verdict").click()
    assert document_of(opened) == document


@pytest.mark.parametrize("opened", [{"viewport": PHONE, "has_touch": True, "is_mobile": True}], indirect=True)
def test_on_a_phone_nothing_is_cut_and_a_thumb_reaches_the_verdict(
    opened: Any, lake: Warehouse, request: pytest.FixtureRequest
) -> None:
    """People review on the train: a long text scrolls, the buttons stay, and they are large enough to hit."""
    for path in ("", "/agreement", "/history", "/queue/audit"):
        opened.goto(f"/{NAME}{path}")
        width = opened.evaluate("() => document.documentElement.scrollWidth")
        assert width <= PHONE["width"], path
    document = document_of(opened)

    for label in ("HAPPY", "SAD", "None of these", "Cannot tell"):
        box = opened.get_by_role("button", name=label).bounding_box()
        assert box["y"] + box["height"] <= PHONE["height"], label
        assert min(box["width"], box["height"]) >= 44, label
    after(opened, lambda: opened.get_by_role("button", name="SAD").tap())

    assert verdicts(lake, request.node.name) == [(document, "SAD")]


@pytest.mark.parametrize(
    "opened", [{"color_scheme": "light"}, {"color_scheme": "dark"}], indirect=True, ids=["light", "dark"]
)
def test_everything_can_be_read_and_named(opened: Any) -> None:
    """Low vision, dark rooms, screen readers: contrast, one heading, names of controls, landmarks, language."""
    for path in ("", "/queue/audit", "/queue/disagreements?names=1", "/agreement", "/history", "/queue/mine"):
        opened.goto(f"/{NAME}{path}")
        for summary in opened.locator("details > summary").all():
            summary.click()
        assert opened.evaluate(READABLE) == [], path
        assert opened.evaluate(UNNAMED) == [], path
        assert opened.locator("h1").count() == 1, path
        assert opened.locator("main").count() == opened.get_by_role("banner").count() == 1, path
        assert opened.locator("html").get_attribute("lang") == "en", path
        assert opened.locator("[aria-live=polite]").count() == 1, path
        levels = opened.evaluate("() => [...document.querySelectorAll('main :is(h1,h2,h3)')].map((h) => +h.tagName[1])")
        assert all(later - earlier <= 1 for earlier, later in itertools.pairwise(levels)), path


def test_focus_follows_the_reading_order(opened: Any) -> None:
    """Who moves by Tab must meet things in the order in which they stand."""
    opened.goto(f"/{NAME}/queue/audit")
    met = []
    for _ in range(14):
        opened.keyboard.press("Tab")
        met.append(opened.evaluate("() => document.activeElement.textContent.trim().split('\\n')[0].slice(0, 24)"))

    wanted = ["Skip to the content", "Start", "HAPPY", "SAD", "None of these", "Cannot tell", "Note and tags"]
    positions = [next(place for place, text in enumerate(met) if text.startswith(name)) for name in wanted]
    assert positions == sorted(positions)


def test_a_typed_correction_is_kept_when_it_is_refused(chromium: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Nobody types an answer twice: what was wrong is said, and the rest is still there."""
    folder = tmp_path_factory.mktemp("extract")
    team = team_with(folder, documents={"0": "Solaris, a film of 1972."}, **EXTRACT)
    with open_lake(folder) as lake:
        filled(lake, team.loaded, {"clear": {"0": FILM}, "vague": {"0": OTHER_FILM}})
        with served(page_app(lake, team, "ada")) as url:
            context = chromium.new_context(base_url=url)
            page = context.new_page()
            page.goto(f"/{NAME}/queue/disagreements")
            assert page.locator("tr.differs th").all_text_contents() == ["year (answers differ)"]
            page.keyboard.press("e")
            page.locator("[id='field.title']").fill("Solyaris")
            page.locator("[id='field.year']").fill("nineteen")

            page.keyboard.press("Control+Enter")

            page.get_by_role("alert").wait_for()
            assert "Field 'year' is not of type integer" in page.get_by_role("alert").inner_text()
            assert page.locator("[id='field.title']").input_value() == "Solyaris"
            page.locator("[id='field.year']").fill("1972")
            page.get_by_role("button", name="Save this answer").click()
            page.get_by_role("heading", name="Nothing waits for you here").wait_for()
            context.close()
        answers = lake.application(NAME).annotations.approved()["answer"].to_pylist()
    assert answers == ['{"title":"Solyaris","year":1972}']
