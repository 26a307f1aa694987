"""What an application has taken out of its documents is in nothing that is made of them."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from llm_platform.contracts.shape import contract_of
from llm_platform.errors import ContractBroken
from llm_platform.operations.answering.documents import read_references, update_documents
from llm_platform.operations.answering.examples import draw_pool
from llm_platform.operations.answering.redacting import require_redacted, shown
from llm_platform.redaction.kinds import INSTALL, installed
from llm_platform.warehouse.lake import Warehouse
from llm_platform_tests.team import NAME, Team
from llm_platform_tests.warehouse.builders import completion

if installed() is None:
    pytest.skip(f"Presidio is not installed: {INSTALL}", allow_module_level=True)

MAIL = "jane{}@example.org"
RULE = {"kinds": ["EMAIL_ADDRESS"]}


def letters(root: Path, *, url: str = "http://127.0.0.1:1", **redaction: Any) -> Team:
    """A team that extracts senders, with known ones; every letter names another one."""
    team = Team(root, url, documents=4)
    team.write_documents({str(at): f"DOC#{at}# write to {MAIL.format(at)}" for at in range(4)})
    with (root / "known.csv").open("w", newline="", encoding="utf-8") as file:
        rows = [[str(at), json.dumps({"sender": MAIL.format(at), "subject": None})] for at in range(4)]
        csv.writer(file).writerows([["ticket", "mood"], *rows])
    example = {"text": "from old@example.org", "answer": {"sender": "old@example.org", "subject": ""}}
    (team.folder / "shown.jsonl").write_text(json.dumps(example) + "\n", encoding="utf-8")
    body = "{% for example in examples %}{{ example.text }} {{ example.answer }}{% endfor %} Who? {{ text }}\n"
    for name in ("clear", "vague"):
        front = "---\napi: chat\nexamples: {pool: shown.jsonl, count: 1}\n---\n# user\n\n"
        (team.folder / "prompts" / f"{name}.md").write_text(front + body, encoding="utf-8")
    del team.specification["labels"]
    team.specification |= {
        "task": "extract",
        "fields": {"sender": {"type": "string"}, "subject": {"type": "string", "required": False}},
        "redaction": {**RULE, **redaction},
    }
    team.specification["evaluation"] = {"scorers": ["fields"], "gates": {}}
    team.write_specification()
    return team


def published(lake: Warehouse, team: Team) -> list[str]:
    """What readers get as senders, after a publication in which every answer is the same placeholder."""
    loaded, store = team.loaded, lake.application(NAME)
    release = loaded.without_adapter("clear")
    store.releases.put(release)
    missing = store.completions.missing(release.release_id).to_pylist()
    with store.completions.lease(release.release_id, holder="test") as lease:
        said = {"answer": '{"sender":"<EMAIL_ADDRESS_1>","subject":"re: \\"<EMAIL_ADDRESS_1>\\" <EMAIL_ADDRESS_2>"}'}
        texts = {row["fingerprint"]: row["document_id"] for row in missing}
        answers = [
            completion(key, release_id=release.release_id, fingerprint=one, **said) for one, key in texts.items()
        ]
        store.completions.append(lease, answers)
    contract = contract_of(loaded.application)
    store.published.publish(release.release_id, [contract], variant="clear")
    table = store.published.table(contract.number)
    assert all(subject.endswith('" <EMAIL_ADDRESS_2>') for subject in table["subject"].to_pylist())
    senders: list[str] = table["sender"].to_pylist()
    return senders


def test_documents_known_answers_and_examples_have_the_same_placeholders(tmp_path: Path) -> None:
    """A model is shown, taught and judged by what it is asked about, and never by what was taken out of that."""
    team = letters(tmp_path, put_back=True)
    with team.warehouse.open() as lake:
        loaded, store = team.loaded, lake.application(NAME)
        update_documents(lake, loaded)
        documents = store.documents.table().to_pylist()
        known = read_references(lake, loaded.application)
        store.references.replace(known)

        assert {row["text"].split("# ")[1] for row in documents} == {"write to <EMAIL_ADDRESS_1>"}
        assert [json.loads(row["withheld"]) for row in documents] == [
            {"<EMAIL_ADDRESS_1>": MAIL.format(at)} for at in range(4)
        ]
        assert {*known["answer"].to_pylist()} == {'{"sender":"<EMAIL_ADDRESS_1>","subject":null}'}
        assert all("jane" not in one.model_dump_json() for one in draw_pool(store, loaded.application).examples)
        [example] = shown(loaded.prompts["clear"], loaded.application).examples
        assert example["text"] == "from <EMAIL_ADDRESS_1>"
        assert json.loads(example["answer"])["sender"] == "<EMAIL_ADDRESS_1>"


def test_readers_get_what_was_taken_out_of_their_document(tmp_path: Path) -> None:
    """One text, one answer, one payment: and each document's own sender in its row."""
    team = letters(tmp_path, put_back=True)
    texts = {key: f"DOC# write to {MAIL.format(key)}" for key in "abc"}
    team.write_documents(texts)
    with team.warehouse.open() as lake:
        update_documents(lake, team.loaded)
        first = published(lake, team)
        team.write_documents({**texts, "b": f"DOC# write to {MAIL.format('other')}"})
        update_documents(lake, team.loaded)
        second = published(lake, team)
        answers = lake.application(NAME).completions.counts(team.loaded.without_adapter("clear").release_id)

    assert first == [MAIL.format(key) for key in "abc"]
    assert second == [MAIL.format(key) for key in ("a", "other", "c")]
    assert answers == {"valid": 1}


