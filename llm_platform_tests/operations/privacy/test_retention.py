"""What is older than the policy keeps it goes; what is needed, or is for audits, stays."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pydantic import ValidationError

from llm_platform.application.model import Application, Retention
from llm_platform.operations.privacy.forgetting import ForgetPlace, Forgetting
from llm_platform.operations.privacy.retention import let_go, outdated
from llm_platform.signing.keys import signing_key
from llm_platform.warehouse.lake import Warehouse
from llm_platform_tests.operations.privacy.test_forgetting import call
from llm_platform_tests.warehouse.builders import NOON, RELEASE_ID, answer_all, batch, consumed, document, event, fill
from llm_platform_tests.warehouse.conftest import sqlite_location


def application(**days: float) -> Application:
    """As much of an application as a policy reads."""
    return cast("Application", SimpleNamespace(name="reviews", retention=Retention(days=cast("Any", days))))


def test_a_dry_run_says_what_goes_and_the_policy_takes_it(tmp_path: Path) -> None:
    """Nobody dares to switch on what cannot be looked at before."""
    location = replace(sqlite_location(tmp_path), signing_key=str(tmp_path / "key.pem"))
    key = signing_key(tmp_path / "key.pem", make=True)
    place = ForgetPlace("main", lambda: Warehouse.attach(location), tmp_path)
    later = NOON + timedelta(days=3650)
    forgetting = Forgetting([place], key, lambda: later)
    kept = [application(completions=90, trials=90, reads=90)]
    with Warehouse.attach(location) as lake:
        store = lake.application("reviews")
        fill(lake, "abc")
        answer_all(lake)
        store.rollout.append(event("first"), expected_previous=None)
        store.documents.apply(batch([document("a")]), deleted=None, full=True, consumed=consumed())
        lake.calls.append([call("call-1", "an old question")])
        store.reads.append("explain --texts", by="ada", at=NOON, document_ids=["a"])
        store.reads.append("explain --texts", by="eve", at=later, document_ids=["a"])

        before = outdated(lake, kept, {"calls": 30}, now=later).rows
        again = outdated(lake, kept, {"calls": 30}, now=later).rows
        found, forgotten = let_go(lake, kept, {"calls": 30}, forgetting=forgetting, now=later)

        assert before == again == found.rows == {"reviews.completions": 2, "reviews.reads": 1, "platform.calls": 1}
        assert store.reads.table()["by"].to_pylist() == ["eve"]
        assert forgotten == []
        assert store.completions.of_release(RELEASE_ID)["document_id"].to_pylist() == ["a"]
        assert lake.calls.table().num_rows == 0
        assert store.rollout.champion() is not None
        assert outdated(lake, kept, {"calls": 30}, now=later).total == 0


def test_documents_that_have_not_changed_for_long_are_forgotten_with_a_certificate(tmp_path: Path) -> None:
    """Their source may keep them longer than we may."""
    location = replace(sqlite_location(tmp_path), signing_key=str(tmp_path / "key.pem"))
    key = signing_key(tmp_path / "key.pem", make=True)
    place = ForgetPlace("main", lambda: Warehouse.attach(location), tmp_path)
    later = NOON + timedelta(days=3650)
    with Warehouse.attach(location) as lake:
        fill(lake, "ab")
        answer_all(lake)

        found, (done,) = let_go(
            lake, [application(documents=365)], {}, forgetting=Forgetting([place], key, lambda: later), now=later
        )

        assert found.rows == {"reviews.documents": 2}
        assert done.statement["predicate"]["documents"] == 2
        fill(lake, "abc")
        assert lake.application("reviews").documents.table(["document_id"])["document_id"].to_pylist() == ["c"]


def test_a_policy_of_a_table_that_no_policy_knows_is_a_mistake() -> None:
    """A misspelt table would be kept for ever."""
    with pytest.raises(ValidationError):
        Retention(days=cast("Any", {"complections": 3}))
