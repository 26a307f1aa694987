"""The parts of a prompt file: front matter, and a body cut into messages."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from llm_platform.application.yaml.mistakes import Mistake, nearest, shown, wording

Role = Literal["system", "user", "assistant"]

_ROLES: tuple[Role, ...] = ("system", "user", "assistant")
_HEADING = re.compile(r"^# *([A-Za-z]+):? *$")
_FENCE = "---"


@dataclass(frozen=True)
class Section:
    """One message template, the line of the file at which it begins, and the line of its heading."""

    role: Role
    line: int
    heading_line: int
    template: str


@dataclass(frozen=True)
class SplitPromptFile:
    """A prompt file in two; the front matter begins at line 2."""

    front_matter: str
    body: str
    body_line: int


def split(path: Path, text: str, mistakes: list[Mistake]) -> SplitPromptFile | None:
    """Front matter and body, or None after adding to `mistakes` why they cannot be told apart."""
    lines = text.split("\n")
    if lines[0].rstrip() != _FENCE:
        found = wording(
            f"{shown(lines[0])} as the first line", "'---', then the front matter ('api: chat'), then '---'"
        )
        mistakes.append(Mistake(str(path), 1, found))
        return None
    end = next((n for n, line in enumerate(lines[1:], start=1) if line.rstrip() == _FENCE), None)
    if end is None:
        mistakes.append(Mistake(str(path), 1, wording("a front matter without an end", "'---' on a line of its own")))
        return None
    return SplitPromptFile("\n".join(lines[1:end]), "\n".join(lines[end + 1 :]), end + 2)


def completion_template(path: Path, parts: SplitPromptFile, mistakes: list[Mistake]) -> list[Section]:
    """The body as one template, without the one newline that ends the file.

    All other space stays: the last character of a completion prompt decides how its answer is cut into tokens.
    """
    template = parts.body.removesuffix("\n")
    if not template.strip():
        mistakes.append(Mistake(str(path), parts.body_line, wording("an empty body", "the template of the prompt")))
        return []
    heading = next((n for n, line in enumerate(template.split("\n")) if line.rstrip() in _marks()), None)
    if heading is not None:
        text = wording("a message heading in a prompt with api 'completion'", "one template, or 'api: chat'", "chat")
        mistakes.append(Mistake(str(path), parts.body_line + heading, text))
    return [Section("user", parts.body_line, parts.body_line, template)]


def chat_messages(path: Path, parts: SplitPromptFile, mistakes: list[Mistake]) -> list[Section]:
    """The body cut at lines `# system`, `# user` and `# assistant`, without the blank lines around each message."""
    starts: list[tuple[int, Role]] = []
    lines = parts.body.split("\n")
    for n, line in enumerate(lines):
        heading = _HEADING.match(line)
        if heading is None:
            continue
        role = next((role for role in _ROLES if role == heading[1] and line.rstrip() == f"# {role}"), None)
        close = nearest(heading[1], _ROLES, cutoff=0.8)
        if role is not None:
            starts.append((n, role))
        elif close is not None:
            text = wording(f"heading {line.rstrip()!r}", ", ".join(map(repr, _marks())), f"# {close}")
            mistakes.append(Mistake(str(path), parts.body_line + n, text))
    before = "\n".join(lines[: starts[0][0]] if starts else lines)
    if not starts or before.strip():
        text = wording("text before the first message heading", f"a line {' or '.join(map(repr, _marks()))} first")
        mistakes.append(
            Mistake(str(path), parts.body_line, text if before.strip() else wording("no message", "'# user'"))
        )
    ends = [*(n for n, _ in starts), len(lines)][1:]
    sections = []
    for (n, role), end in zip(starts, ends, strict=True):
        rows = lines[n + 1 : end]
        blank = next((k for k, row in enumerate(rows) if row.strip()), len(rows))
        sections.append(Section(role, parts.body_line + n + 1 + blank, parts.body_line + n, "\n".join(rows).strip()))
    mistakes += [Mistake(str(path), line, text) for line, text in _order(sections)]
    return sections


def _order(sections: list[Section]) -> list[tuple[int, str]]:
    """Chat templates of most models refuse another order than system, then user and assistant in turn."""
    broken = [
        (section.heading_line, wording(f"message '# {section.role}' without text", "the template of the message"))
        for section in sections
        if not section.template
    ]
    turns = [section for n, section in enumerate(sections) if not (n == 0 and section.role == "system")]
    for n, section in enumerate(turns):
        wanted = "user" if n % 2 == 0 else "assistant"
        if section.role != wanted:
            place = "an optional '# system' first, then '# user' and '# assistant' in turn"
            broken.append((section.heading_line, wording(f"'# {section.role}' where '# {wanted}' is due", place)))
            return broken
    if sections and (not turns or turns[-1].role != "user"):
        last = sections[-1]
        broken.append(
            (
                last.heading_line,
                wording(f"'# {last.role}' as the last message", "'# user' last: it is what is answered"),
            )
        )
    return broken


def _marks() -> list[str]:
    return [f"# {role}" for role in _ROLES]
