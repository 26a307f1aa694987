"""What of a text is the answer: models think aloud before it, and put fences around it.

A rule of the release, `records.Release.reading`. What is left out here stays in `completions.raw`.
"""

from __future__ import annotations

import re
from typing import NamedTuple

# What opens a thought, and what ends it. Several prompt templates open it themselves: then only its end is in the text.
_THOUGHTS = {
    "<think>": "</think>",
    "<thinking>": "</thinking>",
    "<thought>": "</thought>",
    "<reasoning>": "</reasoning>",
    "<seed:think>": "</seed:think>",
    "[THINK]": "[/THINK]",
    "◁think▷": "◁/think▷",
    "<|channel|>analysis<|message|>": "<|channel|>final<|message|>",
}
_OPENINGS = tuple(_THOUGHTS)
_OPENED_BY_THE_TEMPLATE = ("</think>", "[/THINK]", "</seed:think>", "◁/think▷")
# The model's own tokens that may end an answer whose thought is in such tokens, too.
_ENDINGS = ("<|return|>", "<|end|>")
_FENCED = re.compile(r"(?P<fence>```|~~~)(?:[ \t]*[\w+.-]*[ \t]*\n)?(?P<inside>.*?)\s*(?P=fence)", re.DOTALL)


class Spoken(NamedTuple):
    """A text in its two parts.

    Attributes:
        is_whole: Whether the thought has an end; one without is all there is.
    """

    answer: str
    thought: str = ""
    is_whole: bool = True


def divided(text: str) -> Spoken:
    """A model's text in thought and answer; all of it is the answer where it has not thought aloud."""
    begins = text.lstrip()
    if begins.startswith(_OPENINGS):
        opening = next(one for one in _OPENINGS if begins.startswith(one))
        thought, end, answer = begins[len(opening) :].partition(_THOUGHTS[opening])
        if not end:
            return Spoken("", thought, is_whole=False)
        for ending in _ENDINGS:
            answer = answer.removesuffix(ending)
        further = divided(answer)
        return Spoken(further.answer, thought + further.thought, further.is_whole)
    for end in _OPENED_BY_THE_TEMPLATE:
        if end in text:
            thought, _, answer = text.partition(end)
            return Spoken(answer, thought)
    return Spoken(text)


def joined(thought: str, answer: str) -> str:
    """Both parts as one text, as a model writes them whose endpoint does not divide them."""
    return f"<think>\n{thought}\n</think>\n\n{answer}" if thought else answer


def unfenced(text: str) -> str:
    """What stands in a fence that is all of the text, else the text."""
    stripped = text.strip()
    found = _FENCED.fullmatch(stripped)
    if found is not None and found["fence"] not in found["inside"]:
        return found["inside"].strip()
    if len(stripped) > 2 and stripped[0] == stripped[-1] == "`" and "`" not in stripped[1:-1]:
        return stripped[1:-1].strip()
    return text
