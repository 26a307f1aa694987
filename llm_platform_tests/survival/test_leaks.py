"""Texts stay in the lake: a word is planted wherever one can stand, and every byte of the rest is searched for it."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from llm_platform.records import CompletionStatus
from llm_platform_tests.servers.faults import Fault, Replace, Status, error_body
from llm_platform_tests.servers.scripted import Seen
from llm_platform_tests.survival.command import Finished, Terminal
from llm_platform_tests.survival.conftest import MakeDesk
from llm_platform_tests.team import ENTRY, NAME, Team, right_answer

CANARY = "Zwetschgenknödelgeheimnis"
FORMS = (CANARY, CANARY.upper(), CANARY.lower(), json.dumps(CANARY)[1:-1], CANARY[::-1])
"""The word as it stands, in another case, as JSON spells it, and reversed."""

CHINESE = f"这位病人名叫张伟住在北京{CANARY}电话一三八"


def plant(team: Team, documents: int = 60) -> None:
    """The word in every text, in prompts, and as a whole document of one word."""
    texts = {str(number): team.text(number, note=f"{CHINESE}; {CANARY}") for number in range(documents)}
    team.write_documents(texts)
    team.write_prompt("clear", f"Say clearly whether {CANARY} is HAPPY or SAD: {{{{ text }}}}")
    team.write_prompt("vague", f"HAPPY or SAD, {CANARY}? {{{{ text }}}}")


def places_of_the_lake(team: Team) -> tuple[Path, ...]:
    """Where texts belong: the tables' files, and answers that are not in them yet. Not the catalog."""
    folder = team.settings.namespace_folder
    return folder / "data", folder / "journal"


def found_in(team: Team, *finished: Finished) -> list[str]:
    """Every place outside the lake in which one of the forms stands, by bytes; names of files included."""
    lake = places_of_the_lake(team)
    state = team.settings.state
    files = [path for path in state.rglob("*") if not any(path == one or one in path.parents for one in lake)]
    hits = [str(path) for path in files if any(form in str(path) for form in FORMS)]
    hits += [str(path) for path in files if path.is_file() and holds(path.read_bytes())]
    hits += [f"output of command {number}" for number, one in enumerate(finished) if holds(one.said.encode())]
    return hits


def holds(content: bytes) -> bool:
    forms = (form.encode(code) for form in FORMS for code in ("utf-8", "utf-16-le"))
    return any(form in content for form in forms)


def commands(terminal: Terminal) -> list[Finished]:
    """What an operator looks at, none of it asking for texts."""
    return [terminal.run("run", NAME), terminal.run("explain", NAME, "3")]


def echo(body: Any, number: int) -> str:
    said = body.get("prompt") or " ".join(str(message["content"]) for message in body["messages"])
    forms = [said, said.upper(), "; ".join(said.split()), CANARY, CANARY[::-1], json.dumps({"input": said})]
    return forms[number % len(forms)]


def test_what_an_endpoint_echoes_stays_in_the_lake(desk: MakeDesk) -> None:
    """A refusal may repeat the document in any form; it is stored for those who may read texts, and shown to no one."""

    def refuse_some(seen: Seen) -> Fault | None:
        number = int(seen.document_id or 0)
        return Status(400, echo(seen.body, number), param=CANARY) if 3 <= number < 9 else None

    terminal, _ = desk(script=refuse_some)
    plant(terminal.team)
    gates = terminal.team.specification["evaluation"]["gates"]
    gates["accuracy"]["minimum"], gates["valid_rate"]["minimum"] = 0.6, 0.5
    terminal.team.write_specification()

    finished = commands(terminal)

    assert finished[0].status == 0, finished[0].said
    assert found_in(terminal.team, *finished) == []
    shown = terminal.run("explain", NAME, "3", "--texts")
    assert any(form in shown.said for form in FORMS)
    with terminal.team.warehouse.open(read_only=True) as lake:
        rows = lake.application(NAME).published.table(1).to_pylist()
    assert Counter(row["status"] for row in rows) == {CompletionStatus.VALID: 54, CompletionStatus.REJECTED: 6}
    assert not holds(json.dumps([row["reason"] for row in rows], ensure_ascii=False).encode())


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Status(404, f"model {CANARY} does not exist"), id="model"),
        pytest.param(Status(302, headers={"Location": f"http://{CANARY[:8]}.test/{CANARY[-9:]}"}), id="redirect"),
        pytest.param(Status(500, CANARY), id="outage"),
        pytest.param(Replace(error_body(200, CANARY)), id="error-as-answer"),
    ],
)
def test_what_ends_a_run_is_told_without_the_endpoints_words(desk: MakeDesk, fault: Fault) -> None:
    """The error of a run is in its log, in both of Dagster's databases, in alerts and on the terminal."""
    terminal, _ = desk(script=lambda _: fault, variables={"LLM_PLATFORM_OUTAGE_SECONDS": "1"})
    plant(terminal.team)

    finished = commands(terminal)

    assert finished[0].failed_plainly, finished[0].said
    assert "completions" in finished[0].err
    assert found_in(terminal.team, *finished) == []


