"""Few-shot examples chosen for each document from a frozen pool.

Nearness is lexical: TF-IDF over words, and nothing that is downloaded. It is written out here rather than taken from a
library, because it is part of a release's identity: an upgrade must not choose other examples for a stored release.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest

from llm_platform.records import DocumentRow, ExampleSelection, PoolExample, content_hash

Example = dict[str, str]

OVERLAP = 0.5
"""Share of the shorter text's runs of three words that the other has, too, from which on the two say the same."""
RUN_WORDS = 3
_WORD = re.compile(r"\w+")


def pool_hash(pool: Iterable[PoolExample]) -> str:
    """Content hash of a pool, whatever the order of its rows; a document's id is not part of what is shown."""
    rows = [example.model_dump(mode="json", exclude={"document_id", "fingerprint"}) for example in pool]
    return content_hash(sorted(rows, key=content_hash))


class ExampleSelector:
    """Chooses the examples of each document.

    One that overlaps with the document is never chosen: it would show the answer. Preferred examples come before all
    others. The best one stands last in the result, next to the question.
    """

    def __init__(self, selection: ExampleSelection, pool: Sequence[PoolExample]) -> None:
        # An order that depends on the content alone, so that equal pools choose equally.
        self._pool = sorted(pool, key=_seeded)
        self._selection = selection
        self._runs: dict[str, list[int]] = defaultdict(list)
        self._run_counts: list[int] = []
        for place, example in enumerate(self._pool):
            runs = _word_runs(example.text)
            self._run_counts.append(len(runs))
            for run in runs:
                self._runs[run].append(place)
        self._order = list(_in_turn(self._pool))
        self._index = _TfIdf([example.text for example in self._pool]) if selection.select == "nearest" else None

    def choose(self, row: DocumentRow) -> tuple[Example, ...]:
        """The examples to show with one document; fewer than asked for only where the pool has no more."""
        same = self._overlapping(row)
        places = (place for place in self._ranked(row) if place not in same)
        chosen = [place for place, _ in zip(places, range(self._selection.count), strict=False)]
        return tuple(_shown(self._pool[place]) for place in reversed(chosen))

    def _ranked(self, row: DocumentRow) -> list[int]:
        if self._index is None:
            return self._order
        similarity = self._index.similarities(row.text)
        return sorted(self._order, key=lambda place: (not self._pool[place].preferred, -similarity.get(place, 0.0)))

    def _overlapping(self, row: DocumentRow) -> set[int]:
        runs = _word_runs(row.text)
        shared = Counter(place for run in runs for place in self._runs.get(run, ()))
        near = {
            place
            for place, count in shared.items()
            if count >= OVERLAP * max(1, min(len(runs), self._run_counts[place]))
        }
        return near | {place for place, example in enumerate(self._pool) if example.fingerprint == row.fingerprint}


class _TfIdf:
    """Cosine similarity of texts under TF-IDF weights with `1 + log(count)` and smoothed document frequencies."""

    def __init__(self, texts: Sequence[str]) -> None:
        counts = [Counter(_words(text)) for text in texts]
        frequency = Counter(word for count in counts for word in count)
        self._weight = {word: math.log((1 + len(texts)) / (1 + found)) + 1.0 for word, found in frequency.items()}
        self._postings: dict[str, list[tuple[int, float]]] = defaultdict(list)
        for place, count in enumerate(counts):
            for word, value in self._vector(count).items():
                self._postings[word].append((place, value))

    def similarities(self, text: str) -> dict[int, float]:
        """Place → similarity, of the texts that share a word with this one."""
        found: dict[int, float] = defaultdict(float)
        for word, value in self._vector(Counter(_words(text))).items():
            for place, other in self._postings[word]:
                found[place] += value * other
        # Rounded: the last bits depend on the processor's logarithm, and an example must not.
        return {place: round(value, 9) for place, value in found.items()}

    def _vector(self, counts: Counter[str]) -> dict[str, float]:
        raw = {word: (1.0 + math.log(counts[word])) * self._weight[word] for word in counts if word in self._weight}
        length = math.sqrt(math.fsum(value * value for value in raw.values())) or 1.0
        return {word: value / length for word, value in sorted(raw.items())}


def _in_turn(pool: Sequence[PoolExample]) -> Iterator[int]:
    """Places of a pool, preferred ones first; the answers take turns, so that a few examples show several of them."""
    for preferred in (True, False):
        by_answer: dict[str, list[int]] = defaultdict(list)
        for place, example in enumerate(pool):
            if example.preferred == preferred:
                by_answer[example.answer].append(place)
        for turn in zip_longest(*(by_answer[answer] for answer in sorted(by_answer))):
            yield from (place for place in turn if place is not None)


def _seeded(example: PoolExample) -> str:
    return hashlib.sha256(f"{example.text}\x00{example.answer}".encode()).hexdigest()


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


def _word_runs(text: str) -> set[str]:
    words = _words(text)
    if len(words) <= RUN_WORDS:
        return {" ".join(words)}
    return {" ".join(words[start : start + RUN_WORDS]) for start in range(len(words) - RUN_WORDS + 1)}


def _shown(example: PoolExample) -> Example:
    attributes = {name: value or "" for name, value in example.attributes.items()}
    return {**attributes, "text": example.text, "answer": example.answer}
