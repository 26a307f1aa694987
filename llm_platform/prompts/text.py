"""A prompt written out again, so that two versions can be compared line by line."""

from __future__ import annotations

import difflib
import json

from llm_platform.records import Prompt


def prompt_text(prompt: Prompt) -> str:
    """The prompt in the form of a prompt file; examples that are frozen with it as one line of JSON each."""
    lines = ["---", f"api: {prompt.api}"]
    # Equal texts are what a label stands for where the file says nothing.
    if any(label != answer for label, answer in prompt.answers.items()):
        lines.append(f"answers: {json.dumps(prompt.answers, ensure_ascii=False)}")
    if prompt.selection is not None:
        chosen = prompt.selection
        lines.append(f"examples: {{select: {chosen.select}, count: {chosen.count}, pool: {chosen.pool}}}")
    lines += [f"example: {json.dumps(example, ensure_ascii=False, sort_keys=True)}" for example in prompt.examples]
    lines.append("---")
    for message in prompt.messages:
        lines += (
            [f"# {message.role}", "", *message.template.split("\n"), ""] if prompt.api == "chat" else [message.template]
        )
    return "\n".join(lines).rstrip("\n") + "\n"


def prompt_difference(a: Prompt, b: Prompt, *, names: tuple[str, str]) -> list[str]:
    """Lines of a unified diff; empty where the two ask the same."""
    if a.version == b.version:
        return []
    before, after = prompt_text(a).splitlines(), prompt_text(b).splitlines()
    return list(difflib.unified_diff(before, after, *names, lineterm=""))
