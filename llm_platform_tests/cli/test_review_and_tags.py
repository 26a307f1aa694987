"""Verdicts and tags from the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest
from typer.testing import CliRunner, Result

from llm_platform.cli.main import app
from llm_platform.errors import PlatformError, SpecificationError
from llm_platform.resources.run_tags import run_tag_key, tag_run
from llm_platform_tests.review.cases import filled, team_with
from llm_platform_tests.survival.command import Terminal
from llm_platform_tests.team import NAME, Team

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Team:
    team = team_with(tmp_path_factory.mktemp("team"))
    with team.warehouse.open() as lake:
        filled(lake, team.loaded, {"clear": {"0": "SAD", "1": "HAPPY"}})
    return team


@pytest.fixture
def run(team: Team) -> Run:
    """Runs a command in this process; an error raised on purpose is raised here too."""

    def run(*arguments: str) -> Result:
        finished = CliRunner().invoke(app, list(arguments), env=Terminal(team).variables)
        if isinstance(finished.exception, PlatformError):
            raise finished.exception
        assert finished.exit_code == 0, finished.output
        return finished

    return run


def test_tags_are_put_on_found_and_taken_off(run: Run, team: Team) -> None:
    """A tag is worth what it finds again: by its words, by its subject, and for few-shot selection."""
    with team.warehouse.open() as lake:
        store = lake.application(NAME)
        release = store.releases.table()["release_id"].to_pylist()[0]

    run("tag", "add", NAME, "Use as  few-shot", "--document", "0", "--note", "short and typical")
    run("tag", "add", NAME, "use as few-shot", "--document", "0")
    run("tag", "add", NAME, "good example", "--release", release, "--document", "1")
    run("tag", "add", NAME, "do not use", "--prompt", "vague")
    run("tag", "add", NAME, "do not use", "--release", release)

    with team.warehouse.open() as lake:
        annotations = lake.application(NAME).annotations
        assert annotations.tagged("use as few-shot")["document_id"].to_pylist() == ["0"]
        assert annotations.tags("answer", f"{release}/1")["body"].to_pylist() == ["good example"]
    assert "short and typical" in run("tag", "search", "TYPICAL").output
    assert "Nothing found" in run("tag", "search", "typical of nothing", "--application", NAME).output
    listed = run("tag", "list", NAME, "--tag", "do not use").output
    assert "vague" in listed
    assert release in listed
    assert "1 removed" in run("tag", "remove", NAME, "do not use", "--prompt", "vague").output
    assert "has no such tag" in run("tag", "remove", NAME, "do not use", "--prompt", "vague").output
    assert "vague" not in run("tag", "list", NAME, "--tag", "do not use").output
    assert "Tagged" in run("tag", "add", NAME, "do not use", "--prompt", "vague").output


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        pytest.param((), "Found nothing. Name one of --prompt", id="nothing"),
        pytest.param(("--prompt", "clear", "--run", "x"), "Found --prompt and --run", id="two"),
        pytest.param(("--prompt", "loud"), "has no prompt 'loud'. There are: clear, vague", id="prompt"),
        pytest.param(("--release", "x"), "has no stored release 'x'", id="release"),
        pytest.param(("--document", "x"), "has no document 'x'", id="document"),
    ],
)
def test_a_tag_on_nothing_is_refused_in_words(run: Run, arguments: tuple[str, ...], complaint: str) -> None:
    """A tag on a misspelt name would be found by nobody."""
    with pytest.raises(SpecificationError, match=complaint):
        run("tag", "add", NAME, "good", *arguments)


def test_a_tag_on_a_run_is_shown_by_dagster(run: Run, team: Team) -> None:
    """People look for runs where runs are listed; a run of another machine is known to the lake alone."""
    said = run("tag", "add", NAME, "good example", "--run", "a run elsewhere").output
    assert "only the lake knows of the tag" in said
    assert "a run elsewhere" in run("tag", "list", NAME).output

    with dg.instance_for_test() as instance:
        made = instance.create_run_for_job(_job, run_id=None)

        assert tag_run(instance, made.run_id, "Good example!", "ada")
        assert not tag_run(instance, "00000000-0000-0000-0000-000000000000", "good", "ada")

        found = instance.get_runs(dg.RunsFilter(tags={run_tag_key("Good example!"): "ada"}))
        assert [one.run_id for one in found] == [made.run_id]


def test_verdicts_go_out_and_come_in(run: Run, team: Team, tmp_path: Path) -> None:
    """Experts label in spreadsheets too."""
    given = tmp_path / "given.csv"
    given.write_text("document_id,answer,note\n0,SAD,clear case\n", "utf-8")
    out = tmp_path / "out.csv"

    assert "2 rows are new" in run("review", "import", NAME, str(given), "--by", "ada").output
    assert "Wrote 1 rows" in run("review", "export", NAME, str(out)).output
    assert "0 rows are new, 1 were there already" in run("review", "import", NAME, str(out)).output

    assert "ada" in out.read_text("utf-8")
    assert "clear case" not in out.read_text("utf-8")


def test_a_token_is_shown_once_and_its_line_can_be_read(run: Run, tmp_path: Path) -> None:
    """The file that says who may judge holds nothing with which somebody could sign in."""
    from llm_platform.review.people import Access, read_people

    lines = run("review", "token", "ada", "--role", "adjudicator").output.splitlines()
    people = tmp_path / "people"
    people.write_text(lines[1] + "\n", "utf-8")

    found = Access(people=read_people(people)).of_token(lines[3])

    assert found is not None
    assert found.adjudicates
    assert lines[3] not in people.read_text("utf-8")
    with pytest.raises(SpecificationError, match="There is no role 'boss'"):
        run("review", "token", "ada", "--role", "boss")


def test_the_page_is_not_opened_to_others_unconfigured(run: Run) -> None:
    """`--host 0.0.0.0` is typed quickly, and documents are confidential."""
    with pytest.raises(SpecificationError, match="others can reach it"):
        run("review", NAME, "--host", "0.0.0.0")


@dg.op
def _nothing() -> None: ...


@dg.job
def _job() -> None:
    _nothing()
