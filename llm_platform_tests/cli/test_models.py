"""`llm-platform model` and `bom` at the terminal."""

from __future__ import annotations

import json

import pytest
import yaml

from llm_platform_tests.cli.conftest import Ran
from llm_platform_tests.team import ENTRY, NAME


def test_a_model_is_locked_verified_and_asked_for_its_reasons(ran: Ran) -> None:
    """The questions of an upgrade, in the order in which they are asked."""
    terminal, model = ran
    lock_file = terminal.team.lock_file

    why = terminal.run("model", "why", ENTRY)
    locked = terminal.run("model", "lock", ENTRY)
    verified = terminal.run("model", "verify", ENTRY)
    moved = terminal.run("model", "why", ENTRY)
    differs = terminal.run("model", "diff", ENTRY, "smollm2-135m")
    model.answer = lambda _: "something else"
    other = terminal.run("model", "verify", ENTRY)
    bill = terminal.run("bom")

    assert "promote" in why.out, why.said
    assert " yes " in why.out
    assert f"{ENTRY} is locked in" in locked.out, locked.said
    assert len(yaml.safe_load(lock_file.read_text(encoding="utf-8"))["models"]) == 2
    assert "is what the lock file pins" in verified.out, verified.said
    assert "no: the lock entry moved: tokenizer_sha256, chat_template_sha256, fingerprint" in moved.out
    assert NAME in differs.out, differs.said
    assert "served_name" in differs.out
    assert other.failed_plainly
    assert "is answered otherwise" in other.err
    assert json.loads(bill.out)["specVersion"] == "1.6", bill.err


def test_a_new_external_entry_is_made_from_its_endpoint(ran: Ran) -> None:
    """What must be typed by hand is what the endpoint does not say."""
    terminal, model = ran

    unsaid = terminal.run("model", "lock", "second", "--url", model.url)
    made = terminal.run("model", "lock", "second", "--url", model.url, "--licence", "MIT")
    entry = yaml.safe_load(terminal.team.lock_file.read_text(encoding="utf-8"))["models"].get("second", {})

    assert unsaid.failed_plainly
    assert "found no 'licence'" in unsaid.err
    assert made.status == 0, made.said
    assert (entry["base_urls"], entry["context_length"], len(entry["fingerprint"])) == ([model.url], 4096, 6)


@pytest.mark.slow
def test_the_version_of_a_bare_vllm_is_locked_and_held(ran: Ran) -> None:
    """An engine that was changed under the same address answers otherwise, and nothing else says so."""
    terminal, model = ran
    model.version = "0.23.0"

    try:
        before = terminal.run("model", "verify", ENTRY)
        locked = terminal.run("model", "lock", ENTRY)
        entry = yaml.safe_load(terminal.team.lock_file.read_text(encoding="utf-8"))["models"][ENTRY]
        model.version = "0.24.0"
        after = terminal.run("model", "verify", ENTRY)
        run = terminal.run("run", NAME)
    finally:
        model.version = None

    assert before.status == 0, before.said
    assert locked.status == 0, locked.said
    assert entry["engine"] == "vLLM 0.23.0"
    assert after.failed_plainly
    assert "engine is 'vLLM 0.24.0', locked 'vLLM 0.23.0'" in after.err
    assert run.status != 0
    assert "engine is 'vLLM 0.24.0', locked 'vLLM 0.23.0'" in run.said
