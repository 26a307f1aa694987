"""Long texts cut so that prompts fit: where they are cut, by what the model's own tokenizer counts.

Only counts of whole prompts are asked for. How a tokenizer writes its tokens differs between models, and some do not
give back the text that they were given; a count is the same everywhere, and it covers the template around the text.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Sequence

from llm_platform.errors import RequestRejected

Count = Callable[[str], int]
"""Tokens of the whole prompt with this text in it; each call asks the endpoint."""
Span = tuple[int, int]

SMALLEST_ROOM_TOKENS = 16
"""With less room beside the template, a part would hold a sentence."""
_KEPT_FREE = 0.05
"""Density differs within a text: a part that is planned this much smaller seldom has to be cut a second time."""
_WORTH_A_CALL = 0.9
_PROPORTIONAL_TRIES = 4
# Best first; a place counts in the last third of what fits, so that parts stay nearly even.
_PLACES = (
    re.compile(r"\n[^\S\n]*\n\s*"),
    re.compile(r"\n\s*|[.!?…][\"'”’)\]]*\s+|[。！？]"),
    re.compile(r"\s+"),
)
_JOINER = "\u200d"
_SKIN_TONES = range(0x1F3FB, 0x1F400)


def beginning(text: str, *, tokens: int, room: int, count: Count) -> tuple[int, int]:
    """How many characters of the start of `text` to keep, and the tokens that are cut off; some three calls of `count`.

    Args:
        tokens: Of the prompt with the whole text.
        room: Tokens that a prompt may have.

    Raises:
        RequestRejected: the prompt leaves no room for a text.
    """
    cut = _Cutting(text, tokens=tokens, room=room, count=count)
    end, used = cut.fitting(0, cut.characters(cut.space * (1 - _KEPT_FREE)))
    if end < len(text) and used < cut.space * _WORTH_A_CALL:
        # The start is less dense than the whole: once more, by its own density.
        further = cut.place(0, int(end * cut.space / max(used, 1) * (1 - _KEPT_FREE)))
        if further > end and (more := cut.used(0, further)) <= cut.space:
            end, used = further, more
    return end, cut.size - used


def spans(text: str, *, tokens: int, room: int, overlap_tokens: int, count: Count) -> list[Span]:
    """Where each part of `text` starts and ends: in order, overlapping, covering all of it; about one call a part.

    Args:
        tokens: Of the prompt with the whole text.
        room: Tokens that a prompt may have.
        overlap_tokens: About so many tokens of the end of a part are also the start of the next one.

    Raises:
        RequestRejected: the prompt leaves no room for a text, or less than three overlaps.
    """
    cut = _Cutting(text, tokens=tokens, room=room, count=count)
    if cut.space < 3 * overlap_tokens:
        raise RequestRejected(
            f"The prompt leaves {cut.space} tokens for a part of the document, and parts overlap by {overlap_tokens}. "
            "Shorten the prompt, or lower long_documents.overlap_tokens."
        )
    overlap = cut.characters(overlap_tokens) if overlap_tokens else 0
    part = cut.characters(cut.space * (1 - _KEPT_FREE) - overlap_tokens)

    def wanted(start: int) -> int:
        """Characters of a part from `start`, so that those from there on are even, and none has only a few words."""
        left = len(text) - start
        return math.ceil(left / math.ceil(left / part)) + overlap

    found = [(0, cut.fitting(0, wanted(0))[0])]
    while (last := found[-1])[1] < len(text):
        start = max(_start_after(text, last[1] - overlap, last[1]), last[0] + 1)
        end = cut.fitting(start, wanted(last[1]))[0]
        if end <= last[1]:  # denser than the text as a whole: the overlap alone fills a part
            start, end = last[1], cut.fitting(last[1], wanted(last[1]))[0]
        found.append((start, end))
    return found


def grouped(items: Sequence[str], fits: Callable[[Sequence[str]], bool]) -> list[Sequence[str]] | None:
    """Neighbours in groups that fit, by halving; None where not even two of them do."""
    if fits(items):
        return [items]
    if len(items) <= 2:
        return None
    half = len(items) // 2
    left, right = grouped(items[:half], fits), grouped(items[half:], fits)
    return None if left is None or right is None else left + right


class _Cutting:
    """One text and what it takes.

    Attributes:
        space: Tokens that are left for the text, beside the template.
        size: Tokens of the whole text.
    """

    def __init__(self, text: str, *, tokens: int, room: int, count: Count) -> None:
        self._text, self._count, self._empty = text, count, count("")
        self.space, self.size = room - self._empty, tokens - self._empty
        if self.space < SMALLEST_ROOM_TOKENS:
            raise RequestRejected(
                f"The prompt without the document has {self._empty} of the {room} tokens that the model has room for "
                "beside the answer. Shorten the prompt, or take a model with a longer context."
            )

    def characters(self, tokens: float) -> int:
        """How many characters so many tokens are, on the average of this text; at least one."""
        return max(int(tokens * len(self._text) / max(self.size, 1)), 1)

    def used(self, start: int, end: int) -> int:
        """Tokens of one part."""
        return self._count(self._text[start:end].strip()) - self._empty

    def place(self, start: int, stop: int) -> int:
        """The best place to cut at or before `stop`, after `start`."""
        text = self._text
        if stop >= len(text):
            return len(text)
        earliest = max(start + 1, stop - (stop - start) // 3)
        for pattern in _PLACES:
            ends = [match.end() for match in pattern.finditer(text, earliest - 1, stop)]
            if ends:
                return ends[-1]
        return _between_characters(text, start, stop)

    def fitting(self, start: int, wanted: int) -> tuple[int, int]:
        """(end, tokens) of a part that begins at `start`, has about `wanted` characters or fewer, and fits.

        Raises:
            RequestRejected: not even one character fits.
        """
        for attempt in range(_PROPORTIONAL_TRIES + len(self._text).bit_length() + 1):
            end = self.place(start, start + max(wanted, 1))
            used = self.used(start, end)
            if used <= self.space:
                return end, used
            length = end - start
            smaller = int(length * self.space / used * (1 - _KEPT_FREE))
            wanted = min(smaller, length - 1) if attempt < _PROPORTIONAL_TRIES else length // 2
        raise RequestRejected(
            f"A single character of the document takes more than the {self.space} tokens that the prompt leaves. "
            "Shorten the prompt, or take a model with a longer context."
        )


def _start_after(text: str, wanted: int, end: int) -> int:
    """Where a part starts that is to repeat the text from `wanted` to `end`: at a sentence, else at a word."""
    if wanted >= end:
        return end
    for pattern in _PLACES[1:]:
        match = pattern.search(text, max(wanted - 1, 0), end)
        if match is not None and match.end() < end:
            return match.end()
    return _between_characters(text, 0, max(wanted, 1))


def _between_characters(text: str, start: int, stop: int) -> int:
    """The last position at or before `stop` that is not within what readers see as one character."""
    at = stop
    while at > start + 1 and _continues(text, at):
        at -= 1
    return stop if at <= start + 1 and _continues(text, at) else at


def _continues(text: str, at: int) -> bool:
    before, after = text[at - 1], text[at]
    is_mark = unicodedata.category(after).startswith("M") or ord(after) in _SKIN_TONES
    return is_mark or _JOINER in (before, after) or (before, after) == ("\r", "\n")
