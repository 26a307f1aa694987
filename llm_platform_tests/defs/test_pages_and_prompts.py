"""Dagster's own pages lead to ours, show prompts, and a merged prompt starts one run that trains nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from llm_platform.cli.pipeline import links_to_pages
from llm_platform.defs import evaluation
from llm_platform.defs.evaluation import hold_champion_again
from llm_platform.defs.graph import Graph
from llm_platform.defs.prompts import prompt_asset, prompt_text
from llm_platform.defs.runs import FOLLOWED_TAG, STATE_TAG, finetune_job
from llm_platform.defs.sensors import adapters_trained_sensor, files_changed_sensor, files_state
from llm_platform.operations.answering.documents import update_documents
from llm_platform.workbench.runs import shown_as
from llm_platform_tests.review.cases import filled, judged
from llm_platform_tests.team import NAME, Team, right_answer


@pytest.fixture
def team(tmp_path: Path) -> Team:
    return Team(tmp_path, "http://127.0.0.1:9", documents=4)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as instance:
        yield instance


class Looks:
    """The sensor of a team's files, with the cursor that Dagster would keep."""

    def __init__(self, team: Team, instance: dg.DagsterInstance) -> None:
        self.team, self.instance, self.cursor = team, instance, None

    def tick(self) -> dg.RunRequest | str:
        sensor = files_changed_sensor(Graph(self.team.loaded, self.team.settings), job_name=NAME)
        with dg.build_sensor_context(
            instance=self.instance, cursor=self.cursor, resources={"warehouse": self.team.warehouse}
        ) as context:
            found: Any = sensor(context)
            self.cursor = context.cursor
        return found if isinstance(found, dg.RunRequest) else str(found.skip_message)

    def ended(self, request: dg.RunRequest, status: dg.DagsterRunStatus) -> None:
        """A run that was asked for has ended so."""
        run = dg.DagsterRun(job_name=NAME, tags=dict(request.tags), status=status)
        self.instance.add_run(run)


def test_a_merged_prompt_becomes_one_run_and_no_more(team: Team, instance: dg.DagsterInstance) -> None:
    """Whoever merges a prompt has asked for it; a run that leaves something undone is not asked for again for ever."""
    looks = Looks(team, instance)
    assert "nothing was run yet" in str(looks.tick())
    with team.warehouse.open() as lake:
        update_documents(lake, team.loaded)
    first = looks.tick()
    assert isinstance(first, dg.RunRequest)
    looks.ended(first, dg.DagsterRunStatus.SUCCESS)
    assert "follows it" in str(looks.tick())
    assert "as it was looked at" in str(looks.tick())

    team.write_prompt("vague", "Is this HAPPY, or SAD? {{ text }}")
    second = looks.tick()

    assert isinstance(second, dg.RunRequest)
    assert second.tags[STATE_TAG] != first.tags[STATE_TAG]
    assert looks.tick().run_key == second.run_key  # type: ignore[union-attr]


def test_what_was_trained_becomes_one_run_of_the_everyday_job(team: Team, instance: dg.DagsterInstance) -> None:
    """One click trains, answers with the adapter and judges it; a terminal that trained goes on by itself."""
    sensor = adapters_trained_sensor(Graph(team.loaded, team.settings), job_name=NAME)
    cursor: str | None = None

    def tick() -> dg.RunRequest | str:
        nonlocal cursor
        with dg.build_sensor_context(instance=instance, cursor=cursor) as context:
            found: Any = sensor(context)
            cursor = context.cursor
        return found if isinstance(found, dg.RunRequest) else str(found.skip_message)

    def trained(**tags: str) -> None:
        run = dg.DagsterRun(job_name=finetune_job(NAME), tags=tags, status=dg.DagsterRunStatus.SUCCESS)
        instance.add_run(run)

    before = tick()
    trained()
    after, again = tick(), tick()
    trained(**{FOLLOWED_TAG: "true"})
    of_a_terminal = tick()

    assert isinstance(after, dg.RunRequest)
    assert "has not ended" in str(before)
    assert "has not ended" in str(again)
    assert "gone on by itself" in str(of_a_terminal)


