"""Documents that do not fit the model's context: cut, or asked about in parts. The scripted model's token is a word."""

from __future__ import annotations

import csv
import json
import signal
import threading
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llm_platform.errors import PermanentError, SpecificationError
from llm_platform.inference.engine import EndpointTarget, EnginePolicy
from llm_platform.inference.parts import parts_release, together_release
from llm_platform.operations.answering import sharing
from llm_platform.operations.answering.completions import Answered, answer
from llm_platform.operations.answering.documents import read_references, update_documents
from llm_platform.operations.answering.sending import Asking
from llm_platform.operations.answering.spending import estimates
from llm_platform.operations.evidence.comparing import differences
from llm_platform.operations.evidence.long_document_panels import long_document_panels
from llm_platform.operations.release.explain import explain_document
from llm_platform.records import Completion, Release, TokenUsage
from llm_platform.settings.connection import Connection
from llm_platform.warehouse.completions import completion_rows
from llm_platform_tests.inference.cases import QUICK
from llm_platform_tests.servers.faults import Fault, NeverAnswer, Status
from llm_platform_tests.servers.scripted import ScriptedServer, Seen, no_fault
from llm_platform_tests.survival.command import Terminal
from llm_platform_tests.team import NAME, Team

SHORT = 4
LONG = {"long": 9_000, "longer": 14_000}
"""Document → words; 4,088 tokens fit beside the answer."""


