"""Documents that nobody would have written on purpose."""

from __future__ import annotations

import csv
import io

import pytest

from llm_platform_tests.survival.conftest import MakeDesk
from llm_platform_tests.survival.ledger import ledger
from llm_platform_tests.team import NAME, Team

TEN_MEGABYTES = 10_000_000
UNSENT = {"2": "oversized", "3": "empty", "4": "empty", "5": "undecodable"}
TEMPLATE = "DOC#6# {{ 7*7 }} {% for x in range(9) %}{{ text }}{% endfor %} {# gone #}"


def write_hostile_documents(team: Team, documents: int) -> None:
    texts: dict[str, str] = {str(number): team.text(number) for number in range(documents)}
    texts["2"] = "x" * TEN_MEGABYTES
    texts["3"] = ""
    texts["4"] = "\x00\x01\x02\x07\x1b \x7f"
    texts["5"] = "DOC#5# caf\udce9 \udcff\udcfe"
    texts["6"] = TEMPLATE
    texts["7"] = "DOC#7# bell \x07, escape \x1b[31m, null \x00, done"
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["ticket", "body", "team"])
    writer.writerows([key, body, "red"] for key, body in texts.items())
    (team.root / "tickets.csv").write_bytes(text.getvalue().encode("utf-8", "surrogateescape"))


@pytest.mark.slow
def test_hostile_documents_are_kept_with_a_reason_or_sent_as_they_are(desk: MakeDesk) -> None:
    """Ten megabytes, nothing, control characters, bytes that are no text, a template: none stops the others."""
    terminal, model = desk(60, keep_bodies=True)
    write_hostile_documents(terminal.team, 60)

    finished = terminal.run("run", NAME)

    found = ledger(terminal.team)
    assert finished.status == 0, finished.said
    assert set(found.published) == {str(number) for number in range(60)}
    assert {key: found.published[key]["status"] for key in UNSENT} == UNSENT
    assert all(found.published[key]["answer"] is None and found.published[key]["reason"] for key in UNSENT)
    assert not set(UNSENT) & (set(model.counts.asked) | found.stored["clear"])
    assert found.published["6"]["status"] == found.published["7"]["status"] == "valid"
    # A template in a document is text: it is not filled in, and names nothing.
    asked = [body.decode() for body in model.bodies if b"DOC#6#" in body]
    assert len(asked) == 2
    assert all(TEMPLATE in body for body in asked)
    assert all(len(body) < 100_000 for body in model.bodies)
