"""Commands, files and headings that the pages name exist: a page that names others sends people into an error."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from llm_platform.application.model import Application
from llm_platform.cli.main import program
from llm_platform.settings.settings import CHECKOUT

PAGES = [
    *(CHECKOUT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((CHECKOUT / "docs").rglob("*.md")),
    *sorted((CHECKOUT / "deploy").rglob("*.md")),
]
FENCED = re.compile(r"```.*?```", re.DOTALL)
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]*)#?([^)\s]*)\)")
CALL = re.compile(r"(?<![\w./\[-])llm-platform((?: +(?:[a-z][a-z-]*(?![\w.])|--[a-z][a-z-]*))+)")


def calls(page: Path) -> list[list[str]]:
    """The words after each `llm-platform` in code on a page."""
    text = page.read_text(encoding="utf-8")
    code = re.findall(r"```.*?```|`[^`\n]+`", text, flags=re.DOTALL)
    return [found.group(1).split() for part in code for found in CALL.finditer(part)]


def anchors(page: Path) -> set[str]:
    """What a link may name after `#`: headings, as GitHub writes them."""
    headings = re.findall(r"^#+ (.*)$", FENCED.sub("", page.read_text(encoding="utf-8")), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def unknown(words: list[str]) -> str | None:
    """The first word that is neither a command nor one of its options; None where all are."""
    command: Any = program()
    for word in words:
        if word.startswith("--"):
            if not any(word in parameter.opts + parameter.secondary_opts for parameter in command.params):
                return word
        elif hasattr(command, "commands"):
            if word not in command.commands:
                return word
            command = command.commands[word]
    return None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_and_option_that_a_page_names_exists(page: Path) -> None:
    """Pages outlive the commands they describe, unless something compares them."""
    wrong = {f"llm-platform {' '.join(words)}": unknown(words) for words in calls(page)}

    assert {call: word for call, word in wrong.items() if word is not None} == {}


def test_the_pages_name_commands_at_all() -> None:
    """A pattern that finds nothing would hold every page."""
    assert sum(len(calls(page)) for page in PAGES) > 100
    assert unknown(["no-such-command"]) == "no-such-command"
    assert unknown(["plan", "--no-such-option"]) == "--no-such-option"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_of_a_page_leads_to_a_file_and_a_heading(page: Path) -> None:
    """Files are renamed and headings reworded, and nobody follows every link then."""
    wrong = []
    for file, heading in LINK.findall(FENCED.sub("", page.read_text(encoding="utf-8"))):
        target = page.parent / file if file else page
        if not target.exists() or (heading and heading not in anchors(target)):
            wrong.append(f"{file}#{heading}")

    assert wrong == []


def test_headings_are_found_at_all() -> None:
    """As with commands: a pattern that finds nothing would refuse every link, or none."""
    assert anchors(CHECKOUT / "CONTRIBUTING.md") >= {"build-and-test", "security"}
    assert sum(len(LINK.findall(page.read_text(encoding="utf-8"))) for page in PAGES) > 100


def keys(shape: Any) -> Iterator[str]:
    """Keys of a model and of the models in it."""
    for part in get_args(shape):
        yield from keys(part)
    if isinstance(shape, type) and issubclass(shape, BaseModel):
        for name, field in shape.model_fields.items():
            if not field.exclude:
                yield name
                yield from keys(field.annotation)


def test_every_key_of_an_application_stands_on_a_page() -> None:
    """Its file says that every key is explained there."""
    pages = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)

    assert [name for name in sorted(set(keys(Application))) if not re.search(rf"\b{name}\b", pages)] == []
    assert {"max_tokens", "reference_texts", "latency_p95_seconds"} <= set(keys(Application))
