"""Adapters at a terminal: one that was trained elsewhere comes in, is served, and goes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from llm_platform.records import Bar
from llm_platform.records.tables import arrow_schema
from llm_platform_tests.servers.scripted import ScriptedServer
from llm_platform_tests.survival.command import Terminal
from llm_platform_tests.team import NAME, answer
from llm_platform_tests.tiny_model import TuningTeam, layout


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    source = tmp_path / "peft"
    with ScriptedServer(answer=lambda seen: answer(seen) if seen.document_id else "x", peft_source=source) as model:
        team = TuningTeam(tmp_path, model.url, documents=20)
        yield Terminal(team, LLM_PLATFORM_NIM_PEFT_SOURCE=str(source))


def test_an_adapter_comes_in_is_served_and_is_not_retired_while_a_variant_uses_it(
    terminal: Terminal, tmp_path: Path
) -> None:
    """What a person does with an adapter of the research team, and what the platform does not let happen by mistake."""
    folder = layout(tmp_path / "from_research")

    imported = terminal.run("adapter", "import", NAME, "mood", str(folder), "--note", "research, run 17")
    listed = terminal.run("adapter", "list", NAME)
    adapter_id = imported.out.split()[1]
    published = terminal.run("adapter", "publish", NAME, adapter_id[:8])
    shown = terminal.run("adapter", "show", NAME, adapter_id)
    refused = terminal.run("adapter", "retire", NAME, adapter_id)
    unused = terminal.run("adapter", "retire", NAME)
    compared = terminal.run("adapter", "compare", NAME, "mood")
    unknown = terminal.run("adapter", "show", NAME, "ffff")
    terminal.team.specification["variants"].pop("tuned")
    terminal.team.write_specification()
    retired = terminal.run("adapter", "retire", NAME, adapter_id)

    assert imported.status == 0, imported.said
    assert "imported: research, run 17" in listed.out
    assert "variant 'tuned'" in listed.out
    assert published.status == 0, published.said
    assert f"{NAME}-{adapter_id} answers at http://127.0.0.1" in published.out
    assert f"served as {NAME}-{adapter_id}" in shown.out
    assert refused.failed_plainly, refused.said
    assert "variant 'tuned', release" in refused.err
    assert "Every adapter is used by a release." in unused.out
    assert compared.failed_plainly, compared.said
    assert "has not been compared" in compared.err
    assert unknown.failed_plainly, unknown.said
    assert adapter_id in unknown.err
    assert retired.status == 0, retired.said
    assert f"{adapter_id}: retired" in retired.out
    assert list((tmp_path / "peft").iterdir()) == []


def test_an_adapter_is_taken_as_it_is_with_a_reason_and_only_as_it_was_made(terminal: Terminal, tmp_path: Path) -> None:
    """Who lifts a bar answers for it by name, in a sentence, and for exactly these weights."""
    imported = terminal.run("adapter", "import", NAME, "mood", str(layout(tmp_path / "from_research")))
    adapter_id = imported.out.split()[1]
    bar = Bar(kind="adapter", subject=adapter_id, request_id="request", reason="it learned one", at=datetime.now(UTC))
    with terminal.team.warehouse.open() as lake:
        session = lake.application(NAME)._session
        table = pa.Table.from_pylist([bar.model_dump()], schema=arrow_schema("bars"))
        with session.cursor() as cursor:
            cursor.register("made", table)
            session.write(
                NAME,
                lambda one: one.run(f"INSERT INTO {one.target('bars')} BY NAME SELECT * FROM made"),
                cursor=cursor,
            )
    weights = next((terminal.team.settings.namespace_folder / "adapters").glob("*/adapter_model.safetensors"))
    right = weights.read_bytes()
    because = "its examples were one in a thousand"

    unfounded = terminal.run("adapter", "accept", NAME, adapter_id, "--because", "fine")
    weights.write_bytes(right[:-1] + bytes([right[-1] ^ 1]))
    altered = terminal.run("adapter", "accept", NAME, adapter_id, "--because", because)
    weights.write_bytes(right)
    with terminal.team.warehouse.open(read_only=True) as lake:
        standing = lake.application(NAME).bars.standing("adapter", adapter_id)
    accepted = terminal.run("adapter", "accept", NAME, adapter_id, "--because", because)
    again = terminal.run("adapter", "accept", NAME, adapter_id, "--because", because)
    log = terminal.run("access", "log", NAME)

    assert unfounded.failed_plainly, unfounded.said
    assert altered.failed_plainly, altered.said
    assert standing is not None
    assert f"Adapter {adapter_id} may be promoted again." in accepted.out, accepted.said
    assert "Nothing bars this adapter." in again.out
    assert "accept adapter" in log.out


def test_a_demo_of_an_application_that_trains_nothing_says_so(terminal: Terminal) -> None:
    """The option is there for every application; most have no adapter."""
    finished = terminal.run("demo", "--finetune", "--application", "package_metadata")

    assert finished.failed_plainly, finished.said
    assert "has no 'finetuning'" in finished.err
