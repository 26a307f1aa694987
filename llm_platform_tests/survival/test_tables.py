"""Tables that are broken between two runs, by those who write them."""

from __future__ import annotations

import pytest

from llm_platform_tests.survival.conftest import MakeDesk
from llm_platform_tests.survival.ledger import ledger
from llm_platform_tests.team import NAME


@pytest.mark.slow
def test_a_quote_that_is_not_closed_changes_nothing_that_is_published(desk: MakeDesk) -> None:
    """It made one text of the rest of the file: 40 published rows became 11, and the run had succeeded."""
    terminal, _ = desk(40)
    assert terminal.run("run", NAME).status == 0
    path = terminal.team.root / "tickets.csv"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    lines[11] = '10,"screen went dark,red\n'
    path.write_text("".join(lines), encoding="utf-8")

    finished = terminal.run("run", NAME)

    assert finished.failed_plainly
    assert "lines 12 to 41" in finished.err
    assert len(ledger(terminal.team).published) == 40


@pytest.mark.slow
def test_a_truncated_source_is_published_only_once_somebody_has_confirmed_it(desk: MakeDesk) -> None:
    """A header without rows emptied the published table, and then the account of the run crashed."""
    terminal, model = desk(40)
    assert terminal.run("run", NAME).status == 0
    terminal.team.write_documents({})
    sent = model.counts.requests

    held = terminal.run("run", NAME)
    published = len(ledger(terminal.team).published)
    accepted = terminal.run("run", NAME, "--accept-drop")
    emptied = len(ledger(terminal.team).published)
    terminal.team.write_documents({f"{number}": terminal.team.text(number) for number in range(40)})
    back = terminal.run("run", NAME)

    assert held.failed_plainly
    assert "0 rows are left of 40 documents" in held.err
    assert (published, emptied, len(ledger(terminal.team).published)) == (40, 0, 40)
    assert (accepted.status, back.status) == (0, 0)
    assert "Documents   0" in accepted.out
    assert "clear       approved" in back.out
    assert model.counts.requests == sent