@pytest.mark.slow
def test_answers_that_break_the_rules_are_not_quoted(desk: MakeDesk) -> None:
    """A model may repeat the document instead of a label; what it said is in the lake, a reason is in words of ours."""
    terminal, _ = desk(answer=lambda seen: f"{CANARY} {right_answer(int(seen.document_id))}", finish_reason=CANARY)
    plant(terminal.team)

    finished = commands(terminal)

    assert found_in(terminal.team, *finished) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "code",
    [
        pytest.param("def own(answer, reference):\n    raise ValueError(f'{answer} CANARY')\n", id="scorer"),
        pytest.param("def own(answer, reference):\n    return None, 'CANARY'\n", id="reason"),
        pytest.param("def own(answer, reference):\n    raise SystemExit(f'{answer} CANARY')\n", id="exit"),
        pytest.param(
            "class Own(BaseException):\n    pass\n\n\ndef own(answer, reference):\n    raise Own(f'{answer} CANARY')\n",
            id="no-exception",
        ),
        pytest.param(
            "def own(answer, reference):\n    try:\n        int('CANARY')\n"
            "    except ValueError as error:\n        raise KeyError('CANARY') from error\n",
            id="chain",
        ),
    ],
)
def test_a_teams_own_scorer_may_say_what_it_likes(desk: MakeDesk, code: str) -> None:
    """Its message may quote the row; an exception's cause is stored with it."""
    terminal, _ = desk()
    team = terminal.team
    plant(team)
    (team.folder / "grading.py").write_text(code.replace("CANARY", CANARY), encoding="utf-8")
    team.specification["evaluation"]["scorers"] = ["grading:own"]
    team.write_specification()

    finished = commands(terminal)

    assert found_in(team, *finished) == []


@pytest.mark.slow
def test_notes_of_reviewers_are_in_the_lake_only(desk: MakeDesk) -> None:
    """They quote documents; a file of them that has mistakes is told by lines and columns."""
    terminal, _ = desk()
    team = terminal.team
    plant(team)
    notes = team.root / "notes.jsonl"
    notes.write_text(json.dumps({"document_id": "3", "note": CANARY}, ensure_ascii=False), encoding="utf-8")
    wrong = team.root / "wrong.jsonl"
    wrong.write_text(json.dumps({"document_id": "3", "answer": CANARY, "at": CANARY}), encoding="utf-8")

    first = terminal.run("run", NAME)
    finished = [terminal.run("review", "import", NAME, str(path)) for path in (notes, wrong)]
    second = terminal.run("run", NAME)

    assert [one.status for one in (first, *finished, second)] == [0, 0, 1, 0], finished[0].said
    assert found_in(team, first, *finished, second) == []


