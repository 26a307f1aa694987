"""Adapters at a terminal: one that was trained elsewhere comes in, is served, and goes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

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


def test_a_demo_of_an_application_that_trains_nothing_says_so(terminal: Terminal) -> None:
    """The option is there for every application; most have no adapter."""
    finished = terminal.run("demo", "--finetune", "--application", "package_metadata")

    assert finished.failed_plainly, finished.said
    assert "has no 'finetuning'" in finished.err
