"""`docs/privacy.md` says where text lies, and it is true.

Canaries are planted in everything that people write, everything is run, with failures, and every byte of every file is
searched for them, and the arguments of every process.
"""

from __future__ import annotations

import csv
import json
import re
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from itertools import islice
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from llm_platform.redaction.kinds import INSTALL, installed
from llm_platform.settings.settings import CHECKOUT
from llm_platform.warehouse.lake import LakeLocation
from llm_platform_tests.operations.privacy.test_forgetting import pages_of, versions_in
from llm_platform_tests.servers.buckets import bucket_named
from llm_platform_tests.servers.faults import Fault, Replace, Status, error_body
from llm_platform_tests.servers.scripted import Seen
from llm_platform_tests.survival.conftest import MakeDesk
from llm_platform_tests.team import NAME, Team, right_answer

PAGE = CHECKOUT / "docs" / "privacy.md"
ROW = re.compile(r"^\| `(?P<place>[^`]+)` \| (?P<holds>[^|]*) \|", re.MULTILINE)


class Canaries:
    """32 random bytes as text, one of each kind of thing that people write."""

    kinds = ("document", "reference", "prompt", "example", "note", "key", "answer")

    def __init__(self) -> None:
        self.words = {kind: f"c{secrets.token_hex(32)}" for kind in self.kinds}

    def __getitem__(self, kind: str) -> str:
        return self.words[kind]

    def in_bytes(self, content: bytes) -> set[str]:
        """Kinds whose canary, or a half of it, stands in some bytes in any of the usual spellings."""
        found = set()
        for kind, word in self.words.items():
            halves = (word[:33], word[32:])
            spelt = {form for half in halves for form in (half, half.upper(), half[::-1])}
            if any(form.encode(code) in content for form in spelt for code in ("utf-8", "utf-16-le")):
                found.add(kind)
        return found


def places() -> dict[str, set[str]]:
    """Pattern of a path below a state folder → kinds of text that the page says lie there."""
    found = {match["place"]: match["holds"] for match in ROW.finditer(PAGE.read_text(encoding="utf-8"))}
    return {place: {kind for kind in Canaries.kinds if kind in holds} for place, holds in found.items()}


def allowed(path: Path, state: Path) -> set[str]:
    """Kinds that may lie in a file."""
    inside = path.relative_to(state).as_posix()
    return {kind for place, kinds in places().items() if fnmatch(inside, place) for kind in kinds}


