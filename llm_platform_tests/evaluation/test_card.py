"""The report card: complete, self-contained, and without a word of any document."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest

from llm_platform.errors import ContractBroken
from llm_platform.evaluation.baseline import Baseline, baseline_of
from llm_platform.evaluation.card import render_card
from llm_platform.evaluation.changes import changes
from llm_platform.evaluation.charts import Line, Point, bar_chart, line_chart
from llm_platform.evaluation.comparison import JudgedVariant, compare, compare_all
from llm_platform.evaluation.pages import style_sheet
from llm_platform.evaluation.pairing import Rules
from llm_platform.evaluation.panel import Panel
from llm_platform.evaluation.report import Report
from llm_platform.records import Interval
from llm_platform_tests.evaluation.builders import World, application_of, release_of

CANARY = "canary-7f3a"
VOID = {"meta", "line", "circle", "path", "br", "rect"}
BASELINE = Baseline(
    name="TF-IDF + logistic regression",
    accuracy=Interval(value=0.7, lower=0.64, upper=0.75, confidence=0.95, count=200),
    trained=180,
    evaluated=200,
)


class Page(HTMLParser):
    """Reads a page: its text, its attributes, and tags that are not closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.found: list[tuple[str, str, str]] = []
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def two_variants() -> tuple[list[Report], JudgedVariant, JudgedVariant, World]:
    """A refused and an approved variant on the same 200 documents."""
    judged = []
    for name, right in (("plain", 51), ("scaled", 78)):
        world, release = World(), release_of(name)
        for label, other in (("HAPPY", "SAD"), ("SAD", "HAPPY")):
            world.add(right, answer=label, reference=label, confidence=0.9)
            world.add(100 - right, answer=other, reference=label, confidence=0.7)
        report = world.report(release=release, variant=name, baseline=BASELINE)
        judged.append(JudgedVariant(report, world.answers, world.scores(release)))
    return [variant.report for variant in judged], judged[0], judged[1], world


def card() -> str:
    """The card of two variants and their comparison."""
    reports, a, b, world = two_variants()
    compared = compare(a, b, references=world.references, rules=Rules(0.95))
    return render_card(reports, [compared], title="Reviews", looks="once", provenance={"git commit": "1f3c9ab"})


def test_the_card_says_what_was_decided_and_why() -> None:
    """The reader who opens it has ten seconds."""
    text = Page(card()).text

    assert "1 of 2 variants may be published." in text
    assert "plain Refused 0.510 accuracy, [0.441, 0.578], minimum 0.600" in text
    assert "The whole interval lies below the minimum." in text
    assert "scaled Approved 0.780 accuracy, [0.718, 0.832], minimum 0.600" in text
    assert "TF-IDF + logistic regression trained on 180 documents" in text
    assert "Always HAPPY the majority, 100 of 200" in text
    assert "What to do next plain" in text
    assert "Try another prompt on the training split" in text
    assert "scaled is right more often than plain on the same 200 texts" in text


def test_a_variant_that_has_more_to_show_than_its_gates_is_not_called_approved() -> None:
    """An adapter must also beat the champion; a page that approves what `promote` refuses is wrong."""
    reports, *_ = two_variants()
    reason = "Adapter 1f3c9ab is refused: not shown to be better than plain"

    text = Page(render_card(reports, title="Reviews", looks="once", withheld={"scaled": reason})).text

    assert "No variant may be published." in text
    assert f"scaled Not decided 0.780 accuracy, [0.718, 0.832], minimum 0.600 {reason}" in text
    assert "Approved" not in text


def test_the_card_names_where_it_came_from() -> None:
    """Everything on it can be found again by id."""
    reports, *_ = two_variants()
    text = Page(card()).text

    for report in reports:
        for fact in (report.report_id, report.release_id, report.evaluation_id, report.release.prompt_version):
            assert fact in text
    assert "git commit 1f3c9ab" in text


def test_the_card_needs_nothing_but_itself() -> None:
    """It is opened from a file, in air-gapped sites, years later."""
    html = card()
    page = Page(html)

    references = [(tag, name) for tag, name, _ in page.found if name in ("src", "href", "srcset", "action", "data")]
    assert references == []
    assert not re.search(r"https?://|url\(|@import|<script", html)
    assert page.open == []
    assert "default-src 'none'" in html


