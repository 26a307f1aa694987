"""Commands that the pages name exist: a page that names another one sends people into an error."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from llm_platform.cli.main import program
from llm_platform.settings.settings import CHECKOUT

PAGES = [CHECKOUT / "README.md", CHECKOUT / "CONTRIBUTING.md", *sorted((CHECKOUT / "docs").rglob("*.md"))]
CALL = re.compile(r"(?<![\w./\[-])llm-platform((?: +(?:[a-z][a-z-]*(?![\w.])|--[a-z][a-z-]*))+)")


def calls(page: Path) -> list[list[str]]:
    """The words after each `llm-platform` in code on a page."""
    text = page.read_text(encoding="utf-8")
    code = re.findall(r"```.*?```|`[^`\n]+`", text, flags=re.DOTALL)
    return [found.group(1).split() for part in code for found in CALL.finditer(part)]


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
