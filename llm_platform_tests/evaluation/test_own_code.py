"""A team's own scorers, metrics and panels: found, checked, and told apart when they change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llm_platform.application.evaluation import Evaluation, Gates
from llm_platform.application.model import Application
from llm_platform.errors import ContractBroken, SpecificationError
from llm_platform.evaluation import own_code
from llm_platform.evaluation.further import own_panels
from llm_platform.evaluation.scorers import scorer_of
from llm_platform.evaluation.yardstick import evaluated_rows
from llm_platform_tests.evaluation.builders import MINIMUM, World, application_of

CODE = """
import math
from llm_platform.evaluation.panel import Panel
from llm_platform.records import Interval


def length(answer, reference):
    return min(len(answer or ""), len(reference)) / max(len(answer or ""), len(reference))


def truth(answer, reference):
    return answer == reference, "compared as it is"


def shy(answer, reference):
    return None, "cannot say"


def percent(answer, reference):
    return 85


def words(answer, reference):
    return "right"


def refusals(rows):
    return float((rows["predicted"] == "I cannot").mean())


def bounded(rows):
    return Interval(value=0.5, lower=0.4, upper=0.6, confidence=0.95, count=len(rows))


def undefined(rows):
    return math.nan


def by_length(rows):
    return Panel(title="By length", columns=("length", "documents"), rows=(("short", str(len(rows))),))


def narrow(answer):
    return 1.0
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An application's folder with a `grading.py`."""
    (tmp_path / "grading.py").write_text(CODE, encoding="utf-8")
    return tmp_path


def applying(folder: Path, **evaluation: Any) -> Application:
    gates = Gates(accuracy=MINIMUM)
    return application_of("generate", folder=folder, evaluation=Evaluation(gates=gates, **evaluation))


def score(folder: Path, name: str) -> Any:
    world = World(application=applying(folder, scorers=(f"grading:{name}",)))
    return world.add(answer="abcd", reference="abcdefgh").scores()[0]


def test_a_function_of_the_folder_scores(folder: Path) -> None:
    """A number, a truth value with a reason, or nothing with a reason; the reasons are kept apart from ours.

    A reason of a team's code may quote the answer, and ours are counted on the report card.
    """
    assert score(folder, "length").score == 0.5
    truth, shy = score(folder, "truth"), score(folder, "shy")
    assert (truth.score, truth.reason, truth.said) == (0.0, None, "compared as it is")
    assert (shy.score, shy.reason, shy.said) == (None, "grading:shy gives no score", "cannot say")


def test_what_own_code_raises_is_told_by_class_and_place(folder: Path) -> None:
    """The message of an exception may quote the row that it was raised for; the place is what its author needs."""
    code = "def raises(answer, reference):\n    raise ValueError(f'cannot grade {answer}')\n"
    counts = "def counts(rows):\n    return rows['none']\n"
    (folder / "grading.py").write_text(code + counts, encoding="utf-8")

    with pytest.raises(ContractBroken, match=r"raised ValueError at .*grading.py:2 .raises.*'d00000'") as caught:
        score(folder, "raises")
    world = World(application=applying(folder, metrics=("grading:counts",))).add(2, answer="abcd", reference="a")
    with pytest.raises(ContractBroken, match=r"Metric 'grading:counts' raised KeyError at .*"):
        world.report()

    assert "abcd" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_own_code_that_ends_the_process_is_told_like_any_error(folder: Path) -> None:
    """`sys.exit` with a message is how scripts fail; it went through to the log and both of Dagster's databases."""
    (folder / "grading.py").write_text(
        "import sys\ndef ends(answer, reference):\n    sys.exit(f'cannot grade {answer}')\n", encoding="utf-8"
    )
    (folder / "script.py").write_text("import sys\nsys.exit('no abcd here')\n", encoding="utf-8")

    with pytest.raises(ContractBroken, match=r"raised SystemExit at .*grading.py:3 .ends") as caught:
        score(folder, "ends")
    for _ in range(2):
        with pytest.raises(SpecificationError, match=r"it raised SystemExit at .*script.py:2") as refused:
            own_code.load_function("script:it", folder, arguments=())

    assert "abcd" not in f"{caught.value}{refused.value}"