def test_no_text_of_a_document_and_no_free_answer_is_on_the_card() -> None:
    """A card is mailed around; what it may hold is numbers, ids and names."""
    world = World(application=application_of("extract"))
    answer = f'{{"total": 1, "day": "2026-01-02", "note": "{CANARY}"}}'
    world.add(
        30, answer=answer, reference=answer, text=CANARY, raw=CANARY, attributes={"origin": "web", "body": CANARY}
    )
    world.add(9, answer='{"total": 2}', reference=answer, text=CANARY, attributes={"origin": "web", "body": CANARY})
    world.add(20, answer=answer, reference=answer, text=CANARY, split="train", attributes={"origin": "mail"})
    world.documents = [{**row, "fingerprint": f"f{index}"} for index, row in enumerate(world.documents)]
    baseline = baseline_of(world.answers, world.references, application=world.application)
    report = world.report(baseline=baseline)

    html = render_card([report], title="Receipts", looks="once")

    assert CANARY not in html
    assert CANARY not in report.model_dump_json()
    assert "mail" not in Page(html).text
    assert "Mean score against what it has to beat" in html


def test_names_are_shown_and_never_run() -> None:
    """Labels, attribute values and titles come from files and tables that anybody may have written."""
    bad = "<script>alert(1)</script>\"'"
    world = World(application=application_of(labels=(bad, "SAD")))
    world.add(30, answer=bad, reference=bad, origin=bad).add(30, answer="SAD", reference="SAD", document_id=bad + "2")
    world.documents = [{**row, "document_id": f"{bad}{index}"} for index, row in enumerate(world.documents)]
    world.known = [{**row, "document_id": f"{bad}{index}"} for index, row in enumerate(world.known)]

    html = render_card([world.report(variant=bad)], title=bad, looks="once", provenance={bad: bad})

    assert "<script" not in html
    assert bad in Page(html).text


@pytest.mark.parametrize(
    "world", [World(), World().add(3, split="train"), World().add(1), World().add(5, status="invalid")]
)
def test_a_card_can_be_made_of_very_little(world: World) -> None:
    """The first run of an application is when people look, and when there is least to show."""
    if not world.documents:
        world.add(1, status=None)

    html = render_card([world.report()], title="Reviews", looks="once")

    assert Page(html).open == []
    assert "This variant may not be published." in html


def test_many_labels_become_a_list_of_mistakes() -> None:
    """A matrix of 77 by 77 is wallpaper."""
    labels = tuple(f"intent-{index:02d}" for index in range(77))
    world = World(application=application_of(labels=labels))
    for index, label in enumerate(labels):
        world.add(5, answer=label, reference=label).add(index % 3, answer=labels[0], reference=label)

    text = Page(render_card([world.report()], title="Intents", looks="once")).text

    assert "Most frequent mistakes" in text
    assert "The 24 weakest of 77 labels" in text


def test_reports_of_different_evaluations_are_marked() -> None:
    """Side by side invites comparing; where that is wrong, the card must say so."""
    first, second = World().add(20).report(), World().add(30).report(variant="later")

    assert "do not compare them" in render_card([first, second], title="Reviews", looks="once")


def test_bars_that_hold_at_every_look_are_called_so() -> None:
    """Who may look after every batch of labels has to know that this is allowed."""
    report = World().add(20).report()

    assert "bars are 0.95 intervals;" in render_card([report], title="Reviews", looks="once")
    assert "bars are 0.95 confidence sequences, which hold" in render_card([report], title="Reviews", looks="any")


def test_reports_of_several_applications_are_refused() -> None:
    """A card answers for one application."""
    reports, *_ = two_variants()
    other = reports[0].model_copy(update={"application": "receipts"})

    with pytest.raises(ContractBroken, match="one application"):
        render_card([reports[0], other], title="Reviews", looks="once")
    with pytest.raises(ContractBroken, match="got 0 reports"):
        render_card([], title="Reviews", looks="once")


def test_a_card_is_made_quickly() -> None:
    """It is part of every evaluation, and of the loop of trying a prompt."""
    reports, *_ = two_variants()
    started = time.process_time()

    render_card(reports, title="Reviews", looks="once")

    assert time.process_time() - started < 3.0


def test_importing_evaluation_loads_no_heavy_library() -> None:
    """The graph imports these modules each time it is loaded."""
    modules = "card, baseline, comparison, gates, report, scorers, statistics"
    heavy = {"matplotlib", "sklearn", "scipy", "pandas", "numpy", "jinja2"}
    code = f"import sys; from llm_platform.evaluation import {modules}; print({heavy!r} & set(sys.modules))"

    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert result.stdout.strip() == "set()"


def full_card() -> str:
    """A card with everything that may be on one."""
    reports, a, b, world = two_variants()
    picture = line_chart(
        [Line(name="tuned", points=(Point(x=50, y=0.7, lower=0.6, upper=0.8), Point(x=100, y=0.8)))],
        title="Learning curve", x_label="examples", y_label="score", minimum=0.6,
    )  # fmt: skip
    bars = bar_chart(["HAPPY", "SAD"], [(0.4, 0.5), (0.6, 0.5)], title="Labels", series=("then", "now"))
    panels = [
        Panel(title="Learning curve", note="By examples.", picture=picture),
        Panel(title="Labels then and now", picture=bars, variant="plain", wide=True),
        Panel(title="Judge", columns=("judge", "kappa"), rows=(("strict", "0.41"),), variant="scaled"),
    ]
    return render_card(
        reports,
        compare_all([(a, b)], references=world.references, rules=Rules(0.95)),
        title="Reviews",
        looks="once",
        panels=panels,
        changes=[changes(reports[0].model_copy(update={"variant": "scaled"}), reports[1])],
        pending={"tuned": "its adapter is not trained yet"},
        review_url="http://127.0.0.1:8787/",
    )