def test_a_value_of_the_wrong_type_in_a_source_is_not_quoted(desk: MakeDesk) -> None:
    """A database says which value it could not read, and the value may be a text."""
    terminal, _ = desk()
    team = terminal.team
    plant(team)
    source = team.root / "source.sqlite"
    with closing(sqlite3.connect(source)) as connection, connection:
        connection.execute("CREATE TABLE tickets (ticket TEXT, body INTEGER, team TEXT)")
        connection.execute("INSERT INTO tickets VALUES ('1', ?, 'red')", [f"{CANARY} secret"])
    terminal.variables["LLM_PLATFORM_WAREHOUSES"] = json.dumps({"shop": f"sqlite:{source}"})
    team.specification["source"] = {
        "warehouse": "shop",
        "table": "tickets",
        "key": "ticket",
        "text": "body",
        "attributes": ["team"],
    }
    team.write_specification()

    finished = commands(terminal)

    assert finished[0].failed_plainly
    assert "type of its column" in finished[0].err
    assert found_in(team, *finished) == []


def test_known_answers_that_are_not_possible_are_counted_and_not_quoted_before_anything_is_sent(desk: MakeDesk) -> None:
    """A column of remarks that was taken for the labels: 200,000 documents had been paid for when that turned out."""
    terminal, model = desk()
    plant(terminal.team)
    terminal.team.write_references({str(number): f"{CANARY} {number}" for number in range(60)})

    finished = commands(terminal)

    assert finished[0].failed_plainly
    assert "60 of 60 references of tickets are not possible answers" in finished[0].err
    assert model.counts.requests == 0
    assert found_in(terminal.team, *finished) == []


def test_an_error_that_nobody_foresaw_is_told_by_its_class_and_place(desk: MakeDesk) -> None:
    """Its message and its causes may hold anything: the trace of a library ends with the values it was given."""
    terminal, _ = desk()
    team = terminal.team
    plant(team)
    (team.folder / "grading.py").write_text(
        "class Odd(float):\n"
        f"    def __float__(self):\n        raise RuntimeError({CANARY!r})\n"
        "def own(answer, reference):\n    return Odd(0.5)\n",
        encoding="utf-8",
    )
    team.specification["evaluation"]["scorers"] = ["grading:own"]
    team.write_specification()

    finished = commands(terminal)

    assert finished[0].failed_plainly
    assert "RuntimeError at" in finished[0].err
    assert found_in(team, *finished) == []


@pytest.mark.slow
def test_the_pinned_model_is_named(desk: MakeDesk) -> None:
    """The search finds what it is to find: what is not secret is in the places that are searched."""
    terminal, _ = desk()
    terminal.run("run", NAME)

    state = terminal.team.settings.state

    assert any(ENTRY.encode() in path.read_bytes() for path in state.rglob("*.db") if path.is_file())


KEY = "sk-planted-0123456789abcdef"


@pytest.mark.parametrize(
    ("key", "fits"), [(f"{KEY}\n", True), (f"{KEY}\nsecond-{KEY}", False), (f"{KEY}\u00e4", False)]
)
@pytest.mark.slow
def test_an_api_key_is_shown_and_stored_nowhere(desk: MakeDesk, key: str, *, fits: bool) -> None:
    """Every second secret of Kubernetes ends in a new line, and a traceback of an HTTP library prints headers."""
    terminal, model = desk(keep_bodies=True, variables={"LLM_PLATFORM_NIM_API_KEY": key})
    team = terminal.team

    finished = terminal.run("run", NAME)

    assert (finished.status == 0) is fits, finished.said
    if fits:
        assert {headers.get("authorization") for headers in model.headers} == {f"Bearer {KEY}"}
    else:
        assert "LLM_PLATFORM_NIM_API_KEY" in finished.err
    assert KEY not in finished.said
    assert [str(path) for path in team.root.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()] == []


@pytest.mark.parametrize(
    "address", ["http://user:{}@127.0.0.1:9/v1", "http://{}@127.0.0.1:9", "http://h/v1?api_key={}"]
)
def test_a_secret_in_an_address_is_refused_and_not_shown(desk: MakeDesk, address: str) -> None:
    """Addresses of endpoints are in three tables, in the UI and in messages."""
    terminal, _ = desk()
    team = terminal.team
    team.lock["base_urls"] = [address.format(KEY)]
    team.write_lock()

    finished = terminal.run("run", NAME)

    assert finished.failed_plainly, finished.said
    assert "LLM_PLATFORM_NIM_API_KEY" in finished.err
    assert KEY not in finished.said
    state = team.settings.state
    assert [str(path) for path in state.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()] == []