def test_own_code_may_raise_what_is_no_exception(folder: Path) -> None:
    """A class derived from BaseException passes every `except Exception`, Dagster's too, with its message."""
    code = "class Own(BaseException):\n    pass\ndef raises(answer, reference):\n    raise Own(answer)\n"
    (folder / "grading.py").write_text(code, encoding="utf-8")

    with pytest.raises(ContractBroken, match=r"raised Own at .*grading.py:4 .raises") as caught:
        score(folder, "raises")

    assert "abcd" not in str(caught.value)


@pytest.mark.parametrize("raised", ["KeyboardInterrupt", "DagsterExecutionInterruptedError"])
def test_an_interruption_is_not_the_codes_own(folder: Path, raised: str) -> None:
    """Ctrl-C and a run terminated in Dagster's pages arrive in whatever is at work."""
    of_dagster = "class DagsterExecutionInterruptedError(BaseException):\n    pass\n"
    code = f"def raises(answer, reference):\n    raise {raised}()\n"
    (folder / "grading.py").write_text(of_dagster + code, encoding="utf-8")

    with pytest.raises(BaseException) as caught:  # noqa: PT011 - of either class
        score(folder, "raises")

    assert type(caught.value).__name__ == raised


def test_an_installed_function_scores() -> None:
    """By its import path, where no file of the folder has the module's name."""
    application = applying(Path(), scorers=("llm_platform.evaluation.items:overlap",))

    scorer = scorer_of(application)

    assert scorer.grade is not None
    assert scorer.grade("ab", "ab").score == 1.0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        pytest.param("percent", "gave document 'd00000' the score 85.0. Return a number in .0, 1.", id="not-a-share"),
        pytest.param("words", "returned str: return a number", id="not-a-number"),
    ],
)
def test_a_scorer_that_breaks_the_contract_is_named(folder: Path, name: str, message: str) -> None:
    """85 of 100 is not 85; silently clipping it would make every answer right."""
    with pytest.raises(ContractBroken, match=message):
        score(folder, name)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        pytest.param("grading:lenght", "has no function 'lenght'. It has: bounded, by_length", id="function"),
        pytest.param("grader:length", "there is no grader.py in .* and no installed module 'grader'", id="module"),
        pytest.param(
            "grading:narrow", r"takes \(answer\); it will be called with \(answer, reference\)", id="arguments"
        ),
        pytest.param("broken:it", "cannot be imported: SyntaxError", id="syntax"),
    ],
)
def test_what_cannot_be_loaded_is_said_in_words(folder: Path, reference: str, message: str) -> None:
    """A trace back of importlib helps nobody who edits a YAML file."""
    (folder / "broken.py").write_text("def it(:\n", encoding="utf-8")

    with pytest.raises(SpecificationError, match=message):
        scorer_of(applying(folder, scorers=(reference,)))


def test_changed_code_has_another_name(folder: Path) -> None:
    """Scores are stored once by name; those of the old code must not pass for those of the new."""
    application = applying(folder, scorers=("grading:length",))
    before = scorer_of(application).name
    (folder / "grading.py").write_text(CODE + "\n# stricter\n", encoding="utf-8")

    assert scorer_of(application).name != before


def test_own_metrics_stand_in_the_report_and_own_panels_on_the_card(folder: Path) -> None:
    """What matters to the team is beside what the platform measures."""
    application = applying(folder, metrics=("grading:refusals", "grading:bounded"), panels=("grading:by_length",))
    world = World(application=application)
    world.add(3, answer="I cannot", reference="yes").add(1, answer="yes", reference="yes")

    report = world.report()
    rows = evaluated_rows(world.answers, world.references, world.scores(), scorer=report.scorer)
    panels = own_panels(rows, application, variant="plain")

    assert [(metric.name, metric.value) for metric in report.metrics] == [("refusals", 0.75), ("bounded", 0.5)]
    assert report.metrics[1].interval is not None
    assert [(panel.title, panel.variant, panel.rows) for panel in panels] == [("By length", "plain", (("short", "4"),))]


def test_a_metric_that_is_no_number_is_named(folder: Path) -> None:
    """A NaN on a card would be read as a bug of the platform."""
    world = World(application=applying(folder, metrics=("grading:undefined",))).add(2, answer="a", reference="a")

    with pytest.raises(ContractBroken, match="'grading:undefined' returned nan"):
        world.report()