def plant(team: Team, canary: Canaries) -> None:
    """A canary in everything that somebody writes."""
    texts = {str(number): team.text(number, note=canary["document"]) for number in range(60)}
    team.write_documents(texts)
    with (team.root / "known.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["ticket", "mood", "remark"])
        writer.writerows([str(number), right_answer(number), canary["reference"]] for number in range(60))
    team.write_prompt("clear", f"{canary['prompt']} Say clearly whether this is HAPPY or SAD: {{{{ text }}}}")
    front = (
        "---\napi: chat\nanswers: {HAPPY: HAPPY, SAD: SAD}\nexamples: {pool: shown.jsonl, count: 1}\n---\n# user\n\n"
    )
    shown = (
        "{% for example in examples %}{{ example.text }}: {{ example.answer }}\n{% endfor %}HAPPY or SAD? {{ text }}\n"
    )
    (team.folder / "prompts" / "vague.md").write_text(front + shown, encoding="utf-8")
    (team.folder / "shown.jsonl").write_text(
        json.dumps({"text": canary["example"], "answer": "SAD"}) + "\n", encoding="utf-8"
    )
    (team.folder / "grading.py").write_text(
        "def own(answer, reference):\n    if answer == 'SAD':\n"
        "        raise ValueError(f'cannot grade {answer} against {reference}: " + canary["answer"] + "')\n"
        "    return 1.0\n",
        encoding="utf-8",
    )


@contextmanager
def process_list(canary: Canaries) -> Iterator[set[str]]:
    """Kinds that stood in the arguments of any process meanwhile."""
    seen: set[str] = set()
    ended = threading.Event()

    def look() -> None:
        known: dict[str, bytes] = {}
        while not ended.wait(0.5):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    said = path.read_bytes()
                except OSError:
                    continue
                if known.get(str(path)) != said:
                    known[str(path)] = said
                    seen.update(canary.in_bytes(said))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()


def content(path: Path) -> bytes:
    """Every byte of a file, and what a Parquet file has packed so that its bytes do not show it."""
    raw = path.read_bytes()
    return raw + repr(pq.read_table(path).to_pydict()).encode() if path.suffix == ".parquet" else raw


def misplaced(team: Team, canary: Canaries, temporary: Path) -> dict[str, set[str]]:
    """File → kinds that are in it or in its name, and that the page does not place there."""
    state = team.settings.state
    found: dict[str, set[str]] = {}
    for path in (*state.rglob("*"), *temporary.rglob("*")):
        named = canary.in_bytes(str(path.name).encode())
        held = canary.in_bytes(content(path)) if path.is_file() else set()
        stray = named | (held - allowed(path, state) if path.is_relative_to(state) else held)
        if stray:
            found[str(path)] = stray
    return found


@pytest.mark.slow
@pytest.mark.parametrize("failing", ["nothing", "refusals", "answers", "outage", "scorer"])
def test_text_lies_where_the_page_says_and_nowhere_else(desk: MakeDesk, tmp_path: Path, failing: str) -> None:
    """Whoever has to say where a person's words are reads one table; a place that it does not name cannot be erased."""
    canary = Canaries()
    temporary = tmp_path / "temporary"
    temporary.mkdir()

    def script(seen: Seen) -> Fault | None:
        said = json.dumps(seen.body) + canary["answer"]
        if failing == "refusals" and int(seen.document_id or 0) % 13 == 0:
            return Status(400, said, param=said)
        if failing == "outage" and seen.number > 20:
            return Status(503, said)
        if failing == "answers" and int(seen.document_id or 0) % 7 == 0:
            return Replace(error_body(200, said)[:-3])
        return None

    def answer(seen: Seen) -> str:
        right = right_answer(int(seen.document_id)) if "clearly" in json.dumps(seen.body) else "SAD"
        return f"{canary['answer']} {right}" if failing == "answers" else right

    variables = {
        "LLM_PLATFORM_NIM_API_KEY": canary["key"],
        "LLM_PLATFORM_OUTAGE_SECONDS": "1",
        "TMPDIR": str(temporary),
    }
    terminal, _ = desk(script=script, answer=answer, variables=variables)
    team = terminal.team
    plant(team, canary)
    if failing == "scorer":
        team.specification["evaluation"]["scorers"] = ["grading:own"]
        team.write_specification()
    notes = team.root / "notes.jsonl"
    notes.write_text(json.dumps({"document_id": "3", "note": canary["note"]}) + "\n", encoding="utf-8")
    wrong = team.root / "wrong.csv"
    wrong.write_text(f"document_id,answer\n3,{canary['note']}\n", encoding="utf-8")

    with process_list(canary) as seen:
        finished = [
            terminal.run("run", NAME),
            terminal.run("review", "import", NAME, str(notes)),
            terminal.run("review", "import", NAME, str(wrong)),
            terminal.run("run", NAME),
            terminal.run("failures", NAME),
            terminal.run("explain", NAME, "3"),
            terminal.run("plan", NAME),
            terminal.run("compare", "clear", "vague"),
            terminal.run("lake", "attach"),
        ]

    assert finished[0].status == 0 or failing != "nothing", finished[0].said
    assert misplaced(team, canary, temporary) == {}
    assert seen == set()
    said = set().union(*(canary.in_bytes(one.said.encode()) for one in finished))
    assert said <= {"prompt", "example"}, "what somebody asks to see; 'compare' shows in what prompts differ"
    held = {
        kind for path in team.settings.state.rglob("*") if path.is_file() for kind in canary.in_bytes(content(path))
    }
    assert {"document", "prompt", "note"} <= held, "the search finds what it is to find"


@pytest.mark.slow
@pytest.mark.skipif(installed() is None, reason=f"Presidio is not installed: {INSTALL}")
def test_what_is_taken_out_of_documents_is_not_sent_and_lies_nowhere(desk: MakeDesk, tmp_path: Path) -> None:
    """The rule holds for all that is made of documents: answers, trials, examples, pages, failures."""
    canary = Canaries()
    sent: set[str] = set()

    def answer(seen: Seen) -> str:
        sent.update(canary.in_bytes(json.dumps(seen.body).encode()))
        return right_answer(int(seen.document_id)) if "clearly" in json.dumps(seen.body) else "SAD"

    terminal, _ = desk(answer=answer, variables={"TMPDIR": str(tmp_path)})
    team = terminal.team
    plant(team, canary)
    address = {kind: f"{canary[kind]}@intern.example" for kind in ("document", "example")}
    team.write_documents({str(number): team.text(number, note=address["document"]) for number in range(60)})
    shown = {"text": f"from {address['example']}", "answer": "SAD"}
    (team.folder / "shown.jsonl").write_text(json.dumps(shown) + "\n", encoding="utf-8")
    team.specification["redaction"] = {"kinds": ["EMAIL_ADDRESS"]}
    team.write_specification()
    (team.folder / "prompts" / "trial.md").write_text(
        (team.folder / "prompts" / "vague.md").read_text(encoding="utf-8"), encoding="utf-8"
    )

    finished = [
        terminal.run("run", NAME),
        terminal.run("try", NAME, "--prompt", str(team.folder / "prompts" / "trial.md"), "--texts"),
        terminal.run("prompt", "freeze", NAME, "vague"),
        terminal.run("review", "export", NAME, str(tmp_path / "export")),
        terminal.run("explain", NAME, "3", "--texts"),
        terminal.run("failures", NAME),
    ]

    assert finished[0].status == 0, finished[0].said
    assert finished[1].status == 0, finished[1].said
    assert sent == {"prompt"}, "the prompt's own words, and nothing of documents or of examples"
    said = set().union(*(canary.in_bytes(one.said.encode()) for one in finished))
    held = {kind for path in tmp_path.rglob("*") if path.is_file() for kind in stray(path, team, canary)}
    assert not {"document", "example"} & (said | held - {"example"})


@pytest.mark.slow
def test_with_encryption_neither_a_bucket_nor_its_database_shows_anything(
    desk: MakeDesk, tmp_path: Path, postgres_dsn: str
) -> None:
    """Whoever runs the object store or reads pages of the database is a reader of nothing."""
    canary, namespace = Canaries(), f"encrypted_{secrets.token_hex(4)}"
    with bucket_named("lake", versioned=True) as (access, client):
        variables = {
            "LLM_PLATFORM_NAMESPACE": namespace,
            "LLM_PLATFORM_CATALOG": f"postgres:{postgres_dsn}",
            "LLM_PLATFORM_DATA_ROOT": "s3://lake/data",
            "LLM_PLATFORM_S3_KEY_ID": "key",
            "LLM_PLATFORM_S3_SECRET": "s3cret",
            "LLM_PLATFORM_S3_ENDPOINT": access.endpoint,
            "LLM_PLATFORM_S3_URL_STYLE": "path",
            "LLM_PLATFORM_S3_USE_SSL": "false",
            "LLM_PLATFORM_ENCRYPTED": "true",
            "LLM_PLATFORM_ENCRYPTED_DISK": "true",
        }
        terminal, _ = desk(variables=variables)
        plant(terminal.team, canary)

        # An object store and a database are slow on a machine that is busy; what is cut off goes on.
        ends = iter(lambda: terminal.run("run", NAME).status, 0)
        assert len(list(islice(ends, 5))) < 5
        kept = list(versions_in(client, "lake"))
        assert len(kept) > 10
        assert not [content for content in kept if content[:4] == b"PAR1" or canary.in_bytes(content)]
        where = LakeLocation(f"postgres:{postgres_dsn}", "s3://lake/data", namespace)
        pages = list(pages_of(where))
        assert any(name.endswith("ducklake_data_file") for name, _ in pages)
        assert not [name for name, content in pages if canary.in_bytes(content)]


def stray(path: Path, team: Team, canary: Canaries) -> set[str]:
    """Kinds in a file that is not the team's own."""
    own = path.is_relative_to(team.folder) or path.parent == team.root
    return set() if own else canary.in_bytes(content(path))


def test_the_page_names_every_file_that_a_namespace_keeps() -> None:
    """A place that `state reset` deletes and the page does not name is one that nobody has thought of."""
    from llm_platform.cli.state import NAMESPACE

    named = {place for place in places() if place.startswith("namespaces/*/")}
    below = {place.removeprefix("namespaces/*/").split("/")[0] for place in named}

    assert {one.rstrip("*") for one in NAMESPACE} <= {one.rstrip("*") for one in below}