def long_text(name: str, words: int) -> str:
    """Sentences of four words, each with its own mark: the endpoint knows a part by its first one."""
    return " ".join(f"DOC#{name}-{number}# printer on fire." for number in range(words // 4))


def said(seen: Seen) -> str:
    """The content of the last message."""
    return str(seen.body["messages"][-1]["content"])


class LongTeam(Team):
    """Four short tickets and two long ones, one variant."""

    def __init__(self, root: Path, url: str, policy: Any, *, texts: Mapping[str, int] = LONG, **more: Any) -> None:
        super().__init__(root, url, documents=SHORT)
        documents = {f"{number}": self.text(number) for number in range(SHORT)}
        self.write_documents(documents | {name: long_text(name, words) for name, words in texts.items()})
        self.specification["variants"].pop("vague")
        (self.folder / "prompts" / "vague.md").unlink()
        self.specification["documents"] = {"max_characters": 1_000_000}
        self.specification["evaluation"]["gates"] = {"valid_rate": {"minimum": 0.1, "reason": "tests publish anything"}}
        self.specification |= {"long_documents": policy, **more}
        self.write_specification()

    @property
    def release(self) -> Release:
        with self.warehouse.open() as lake:
            release = self.loaded.requesting("clear", lake.application(NAME))
        assert release is not None
        return release

    def rows(self, release: Release | None = None) -> dict[str, Completion]:
        """Stored answers of a release; of its documents by id, of its parts by fingerprint."""
        asked = release or self.release
        with self.warehouse.open() as lake:
            found = list(completion_rows(lake.application(NAME).completions.of_release(asked.release_id)))
        return {row.document_id if release is None else row.fingerprint: row for row in found}

    def usage(self) -> TokenUsage:
        with self.warehouse.open() as lake:
            return lake.application(NAME).completions.usage(self.release.release_id)


def answered(team: LongTeam, *, policy: EnginePolicy = QUICK) -> Answered:
    """Documents and answers brought up to date, by the operations that the assets call."""
    loaded = team.loaded
    with team.warehouse.open() as lake:
        update_documents(lake, loaded)
        store = lake.application(NAME)
        if loaded.application.references is not None:
            store.references.replace(read_references(lake, loaded.application))
        release = loaded.requesting("clear", store)
        assert release is not None
        return answer(
            store,
            release,
            application=loaded.application,
            calibrate=loaded.application.variants["clear"].calibrate,
            asking=Asking(
                endpoints=lambda: [EndpointTarget(team.url)],
                policy=policy,
                connection=Connection(),
                run_id=uuid.uuid4().hex,
                git_commit="",
                journal=team.settings.namespace_folder / "journal",
            ),
        )


def sent(found: Answered) -> int:
    return found.run.sent if found.run else 0


def words_of(body: bytes) -> int:
    return len(str(json.loads(body)["messages"]).split())


def test_a_cut_is_sent_once_and_said_to_everybody(tmp_path: Path) -> None:
    """Who reads the published table must not take an answer about half a document for one about all of it."""
    with ScriptedServer(answer=lambda _: "HAPPY", keep_bodies=True) as server:
        team = LongTeam(tmp_path, server.url, "truncate")
        answered(team)
        bodies = [body for body in server.bodies if b"max_tokens" in body]

    rows, sent = team.rows(), max(map(words_of, bodies))
    assert server.counts.requests == SHORT + len(LONG)
    assert {key: row.cut_tokens for key, row in rows.items() if row.cut_tokens is None} == dict.fromkeys("0123")
    assert 0.9 * 4_016 < sent <= 4_016  # what has to be corrected must fit, too
    assert rows["long"].status == "valid"
    assert rows["long"].cut_tokens is not None
    assert 9_000 - rows["long"].cut_tokens <= sent
    assert rows["long"].reason == (
        f"the last {rows['long'].cut_tokens:,} tokens of the document do not fit the model's context and were cut off"
    )
    with team.warehouse.open() as lake:
        store = lake.application(NAME)
        store.published.publish(team.release.release_id, contract=1)
        published = {row["document_id"]: row["reason"] for row in store.published.table(1).to_pylist()}
        (panel,) = long_document_panels(store, team.loaded)
    assert published["long"] == rows["long"].reason
    assert published["0"] is None
    assert panel.rows[0][:2] == ("clear", "2")
    # The whole prompt, the prompt alone, and one or two places to cut, for each; and one to see that it can count.
    assert server.counts.tokenized <= 4 * len(LONG) + 1


def test_every_part_is_asked_once_and_the_rest_is_derived(tmp_path: Path) -> None:
    """Nobody should pay a second time because the rule by which parts are put together has changed."""
    with ScriptedServer(answer=lambda seen: "SAD" if "DOC#long-0#" in said(seen) else "HAPPY") as server:
        team = LongTeam(tmp_path, server.url, "split")
        first = answered(team)
        asked = server.counts.asked.copy()
        again = answered(team)
        by_majority, usage = team.rows(), team.usage()

        team.specification["long_documents"] = {"policy": "split", "priority": ["SAD", "HAPPY"]}
        team.write_specification()
        other_rule = answered(team)
        by_priority, asked_again = team.rows(), server.counts.asked - asked

        team.specification["long_documents"] = {"policy": "split", "overlap_tokens": 0}
        team.write_specification()
        answered(team)
        overlapping, counts = team.rows(), server.counts

    parts = {name: by_majority[name].parts for name in LONG}
    assert parts == {"long": 3, "longer": 4}
    assert set(asked.values()) == {1}
    assert (sent(first), sent(again)) == (SHORT + 7, 0)
    assert [by_majority[name].answer for name in LONG] == ["HAPPY", "HAPPY"]
    assert (by_majority["long"].prompt_tokens, usage.prompt_tokens) == (3 * 40, (SHORT + 7) * 40)
    # Another rule asks no part again, and about short ones it asks the same.
    assert (asked_again.total(), other_rule.derived) == (0, SHORT)
    assert by_priority["0"].reused
    assert by_priority["long"].answer == "SAD"
    assert by_priority["long"].reused
    # Other cuts are other parts.
    assert overlapping["long"].release_id != by_majority["long"].release_id
    assert counts.requests == SHORT + 7 + 7


def test_a_budget_counts_parts_and_leaves_documents_missing(tmp_path: Path) -> None:
    """Most of what long documents cost is their parts; a limit that forgets them is none."""
    with ScriptedServer(answer=lambda _: "HAPPY") as server:
        team = LongTeam(tmp_path, server.url, "split")
        stopped = answered(team, policy=replace(QUICK, budget_tokens=SHORT * 45 + 20))
        left, asked = team.rows(), server.counts.requests
        answered(team)

    assert asked == sent(stopped) == len(left) == SHORT
    assert server.counts.requests == SHORT + 7
    assert len(team.rows()) == SHORT + len(LONG)


def test_too_many_documents_without_an_answer_end_the_run(tmp_path: Path) -> None:
    """One failing part in four is every document failing."""

    def refuse(seen: Seen) -> Fault | None:
        return Status(400, "cannot process this") if "-0#" in said(seen) else None

    with ScriptedServer(answer=lambda _: "HAPPY", script=refuse) as server:
        team = LongTeam(tmp_path, server.url, "split")
        with pytest.raises(PermanentError, match=r"2 of 6 documents have no valid answer.+\(part_rejected 2\)"):
            answered(team, policy=replace(QUICK, max_failed_share=0.3, failed_share_after=6))

    assert [team.rows()[name].status for name in LONG] == ["rejected", "rejected"]


def test_what_an_answer_rests_on_can_be_named(tmp_path: Path) -> None:
    """Every row can name what made it; of a document in parts, that is the answers to its parts."""
    with ScriptedServer(answer=lambda _: "HAPPY") as server:
        team = LongTeam(tmp_path, server.url, "split")
        answered(team)

    with team.warehouse.open() as lake:
        lake.application(NAME).published.publish(team.release.release_id, contract=1)
        found = explain_document(lake, team.loaded.application, "long")
    assert list(found["made_of"]) == ["1", "2", "3"]
    assert {part["answer"] for part in found["made_of"].values()} == {"HAPPY"}
    assert found["completion"]["parts"] == 3
    assert found["run"]["sent"] == SHORT + 7
    assert found["run"]["stored"] == SHORT + 2
    assert differences(parts_release(team.release), team.release, names=("a", "b"))[0] == (
        "long documents: reject -> split, overlap_tokens 64"
    )


def test_one_part_without_an_answer_fails_its_document_only(tmp_path: Path) -> None:
    """The reason says how much is missing, and none of the text."""

    def refuse(seen: Seen) -> Fault | None:
        return Status(400, "cannot process this") if "DOC#long-0#" in said(seen) else None

    with ScriptedServer(answer=lambda _: "HAPPY", script=refuse) as server:
        team = LongTeam(tmp_path, server.url, "split")
        answered(team)

    rows = team.rows()
    assert (rows["long"].status, rows["long"].answer) == ("rejected", None)
    assert str(rows["long"].reason).startswith("1 of 3 parts have no valid answer (the first is rejected: ")
    assert rows["longer"].status == "valid"


def test_an_estimate_foresees_what_is_done_with_long_documents(tmp_path: Path) -> None:
    """A table of long documents costs many times what its number of rows suggests."""
    found = {}
    team = LongTeam(tmp_path, "http://127.0.0.1:9", "reject")
    for policy in ("reject", "truncate", "split"):
        team.specification["long_documents"] = policy
        team.write_specification()
        with team.warehouse.open() as lake:
            update_documents(lake, team.loaded)
            (found[policy],) = estimates(lake.application(NAME), team.loaded)

    sizes = {name: len(long_text(name, words)) for name, words in LONG.items()}
    assert {one.long_documents for one in found.values()} == {2}
    assert "(2 probably too long: split)" in found["split"].line
    assert found["reject"].prompt_tokens < 100 < found["truncate"].prompt_tokens
    assert found["truncate"].prompt_tokens == pytest.approx(2 * 4_088, rel=0.05)
    assert found["split"].prompt_tokens == pytest.approx(sum(sizes.values()) / 4, rel=0.1)
    assert found["split"].completion_tokens > found["truncate"].completion_tokens > found["reject"].completion_tokens


@pytest.mark.parametrize("policy", ["truncate", "split"])
def test_an_endpoint_that_cannot_count_is_refused_before_anything_is_sent(tmp_path: Path, policy: str) -> None:
    """A guess would cut too much, or be refused by the endpoint after it was paid for."""
    with ScriptedServer(answer=lambda _: "HAPPY", tokenizes=False) as server:
        team = LongTeam(tmp_path, server.url, policy)
        with pytest.raises(SpecificationError, match=r"/tokenize gives no count of tokens \(HTTP 404\)"):
            answered(team)

    assert server.counts.requests == 0


def test_a_calibration_is_fitted_on_averages_and_keeps_the_parts(tmp_path: Path) -> None:
    """What is corrected must be what decides: the average, not one part."""
    texts = {f"long{number}": 9_000 for number in range(2)}
    with ScriptedServer(answer=lambda _: "HAPPY", logprobs={"HAPPY": -0.2, "SAD": -1.7}) as server:
        team = LongTeam(tmp_path, server.url, "split", texts=texts)
        short = {f"{number}": team.text(number) for number in range(40)}
        team.write_documents(short | {name: long_text(name, words) for name, words in texts.items()})
        team.write_references({key: "HAPPY" if index % 3 else "SAD" for index, key in enumerate([*short, *texts])})
        team.specification["references"]["train_share"] = 0.9
        team.specification["variants"]["clear"] |= {"decision": "logprobs", "calibrate": True}
        team.write_specification()
        answered(team)

    with team.warehouse.open() as lake:
        final = team.loaded.release("clear", lake.application(NAME))
    assert final is not None
    assert final.calibration is not None
    derived = {row.document_id: row for row in team.rows(final).values()}
    assert derived["long0"].parts == 3
    assert derived["long0"].label_logprobs == pytest.approx(derived["0"].label_logprobs)
    assert derived["long0"].confidence == pytest.approx(derived["0"].confidence)
    with team.warehouse.open() as lake:
        lake.application(NAME).published.publish(final.release_id, contract=1)
        found = explain_document(lake, team.loaded.application, "long0")
    assert [part["release_id"] for part in found["made_of"].values()] == [parts_release(final).release_id] * 3


def test_a_field_comes_from_the_part_that_has_it(tmp_path: Path) -> None:
    """A total stands on one page of many; the other pages must be able to say that it is not there."""

    def extracted(seen: Seen) -> str:
        if "DOC#" + seen.document_id in ("DOC#long-0", "DOC#0", "DOC#1", "DOC#2", "DOC#3"):
            return json.dumps({"total": None if "long" in seen.document_id else 1, "tags": ["first"]})
        return json.dumps({"total": 7, "tags": ["later"]})

    with ScriptedServer(answer=extracted, keep_bodies=True) as server:
        fields = {"total": {"type": "number"}, "tags": {"type": "list"}}
        team = LongTeam(tmp_path, server.url, "split", task="extract", fields=fields)
        (team.folder / "prompts" / "clear.md").write_text("---\napi: chat\n---\n# user\nFields of {{ text }}\n")
        for key in ("labels", "references"):
            team.specification.pop(key)
        team.write_specification()
        answered(team)

    rows = team.rows()
    assert json.loads(rows["long"].answer or "") == {"tags": ["first", "later"], "total": 7}
    assert json.loads(rows["0"].answer or "") == {"tags": ["first"], "total": 1}
    # A part may lack the total, a document that fits may not; the endpoint is told so.
    allowed = {body.count(b'"type":["number","null"]') for body in server.bodies if b"DOC#long" in body}
    assert allowed - {0} == {1}
    assert not any(b'["number","null"]' in body for body in server.bodies if b"DOC#0#" in body)


def generating(root: Path, url: str, texts: Mapping[str, int]) -> LongTeam:
    """Summaries, put together by a prompt."""
    team = LongTeam(
        root, url, {"policy": "split", "overlap_tokens": 0, "prompt": "joint"}, texts=texts, task="generate"
    )
    (team.folder / "prompts" / "clear.md").write_text("---\napi: chat\n---\n# user\nSummarize {{ text }}\n")
    (team.folder / "prompts" / "joint.md").write_text("---\napi: chat\n---\n# user\nJoin of {{ team }}: {{ parts }}\n")
    for key in ("labels", "references"):
        team.specification.pop(key)
    team.specification["variants"]["clear"]["sampling"] = {"max_tokens": 1_500}
    team.write_specification()
    return team


def test_answers_that_do_not_fit_one_prompt_are_put_together_in_levels(tmp_path: Path) -> None:
    """Nothing of a very long document may be dropped on the way."""

    def summary(seen: Seen) -> str:
        return f"DOC#S-{said(seen).count('DOC#S-')}-{seen.number}# " + "words " * 700

    with ScriptedServer(answer=summary) as server:
        team = generating(tmp_path, server.url, {"long": 15_000})
        answered(team)
        row, together = team.rows()["long"], together_release(team.release)
        assert together is not None
        levels = team.rows(together)

    # Nine summaries of 702 words; two of them fit beside an answer of 1,500 and its correction.
    assert row.parts == 9
    assert row.status == "valid"
    assert [one.answer[:8] for one in levels.values() if one.answer] == ["DOC#S-2-"] * 8
    assert row.answer == max(levels.values(), key=lambda one: one.created_at).answer
    assert row.prompt_tokens == 40 * (9 + 8)


def test_answers_of_which_no_two_fit_are_a_failure_with_a_reason(tmp_path: Path) -> None:
    """The alternative is to leave some of them out."""
    with ScriptedServer(answer=lambda _: "words " * 1_400) as server:
        team = generating(tmp_path, server.url, {"long": 9_000})
        answered(team)

    row = team.rows()["long"]
    assert row.status == "rejected"
    assert str(row.reason).startswith("the answers to ")
    assert "not even two of them fit" in str(row.reason)


@pytest.mark.slow
def test_a_run_killed_between_parts_and_the_whole_asks_no_part_again(tmp_path: Path) -> None:
    """Parts are what costs; they are kept like any answer."""
    joining = threading.Event()

    def hanging(seen: Seen) -> Fault | None:
        if "Join of" not in said(seen):
            return None
        joining.set()
        return NeverAnswer()

    with ScriptedServer(answer=lambda _: "DOC#S# short", script=hanging) as server:
        team = generating(tmp_path, server.url, {"long": 9_000, "longer": 12_000})
        running = Terminal(team).start("run", NAME)
        while not joining.wait(0.1):
            assert running.is_alive, running.finished().said
        running.signal(signal.SIGKILL)
        assert running.finished().status == -signal.SIGKILL
        asked = server.counts.asked.copy()
        server.script = no_fault

        answered(team)

    again = server.counts.asked - asked
    rows = team.rows()
    assert [rows[name].parts for name in ("long", "longer")] == [5, 7]
    assert asked.total() - asked["S"] == SHORT + 5 + 7
    assert set(again) == {"S"}
    assert [rows[name].status for name in ("long", "longer")] == ["valid", "valid"]


def test_two_processes_share_long_documents_and_ask_for_no_part_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has documents of its own and both need the release of the parts, which one at a time asks for."""
    monkeypatch.setattr(sharing, "LEAST_ROWS", 2)  # else so few documents are not divided
    texts = {f"long{number}": 6_000 + 400 * number for number in range(8)}

    with (
        ScriptedServer(answer=lambda _: "HAPPY", latency_seconds=0.05) as server,
        ThreadPoolExecutor(2) as processes,
    ):
        team = LongTeam(tmp_path, server.url, "split", texts=texts)
        with team.warehouse.open() as lake:
            update_documents(lake, team.loaded)
        runs = [processes.submit(answered, team, policy=replace(QUICK, limit=4)) for _ in range(2)]
        shares = [sent(run.result(timeout=60)) for run in runs]

    rows = team.rows()
    assert {row.status for row in rows.values()} == {"valid"}
    assert len(rows) == SHORT + len(texts)
    assert sum(shares) == server.counts.requests
    assert set(server.counts.asked.values()) == {1}


def test_the_page_on_which_a_part_begins_is_named(tmp_path: Path) -> None:
    """Who doubts an answer about a contract of eighty pages opens it at that page."""
    seen_parts: list[str] = []

    def answer(seen: Seen) -> str:
        seen_parts.append(said(seen))
        return "HAPPY"

    text, page = long_text("long", LONG["long"]), 10_000
    starts = list(range(0, len(text), page))
    with ScriptedServer(answer=answer) as server:
        team = LongTeam(tmp_path, server.url, "split")
        with (team.root / "tickets.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerows([["ticket", "body", "team", "page_starts"], ["long", text, "red", json.dumps(starts)]])
        team.specification["source"]["attributes"] = ["team", "page_starts"]
        team.write_specification()
        answered(team)

    with team.warehouse.open() as lake:
        lake.application(NAME).published.publish(team.release.release_id, contract=1)
        found = explain_document(lake, team.loaded.application, "long")
    marks = [one[one.index("DOC#long-") :].partition(" ")[0] for one in seen_parts]
    begins = sorted(text.index(mark) for mark in marks)
    assert len(begins) == len(found["made_of"]) == 3
    assert [part["page"] for part in found["made_of"].values()] == [begin // page + 1 for begin in begins]
    assert found["made_of"]["1"]["page"] == 1