def test_what_is_not_put_back_is_nowhere(tmp_path: Path) -> None:
    """Then nothing of it can be asked for, stolen or forgotten."""
    team = letters(tmp_path)
    with team.warehouse.open() as lake:
        update_documents(lake, team.loaded)
        assert {row["withheld"] for row in lake.application(NAME).documents.table().to_pylist()} == {None}

    files = [path.read_bytes() for path in team.settings.state.rglob("*") if path.is_file()]
    assert files
    assert not any(b"jane" in content for content in files)


def test_nothing_is_made_of_documents_from_before_the_rule(tmp_path: Path) -> None:
    """Whoever adds a rule and tries a prompt at once would send what the rule is about."""
    team = letters(tmp_path)
    rule = team.specification.pop("redaction")
    team.write_specification()
    with team.warehouse.open() as lake:
        update_documents(lake, before := team.loaded)
        team.specification["redaction"] = rule
        team.write_specification()
        loaded, store = team.loaded, lake.application(NAME)
        then = lake.snapshot()

        with pytest.raises(ContractBroken, match=r"stored before its present 'redaction'.*llm-platform run tickets"):
            require_redacted(store, loaded.application)
        changed = update_documents(lake, loaded).change
        require_redacted(store, loaded.application)
        with pytest.raises(ContractBroken, match="as of that snapshot"):
            require_redacted(store, loaded.application, at_snapshot=then)

        assert changed.updated == 4
        old, new = (one.without_adapter("clear") for one in (before, loaded))
        assert old.release_id != new.release_id


def test_the_release_covers_the_rule(tmp_path: Path) -> None:
    """What was taken out decides an answer, so another rule is another release, with evidence of its own."""
    team = letters(tmp_path)
    one = team.loaded.without_adapter("clear").release_id
    ids = set()
    for change in ({"minimum_score": 0.5}, {"kinds": ["IBAN_CODE"]}, {"patterns": {"CASE": "T-[0-9]+"}}):
        team.specification["redaction"] = {**RULE, **change}
        team.write_specification()
        ids.add(team.loaded.without_adapter("clear").release_id)

    assert len(ids | {one}) == 4
