"""`llm-platform contract`: for a person, for another program, and for CI."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from llm_platform.cli.main import app
from llm_platform.operations.release.contracts import tables_of
from llm_platform_tests.team import NAME, Team
from llm_platform_tests.warehouse.builders import fill


@pytest.fixture
def team(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Team:
    """A consumer who reads the published table."""
    team = Team(tmp_path, "http://127.0.0.1:9", documents=2)
    (team.folder / "totals.sql").write_text("SELECT answer, count(*) FROM published_v1 GROUP BY 1", encoding="utf-8")
    team.specification["publish"] = {"consumers": {"dashboard": {"queries": ["totals.sql"]}}}
    team.write_specification()
    monkeypatch.setenv("LLM_PLATFORM_STATE", str(team.settings.state))
    monkeypatch.setenv("LLM_PLATFORM_NAMESPACE", "test")
    monkeypatch.setenv("LLM_PLATFORM_APPLICATIONS", str(team.root / "applications"))
    monkeypatch.setenv("LLM_PLATFORM_MODELS_LOCK", str(team.lock_file))
    return team


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["contract", *arguments])


def publish(team: Team) -> None:
    with team.warehouse.open() as lake:
        store = lake.application(NAME)
        fill(lake, "ab", application=NAME)
        store.published.publish("r", [tables_of(store, team.loaded.application).described])


def test_ci_learns_who_breaks_on_what_by_exit_status_and_json(team: Team) -> None:
    """A merge that breaks a dashboard has to fail before it is merged, by a status that any CI reads."""
    without_a_lake = call("check", NAME)
    publish(team)
    same = call("check", NAME, "--json")
    team.specification["labels"] = ["HAPPY", "SAD", "ANGRY"]
    for prompt in ("clear", "vague"):
        path = team.folder / "prompts" / f"{prompt}.md"
        path.write_text(path.read_text().replace("SAD: SAD}", "SAD: SAD, ANGRY: ANGRY}"))
    team.write_specification()

    broken = call("check", NAME, "--json")
    told = call("check", NAME)

    assert (without_a_lake.exit_code, same.exit_code, broken.exit_code, told.exit_code) == (0, 0, 1, 1)
    assert "nothing is published under that number yet" in without_a_lake.output
    assert json.loads(same.stdout)["published"] == {"published_v1": "1.0.0"}
    said = json.loads(broken.stdout)
    assert said["holds"] is False
    assert said["breaks"] == [
        {
            "consumer": "dashboard",
            "query": "totals.sql",
            "table": "published_v1",
            "column": "answer",
            "why": "may have the values 'ANGRY', which it never had",
        }
    ]
    assert said["changes"][0] | {"kind": "breaking", "column": "answer"} == said["changes"][0]
    assert "breaks: dashboard (totals.sql) breaks on published_v1.answer" in told.output


def test_a_contract_is_shown_to_people_and_to_tools(team: Team) -> None:
    """What a reader may rely on is one command away, in the form that their tool takes."""
    shown = call("show", NAME)
    content = call("show", NAME, "--json")
    schema = call("show", NAME, "--format", "json-schema")
    standard = call("show", NAME, "--format", "odcs")

    assert [one.exit_code for one in (shown, content, schema, standard)] == [0] * 4
    assert "one of HAPPY, SAD" in shown.output
    assert json.loads(content.stdout)["version"] == "1.0.0"
    assert json.loads(schema.stdout)["properties"]["answer"]["enum"] == ["HAPPY", "SAD", None]
    assert yaml.safe_load(standard.stdout)["kind"] == "DataContract"
