"""`llm-platform forget` on the state of a team that has run, and what the next runs make of it."""

from __future__ import annotations

import pytest

from llm_platform_tests.survival.conftest import MakeDesk
from llm_platform_tests.survival.test_where_text_lies import Canaries, content
from llm_platform_tests.team import NAME, Team

KEY = "17"


def plant(team: Team, word: str) -> None:
    texts = {str(number): team.text(number, note=word if str(number) == KEY else "") for number in range(60)}
    team.write_documents(texts)


def hits(team: Team, canary: Canaries) -> list[str]:
    files = [path for path in team.settings.state.rglob("*") if path.is_file()]
    return [str(path) for path in files if canary.in_bytes(content(path))]


@pytest.mark.slow
def test_a_forgotten_document_is_in_no_file_of_the_state_and_no_later_run_brings_it_back(desk: MakeDesk) -> None:
    """The whole of it, as an officer does it at a terminal, while the source still has the document."""
    canary = Canaries()
    terminal, model = desk()
    team = terminal.team
    plant(team, canary["document"])
    first = terminal.run("run", NAME)
    assert first.status == 0, first.said
    assert hits(team, canary)

    looked = terminal.run("forget", NAME, KEY, "--dry-run")
    assert looked.status == 0, looked.said
    assert hits(team, canary)
    forgotten = terminal.run("forget", NAME, KEY, "--yes", "--reason", "asked by letter")
    assert forgotten.status == 0, forgotten.said
    assert hits(team, canary) == []

    asked = model.counts.asked[KEY]
    again = terminal.run("run", NAME)

    assert again.status == 0, again.said
    assert model.counts.asked[KEY] == asked
    assert hits(team, canary) == []
    with team.warehouse.open(read_only=True) as lake:
        assert lake.application(NAME).published.table(1).num_rows == 59
    certificate = next((team.settings.namespace_folder / "certificates").glob("*.dsse.json"))
    key = next((team.settings.namespace_folder / "certificates").glob("*.pub.pem"))
    verified = terminal.run("certificate", "verify", str(certificate), "--key", str(key))
    assert verified.status == 0, verified.said
    certificate.write_text(certificate.read_text(encoding="utf-8").replace('"sig": "', '"sig": "A'), encoding="utf-8")
    assert terminal.run("certificate", "verify", str(certificate), "--key", str(key)).failed_plainly


@pytest.mark.slow
def test_a_document_that_leaves_the_source_is_forgotten_where_the_application_says_so(desk: MakeDesk) -> None:
    """Nobody has to remember whose text was in which table."""
    canary = Canaries()
    terminal, _ = desk()
    team = terminal.team
    plant(team, canary["document"])
    team.specification["retention"] = {"deleted": "forget"}
    team.write_specification()
    first = terminal.run("run", NAME)
    assert first.status == 0, first.said
    team.write_documents({str(number): team.text(number) for number in range(60) if str(number) != KEY})

    second = terminal.run("run", NAME)

    assert second.status == 0, second.said
    assert hits(team, canary) == []
    assert len(list((team.settings.namespace_folder / "certificates").glob("*.dsse.json"))) == 1