def test_every_part_is_on_a_full_card() -> None:
    """Panels, changes, gates and what is not there yet, each in its place."""
    page = Page(full_card())

    assert page.open == []
    for words in (
        "tuned Not there yet – no release to judge Its adapter is not trained yet.",
        "What changed since the last report scaled",
        "What moved: the prompt.",
        "Learning curve By examples.",
        "Labels then and now",
        "strict 0.41",
        "gate measured limit verdict accuracy 0.780, at least 0.718 at least 0.600 passed",
    ):
        assert words in page.text
    assert ("a", "href", "http://127.0.0.1:8787/reviews/queue/disagreements") in page.found


def test_pictures_say_what_they_show_and_tables_name_their_columns() -> None:
    """A screen reader gets a name for every picture and a scope for every heading."""
    page = Page(full_card())
    named = [value for tag, name, value in page.found if tag == "svg" and name == "aria-label"]
    scopes = [value for tag, name, value in page.found if tag == "th" and name == "scope"]
    pictures = re.findall(r"<svg[^>]*>", full_card())

    # A diamond is a picture inside a named one.
    assert all("aria-hidden" in tag or "aria-label" in tag or "overflow" in tag for tag in pictures)
    assert {"Learning curve", "Labels"} <= set(named)
    assert all(named)
    assert set(scopes) == {"row", "col"}
    assert "" not in [word.strip() for word in re.findall(r"<th[^>]*>([^<]*)</th>", full_card())]


def test_a_card_of_nothing_but_pending_variants_is_a_card() -> None:
    """Before the first calibration is fitted there is no release, and the run is not a failure."""
    html = render_card(
        [],
        title="Reviews",
        looks="once",
        application="reviews",
        pending={"scaled": "its calibration is not fitted yet"},
    )

    assert "No variant can be judged yet." in Page(html).text
    assert Page(html).open == []


def test_a_name_in_a_picture_is_shown_and_never_run() -> None:
    """Pictures go onto the page as they are, so they escape by themselves."""
    bad = "<script>alert(1)</script>"
    drawn = bar_chart([bad], [(0.5,)], title=bad) + line_chart(
        [Line(name=bad, points=(Point(x=1, y=1),)), Line(name="b", points=(Point(x=2, y=1),))],
        title=bad, x_label=bad, y_label=bad,
    )  # fmt: skip

    assert "<script" not in drawn
    assert "&lt;script&gt;" in drawn


def test_ink_stands_out_from_paper_in_light_and_in_dark() -> None:
    """4.5 to 1 for text, 3 to 1 for what a picture needs; WCAG 2.2, 1.4.3 and 1.4.11."""
    themes = re.findall(
        r"--paper: (#\w+); --panel: (#\w+); --ink: (#\w+); --soft: (#\w+);.*?\n?.*?--accent: (#\w+)",
        style_sheet("card.css"),
    )

    assert len(themes) >= 2
    for paper, panel, ink, soft, accent in themes[:2]:
        for ground in (paper, panel):
            assert contrast(ink, ground) >= 7.0
            assert contrast(soft, ground) >= 4.5
            assert contrast(accent, ground) >= 4.5


def test_the_card_fits_a_phone_and_a_desk_and_asks_for_nothing(tmp_path: Path) -> None:
    """In a real browser: no sideways scrolling, no request, no complaint."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("there is no Chromium on this machine: make tools")
    sync_api = pytest.importorskip("playwright.sync_api")
    card = tmp_path / "card.html"
    card.write_text(full_card(), encoding="utf-8")
    asked: list[str] = []
    said: list[str] = []
    across: dict[int, int] = {}

    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for width in (390, 1200):
            page = browser.new_page(viewport={"width": width, "height": 800})
            page.on("request", lambda request: asked.append(request.url))
            page.on("console", lambda message: said.append(message.text))
            page.goto(card.as_uri())
            across[width] = page.evaluate("document.documentElement.scrollWidth")
        browser.close()

    assert [width for width, found in across.items() if found > width] == []
    assert asked == [card.as_uri()] * 2
    assert said == []


def contrast(a: str, b: str) -> float:
    """WCAG's contrast ratio of two colours."""

    def luminance(colour: str) -> float:
        digits = colour.removeprefix("#")
        digits = digits if len(digits) == 6 else "".join(digit * 2 for digit in digits)
        channels = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(a), luminance(b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)
