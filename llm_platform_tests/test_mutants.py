"""The list of mutants fits the code: one that no longer applies would be noticed by the nightly run only."""

from __future__ import annotations

import pytest

from llm_platform_tests.mutants import HERE, MUTANTS, Mutant


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name.replace(" ", "-"))
def test_a_mutant_applies_in_one_place_and_its_tests_are_there(mutant: Mutant) -> None:
    """A text that was moved is no fault any more, and a file of tests that was renamed decides nothing."""
    text = (HERE / "llm_platform" / mutant.file).read_text(encoding="utf-8")

    assert text.count(mutant.text) == 1
    assert (HERE / "llm_platform_tests" / mutant.test.split()[0]).is_file()
