"""A real model behind the resource: streams, a framework of others, a team's own asset, and the notebook."""

# Annotations are evaluated here: Dagster reads those of an asset's context.
import asyncio
import subprocess
import sys
from collections.abc import Iterator

import dagster as dg
import pytest

from llm_platform import connect
from llm_platform.definitions import build_definitions
from llm_platform.operations.answering.samples import load_sample
from llm_platform.resources.handed import local_nim
from llm_platform.settings.settings import CHECKOUT, Settings
from llm_platform.workbench.notebook import Platform
from llm_platform_tests.embedded import link_weights, stop_embedded
from llm_platform_tests.notebooks import run_notebook

MODEL = "smollm2-135m"
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A deployment with the documents of the shipped application, and nothing else yet."""
    state = tmp_path_factory.mktemp("state")
    made = Settings(state=state, namespace="test", nim_slots=4, modules=("review_tones",))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(CHECKOUT / "docs" / "examples"))
        platform = connect(settings=made)
        entry = platform.nim(MODEL).pinned
        link_weights(entry, state)
        load_sample(made.source_warehouses["upstream"], "movie_reviews", documents=24)
        job = build_definitions(made).resolve_job_def("movie_reviews")
        ran = job.execute_in_process(asset_selection=[dg.AssetKey(["movie_reviews", "documents"])], run_config=QUIET)
        assert ran.success
        yield made
        stop_embedded(entry, local_nim(made))


@pytest.fixture
def platform(settings: Settings) -> Iterator[Platform]:
    with connect(settings=settings) as connected:
        yield connected


def test_streams_of_a_real_endpoint_are_recorded_whole(platform: Platform) -> None:
    """Its chunks, its usage and its closing event are the ones that clients of NIM see."""
    nim = platform.nim(MODEL)
    question = [{"role": "user", "content": "Count to three."}]

    async def ask() -> str:
        async with nim.async_client() as client:
            stream = await client.chat.completions.create(  # type: ignore[call-overload]
                model=nim.model,
                messages=question,
                max_tokens=6,
                # Drawn, it may say less than it may.
                temperature=0.0,
                stream=True,
                stream_options={"include_usage": True},
            )
            return "".join([event.choices[0].delta.content or "" async for event in stream if event.choices])

    said = asyncio.run(ask())

    call = platform.calls().iloc[-1]
    assert (call["answer"], call["streamed"], call["complete"]) == (said, True, True)
    assert call["completion_tokens"] == 6
    assert call["model"]["weights_sha256"] == nim.pinned.weights.sha256  # type: ignore[union-attr]


def test_a_framework_of_others_runs_unmodified_and_is_recorded(platform: Platform) -> None:
    """What speaks the OpenAI API gets the client, and needs to know nothing of us."""
    from pydantic import BaseModel
    from pydantic_ai import Agent, NativeOutput
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    class Colour(BaseModel):
        """A colour."""

        name: str

    nim = platform.nim(MODEL)
    before = len(platform.calls())

    async def ask() -> Colour:
        async with nim.async_client() as client:
            model = OpenAIChatModel(nim.model, provider=OpenAIProvider(openai_client=client))
            agent = Agent(model, output_type=NativeOutput(Colour), retries=3)
            settings = {"max_tokens": 24, "temperature": 0.0}
            done = await agent.run("Name a colour, as JSON with the key name.", model_settings=settings)  # type: ignore[arg-type]
            return done.output

    colour = asyncio.run(ask())

    calls = platform.calls().iloc[before:]
    assert Colour.model_validate_json(calls.iloc[-1]["answer"]) == colour
    assert "json_schema" in str(calls.iloc[-1]["request"]["response_format"])


@pytest.mark.slow
def test_a_teams_own_asset_asks_and_is_on_record(settings: Settings, platform: Platform) -> None:
    """Fifteen lines in a team's own module, named by a setting, are part of the graph."""
    graph = build_definitions(settings)
    job = graph.resolve_implicit_global_asset_job_def()
    before = len(platform.calls())

    ran = job.execute_in_process(asset_selection=[dg.AssetKey("review_tones")], run_config=QUIET)

    (made,) = ran.asset_materializations_for_node("review_tones")
    calls = platform.calls().iloc[before:]
    assert made.metadata["dagster/row_count"].value == len(calls) == 10
    assert set(calls["caller"]) == {"asset review_tones"}
    assert set(calls["run_id"]) == {ran.run_id}


def test_a_teams_own_asset_depends_on_an_asset_of_the_platform(settings: Settings) -> None:
    """And not on a name that happens to be alike: Dagster turns that into an empty source."""
    graph = build_definitions(settings)
    declared = {spec.key for spec in graph.resolve_all_asset_specs()}

    assert dg.AssetKey("review_tones") in declared
    assert graph.resolve_asset_graph().get_all_asset_keys() == declared


def test_the_worked_notebook_runs(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is read by people who will type it."""
    monkeypatch.setenv("LLM_PLATFORM_STATE", str(settings.state))
    monkeypatch.setenv("LLM_PLATFORM_NAMESPACE", settings.namespace)
    monkeypatch.setenv("LLM_PLATFORM_NIM_SLOTS", "4")

    defined = run_notebook(CHECKOUT / "docs" / "notebooks" / "nim.ipynb")

    assert list(defined["answers"]["status"]) == ["valid"] * 4
    assert set(defined["answers"]["answer"]) <= {"happy", "sad"}
    assert defined["calls"]["path"].tolist()[-4:] == ["/v1/chat/completions"] * 4
    assert len(defined["earlier"]) == len(defined["documents"]) == 24


def test_importing_the_package_loads_nothing() -> None:
    """`from llm_platform import connect` stands at the top of every notebook."""
    code = "import sys; from llm_platform import connect; print(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)

    assert {"dagster", "pandas", "openai", "duckdb", "pydantic"} & set(done.stdout.split()) == set()