@pytest.mark.parametrize(
    ("change", "moves"),
    [
        pytest.param({"rollout": {"first_champion": "manual"}}, True, id="who-decides"),
        pytest.param({"review": {"guidelines": "Read it."}}, False, id="what-reviewers-read"),
        pytest.param({"owners": ["team:other"]}, False, id="who-owns-it"),
    ],
)
def test_what_changes_no_answer_starts_no_run(team: Team, change: dict[str, Any], moves: bool) -> None:
    """A corrected sentence for reviewers must not cost a run."""
    before = files_state(team.loaded)
    team.specification |= change
    team.write_specification()

    assert (files_state(team.loaded) != before) is moves


def test_a_prompt_is_read_in_the_graph_without_its_examples(team: Team) -> None:
    """What is asked is looked up where its runs are; examples are documents, and stay in the lake."""
    prompt = team.loaded.prompts["clear"]
    shown = prompt_text(prompt.model_copy(update={"examples": ({"text": "a secret ticket", "answer": "SAD"},)}))
    asset = prompt_asset(Graph(team.loaded, team.settings), prompt)
    [metadata] = asset.metadata_by_key.values()

    assert "Say clearly whether this is HAPPY or SAD: {{ text }}" in shown
    assert "1 frozen examples" in shown
    assert "secret" not in shown
    assert "prompt" in metadata


def test_links_of_assets_are_addresses_that_a_browser_opens(team: Team) -> None:
    """A browser opens no file from a page of a server."""
    graph = Graph(team.loaded, team.settings)

    assert graph.page("cards/card").url == f"http://127.0.0.1:8765/{NAME}/cards/card"
    elsewhere = Graph(team.loaded, team.settings.model_copy(update={"review_url": "https://pages.example/"}))
    assert elsewhere.page("cards/card").url == f"https://pages.example/{NAME}/cards/card"


def test_links_lead_to_the_port_that_the_pages_are_on(team: Team) -> None:
    """`llm-platform dev --page-port 9000` beside another one: its links must not open the other one's pages."""
    settings = team.settings
    configured = settings.model_copy(update={"review_url": "https://pages.example"})

    assert links_to_pages(settings, 8765) == links_to_pages(settings, 0) == links_to_pages(configured, 9000) == {}
    assert links_to_pages(settings, 9000) == {"LLM_PLATFORM_REVIEW_URL": "http://127.0.0.1:9000"}
    assert "review_url" in type(settings).model_fields


def test_no_asset_links_to_a_file() -> None:
    """A `file://` that a browser refuses looks like a link, and is none; a path is words."""
    folder = Path(evaluation.__file__).parent

    assert [
        file.name for file in folder.glob("*.py") if "MetadataValue.path(" in file.read_text(encoding="utf-8")
    ] == []


def test_runs_of_a_terminal_are_on_dagsters_timeline(instance: dg.DagsterInstance) -> None:
    """The timeline leaves out runs that do not say where their job is defined."""

    @dg.asset
    def one() -> None: ...

    job = dg.Definitions([one], jobs=[dg.define_asset_job("job", "*")]).resolve_job_def("job")
    with shown_as(instance, "job"):
        inside = job.execute_in_process(instance=instance)
    outside = job.execute_in_process(instance=instance)

    run, other = (instance.get_run_by_id(result.run_id) for result in (inside, outside))
    assert run is not None
    assert run.remote_job_origin is not None
    origin = run.remote_job_origin
    assert (origin.job_name, origin.location_name) == ("job", "llm_platform")
    assert origin.repository_origin.repository_name == "__repository__"
    assert other is not None
    assert other.remote_job_origin is None


def test_the_champions_checks_hold_once_there_is_one(
    instance: dg.DagsterInstance, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """400 published rows do not stand beside "nothing is published yet"."""
    team = Team(tmp_path_factory.mktemp("judged"), "http://127.0.0.1:9", documents=60)
    graph = Graph(team.loaded, team.settings)
    key = dg.AssetCheckKey(graph.key("report"), "champion_accuracy_at_least_minimum")
    with team.warehouse.open() as lake:
        filled(lake, team.loaded, {"clear": {str(number): right_answer(number) for number in range(60)}})
        judged(lake, team.loaded, cards_folder=graph.cards_folder)

        hold_champion_again(instance, lake.application(NAME), graph)

    [record] = instance.event_log_storage.get_asset_check_execution_history(key, limit=5)
    event = record.event.dagster_event
    assert event is not None
    assert event.asset_check_evaluation_data.passed
    assert event.asset_check_evaluation_data.metadata["minimum"].value == 0.7
    lower = event.asset_check_evaluation_data.metadata["lower"].value
    assert lower == round(float(str(lower)), 4)
