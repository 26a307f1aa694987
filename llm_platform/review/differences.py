"""Where two answers differ, in pieces that a page can mark; and where a value stands in a document."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass

WORDS = re.compile(r"\w+\s*|[^\w\s]\s*|\s+")
LONGEST_COMPARED = 6_000
"""Pieces beyond this are not compared: the time grows with the square."""
SHORTEST_FOUND = 3
"""Shorter values occur in any text by chance."""


@dataclass(frozen=True)
class MarkedText:
    """A stretch of text; `marked` where it is what another answer does not have, or what an answer quotes."""

    text: str
    marked: bool = False


def differing(text: str, other: str) -> list[MarkedText]:
    """`text` in pieces, those marked that `other` does not have at the same place."""
    mine, theirs = WORDS.findall(text), WORDS.findall(other)
    if max(len(mine), len(theirs)) > LONGEST_COMPARED:
        return [MarkedText(text, text != other)]
    pieces: list[MarkedText] = []
    # Spaces belong to the word before them, and do not make it another word.
    bare_mine, bare_theirs = [word.strip() for word in mine], [word.strip() for word in theirs]
    compared = difflib.SequenceMatcher(None, bare_mine, bare_theirs, autojunk=False)
    for operation, start, end, _, _ in compared.get_opcodes():
        if start < end:
            pieces.append(MarkedText("".join(mine[start:end]), operation != "equal"))
    return pieces


def quoted(text: str, values: Sequence[str]) -> list[MarkedText]:
    """`text` in pieces, those marked that one of `values` says word for word, in any case."""
    wanted = sorted({value.strip() for value in values if len(value.strip()) >= SHORTEST_FOUND}, key=len, reverse=True)
    if not wanted:
        return [MarkedText(text)]
    found = re.compile("|".join(rf"(?<!\w){re.escape(value)}(?!\w)" for value in wanted), re.IGNORECASE)
    pieces: list[MarkedText] = []
    end = 0
    for match in found.finditer(text):
        pieces += [MarkedText(text[end : match.start()])] if match.start() > end else []
        pieces.append(MarkedText(match.group(), marked=True))
        end = match.end()
    return pieces + ([MarkedText(text[end:])] if end < len(text) else [])
