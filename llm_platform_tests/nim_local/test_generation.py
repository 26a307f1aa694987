"""Stop strings are found wherever the token borders are."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_platform.nim_local.generation import StopScanner


def scan(stops: tuple[str, ...], pieces: list[str]) -> tuple[str, str | None]:
    """What remains of the pieces, and the stop string that ended them."""
    scanner = StopScanner(stops)
    kept = ""
    for piece in pieces:
        kept += scanner.feed(piece)
        if scanner.found is not None:
            return kept, scanner.found
    return kept + scanner.rest(), None


@pytest.mark.parametrize(
    ("stops", "pieces", "expected"),
    [
        pytest.param(("Paris",), ["is ", "Par", "is", "!"], ("is ", "Paris"), id="across-pieces"),
        pytest.param(("\n\n",), ["a\n", "b\n", "\nc"], ("a\nb", "\n\n"), id="false-start"),
        pytest.param(("xyz",), ["ends with x", "y"], ("ends with xy", None), id="beginning-at-the-end"),
        pytest.param(("b", "a"), ["cab"], ("c", "a"), id="earliest-wins"),
        pytest.param((), ["all", " of it"], ("all of it", None), id="none"),
    ],
)
def test_stop_scanner(stops: tuple[str, ...], pieces: list[str], expected: tuple[str, str | None]) -> None:
    """A stop string that reaches the client is part of the answer, and wrong."""
    assert scan(stops, pieces) == expected


@given(st.text(alphabet="ab", max_size=30), st.lists(st.integers(0, 30), max_size=6))
def test_borders_of_pieces_do_not_matter(text: str, cuts: list[int]) -> None:
    """Whatever way a text is cut into pieces, the same part of it is kept."""
    borders = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    pieces = [text[start:end] for start, end in itertools.pairwise(borders)]

    kept, found = scan(("aab", "bb"), pieces)

    hits = [position for stop in ("aab", "bb") if (position := text.find(stop)) >= 0]
    # A later stop string may be complete earlier; what is kept never contains one.
    assert (found is not None) == bool(hits)
    assert text.startswith(kept)
    assert "aab" not in kept
    assert "bb" not in kept
