"""Who decided is said in the same words wherever it is read."""

from __future__ import annotations

from llm_platform.records.evaluation import FIRST_CHAMPION, whom


def test_nobody_reads_the_name_of_a_setting_as_a_person() -> None:
    """The start page, the card and `explain` say the same; a person is named as recorded."""
    assert whom(FIRST_CHAMPION) == "the first run (no other champion was there)"
    assert whom("ada@example.org") == "ada@example.org"
