"""Cutting long texts, by tokenizers of several kinds."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_platform.errors import RequestRejected
from llm_platform.prompts.cutting import Span, beginning, grouped, spans

TEMPLATE_TOKENS = 40


def per_word(text: str) -> int:
    return TEMPLATE_TOKENS + sum(-(-len(word) // 4) for word in text.split())


def per_byte(text: str) -> int:
    return TEMPLATE_TOKENS + len(text.encode())


def dense_digits(text: str) -> int:
    """Digits take ten times as much as letters, as tables do beside prose."""
    return TEMPLATE_TOKENS + sum(10 if character.isdigit() else 1 for character in text)


COUNTS = (per_word, per_byte, dense_digits)
PIECES = (
    *("A sentence of some words. ", "word ", "Line\n", "\n\n", " ", "0123456789" * 3, "x" * 300),
    *("naïve café. ", "日本語の文。", "e\u0301" * 9, "👨\u200d👩\u200d👧", "👍🏽"),
)
texts = st.lists(st.sampled_from(PIECES), min_size=1, max_size=120).map(lambda pieces: "".join(pieces).strip() or "x")


def cut(text: str, count: Callable[[str], int], *, room: int, overlap: int) -> list[Span]:
    return spans(text, tokens=count(text), room=room, overlap_tokens=overlap, count=count)


@settings(max_examples=150, deadline=None)
@given(text=texts, count=st.sampled_from(COUNTS), room=st.integers(90, 400), overlap=st.integers(0, 15))
def test_parts_cover_all_of_a_text_and_each_fits(
    text: str, count: Callable[[str], int], room: int, overlap: int
) -> None:
    """What no part holds, the model never reads; what does not fit, the endpoint refuses."""
    found = cut(text, count, room=room, overlap=overlap)

    assert found[0][0] == 0
    assert found[-1][1] == len(text)
    assert all(before[0] < after[0] <= before[1] < after[1] for before, after in pairwise(found))
    assert all(count(text[start:end].strip()) <= room for start, end in found)
    assert cut(text, count, room=room, overlap=overlap) == found


@settings(max_examples=100, deadline=None)
@given(text=texts, count=st.sampled_from(COUNTS), room=st.integers(90, 400))
def test_the_beginning_fits_and_what_is_lost_is_counted(text: str, count: Callable[[str], int], room: int) -> None:
    """How much the model has not read is written on the answer."""
    total = count(text)

    end, lost = beginning(text, tokens=total, room=room, count=count)

    kept = count(text[:end].strip())
    assert kept <= room
    assert lost == total - kept
    assert (end == len(text)) >= (total <= room * 0.9)


@pytest.mark.parametrize("start", [pytest.param("", id="even"), pytest.param("word " * 400, id="thin-start")])
def test_the_beginning_is_nearly_as_long_as_fits(start: str) -> None:
    """A cut that keeps too little loses text for nothing."""
    text = start + "0123456789 " * 200

    end, _ = beginning(text, tokens=dense_digits(text), room=2000, count=dense_digits)

    assert dense_digits(text[:end]) > 1600


@settings(max_examples=100, deadline=None)
@given(text=texts, room=st.integers(90, 400))
def test_no_cut_is_inside_a_character(text: str, room: int) -> None:
    """An accent or half a family means nothing by itself."""
    found = cut(text, per_byte, room=room, overlap=0)

    for start, _ in found[1:]:
        assert not unicodedata.category(text[start]).startswith("M")
        assert "\u200d" not in text[start - 1 : start + 1]


def test_cuts_are_between_paragraphs_else_sentences_else_words() -> None:
    """A part that starts in the middle of a sentence is read as something else."""
    paragraphs = "\n\n".join(["Some words of one paragraph. They are followed by more." for _ in range(40)])
    sentences = "A sentence of seven words stands here. " * 60
    words = "word " * 500

    for text, before in ((paragraphs, "\n\n"), (sentences, ". "), (words, " ")):
        found = cut(text, per_word, room=200, overlap=0)
        assert len(found) > 2
        assert all(text[:start].endswith(before) for start, _ in found[1:])


def test_a_part_costs_about_one_call() -> None:
    """Each count is a request, made while documents wait to be sent."""
    calls: list[str] = []

    def counted(text: str) -> int:
        calls.append(text)
        return per_word(text)

    text = "Some words of one paragraph. They are followed by more.\n\n" * 400

    found = cut(text, counted, room=500, overlap=20)

    assert len(found) >= 10
    assert len(calls) <= len(found) + 2


def test_parts_overlap_by_about_what_was_asked() -> None:
    """A fact that a cut divides must stand whole in one of the two parts."""
    text = " ".join(f"Sentence number {number} says a thing." for number in range(300))

    found = cut(text, per_word, room=240, overlap=30)

    overlaps = [per_word(text[after[0] : before[1]]) - TEMPLATE_TOKENS for before, after in pairwise(found)]
    assert all(15 <= overlap <= 45 for overlap in overlaps)
    assert all(text[start:].startswith("Sentence") for start, _ in found)


def test_a_prompt_that_leaves_no_room_says_so() -> None:
    """Cutting cannot help a template that fills the context by itself."""
    with pytest.raises(RequestRejected, match="without the document has 40 of the 50 tokens"):
        cut("word " * 100, per_word, room=50, overlap=0)
    with pytest.raises(RequestRejected, match="leaves 60 tokens for a part of the document, and parts overlap by 30"):
        cut("word " * 100, per_word, room=100, overlap=30)
    with pytest.raises(RequestRejected, match="A single character"):
        cut("11111", lambda text: 10 + 90 * len(text), room=99, overlap=0)


def test_groups_halve_until_they_fit() -> None:
    """Answers that do not fit together are put together in levels; two that do not are an end."""

    def fits(items: Sequence[str]) -> bool:
        return sum(map(len, items)) <= 10

    assert grouped(["aaa", "bbb"], fits) == [["aaa", "bbb"]]
    assert grouped(["aaa"] * 5, fits) == [["aaa"] * 2, ["aaa"] * 3]
    assert grouped(["a" * 6] * 4, fits) is None
