"""Which texts processes are asking about, as others see it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from llm_platform.errors import StorageError
from llm_platform.inference.asked import AskedTexts


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pair(tmp_path: Path, clock: Clock) -> Iterator[tuple[AskedTexts, AskedTexts]]:
    """What a run and a service share."""
    run, service = (AskedTexts(tmp_path / "new" / "asked", holder, clock=clock) for holder in ("run", "service"))
    yield run, service
    run.close()
    service.close()


def test_a_text_is_asked_by_whoever_takes_it_first(pair: tuple[AskedTexts, AskedTexts]) -> None:
    """The other one is told, and its further texts are its own."""
    run, service = pair

    assert run.take(["a", "b"], seconds=60) == set()
    assert service.take(["b", "c"], seconds=60) == {"b"}
    assert run.take(["a", "b", "c"], seconds=60) == {"c"}


def test_who_has_died_or_fallen_silent_stands_in_nobodys_way(pair: tuple[AskedTexts, AskedTexts], clock: Clock) -> None:
    """A text whose answer never comes has to be asked again; who has ended may have stored it: one looks first."""
    run, service = pair
    run.take(["slow"], seconds=60)
    clock.now += 61
    assert service.take(["slow"], seconds=60) == set()

    run.take(["killed"], seconds=60)
    run.close()

    assert service.take(["killed"], seconds=60) == {"killed"}
    assert service.take(["killed"], seconds=60) == set()


def test_the_file_does_not_grow_and_the_newest_texts_are_known(
    pair: tuple[AskedTexts, AskedTexts], tmp_path: Path
) -> None:
    """A run of millions goes through it; what it asks about now is what others want to know."""
    run, service = pair
    texts = [str(number) for number in range(20_000)]
    run.take(texts, seconds=60)

    assert service.take(texts[-10_000:], seconds=60) == set(texts[-10_000:])
    assert (tmp_path / "new" / "asked").stat().st_size <= 2**14 * 8 * 24


def test_who_is_late_writes_into_no_file_that_others_have_opened_since(tmp_path: Path) -> None:
    """A number of a file is given to the next one that is opened, which may be anybody's."""
    asked = AskedTexts(tmp_path / "asked", "run")
    asked.close()
    other = os.open(tmp_path / "other", os.O_RDWR | os.O_CREAT)

    assert asked.take(["a"], seconds=60) == set()
    assert os.fstat(other).st_size == 0
    os.close(other)


def test_a_disk_that_takes_nothing_is_told(tmp_path: Path) -> None:
    """The folder is named, since that is what has to be mended."""
    (tmp_path / "file").write_text("")

    with pytest.raises(StorageError, match="Cannot note in "):
        AskedTexts(tmp_path / "file" / "asked", "run")
