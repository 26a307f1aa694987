"""Rubrics of judges: read from files, every mistake with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from llm_platform.errors import SpecificationError
from llm_platform.prompts.judge_file import load_judges
from llm_platform_tests.prompts.test_prompt_files import application_in

GRADES = "---\napi: chat\nmodel: tiny\n---\n# user\n\n{{ text }}\nAnswer: {{ answer }}\nKnown: {{ reference }}\n"
COMPARES = "---\napi: chat\nmodel: tiny\nexplain: 80\n---\n# user\n\n{{ text }}\n1: {{ first }}\n2: {{ second }}\n"


def folder_with(tmp_path: Path, **files: str) -> Path:
    (tmp_path / "judges").mkdir()
    for name, text in files.items():
        (tmp_path / "judges" / f"{name}.md").write_text(text, encoding="utf-8")
    return tmp_path


def mistakes_of(tmp_path: Path, text: str) -> list[str]:
    application = application_in(folder_with(tmp_path, grader=text), "---\napi: completion\n---\n{{ text }}")
    with pytest.raises(SpecificationError) as raised:
        load_judges(application, models={"tiny", "large"})
    return str(raised.value).replace(str(application.folder), "F").split("\n")


def test_what_a_rubric_reads_says_what_it_does(tmp_path: Path) -> None:
    """No option to get wrong: `answer` is graded, `first` and `second` are compared."""
    application = application_in(
        folder_with(tmp_path, right=GRADES, better=COMPARES), "---\napi: completion\n---\n{{ text }}"
    )

    judges = load_judges(application, models={"tiny"})

    assert not judges["right"].compares
    assert judges["right"].verdicts == {"right": 1.0, "wrong": 0.0}
    assert judges["right"].verdict_schema()["properties"] == {"verdict": {"type": "string", "enum": ["right", "wrong"]}}
    assert judges["better"].compares
    assert list(judges["better"].verdict_schema()["properties"]) == ["reason", "verdict"]
    assert judges["better"].verdict_schema()["properties"]["verdict"]["enum"] == ["first", "second", "tie"]


def test_a_changed_rubric_is_another_judge(tmp_path: Path) -> None:
    """Its verdicts, and the agreement that was measured, are of the rubric that was asked."""
    versions = set()
    for index, text in enumerate((GRADES, GRADES.replace("Answer:", "The answer:"))):
        folder = tmp_path / str(index)
        folder.mkdir()
        application = application_in(folder_with(folder, right=text), "---\napi: completion\n---\n{{ text }}")
        versions.add(load_judges(application, models={"tiny"})["right"].prompt.version)

    assert len(versions) == 2


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        pytest.param(
            "model: tiny",
            "model: tinny",
            [
                "F/judges/grader.md:3: found model 'tinny'; allowed: an entry of the lock file ('large', 'tiny'); did "
                "you mean 'tiny'?"
            ],
            id="model",
        ),
        pytest.param(
            "{{ answer }}",
            "something",
            [
                "F/judges/grader.md:5: found a rubric that reads 'reference', 'text'; allowed: {{ answer }} to grade "
                "one answer, or {{ first }} and {{ second }} to choose between two"
            ],
            id="reads-no-answer",
        ),
        pytest.param(
            "{{ reference }}",
            "{{ refrence }}",
            [
                "F/judges/grader.md:9: found variable 'refrence'; allowed: 'text', 'answer', 'reference', 'first', "
                "'second', 'product', 'language', 'examples', 'labels'; did you mean 'reference'?"
            ],
            id="variable",
        ),
        pytest.param(
            "model: tiny",
            "model: tiny\nverdicts: {good: 1.5, bad: 0.0}",
            ["F/judges/grader.md:4: found score 1.5; allowed: a number from 0 to 1"],
            id="score",
        ),
        pytest.param(
            "model: tiny",
            "model: tiny\nverdicts: {good: 1.0, fine: 1.0}",
            ["F/judges/grader.md:4: found verdicts that all score the same; allowed: at least two scores"],
            id="one-score",
        ),
    ],
)
def test_a_mistake_is_reported_with_its_line(tmp_path: Path, old: str, new: str, expected: list[str]) -> None:
    """A rubric is written by a domain expert; the message has to do."""
    assert old in GRADES

    assert mistakes_of(tmp_path, GRADES.replace(old, new)) == expected


def test_a_rubric_that_compares_has_its_own_verdicts(tmp_path: Path) -> None:
    """Which of two is better has three answers, and their scores follow."""
    text = COMPARES.replace("explain: 80", "verdicts: {a: 1.0, b: 0.0}")

    assert mistakes_of(tmp_path, text) == [
        "F/judges/grader.md:4: found verdicts; allowed: none: a rubric that compares says 'first', 'second' or 'tie'"
    ]
