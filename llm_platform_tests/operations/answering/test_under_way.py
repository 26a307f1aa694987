"""What other processes are told of a run while it asks."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request

from llm_platform.inference.engine import EndpointTarget, EnginePolicy, Progress
from llm_platform.operations.answering.completions import answer_missing
from llm_platform.operations.answering.documents import update_documents
from llm_platform.operations.answering.sending import Asking
from llm_platform.operations.answering.under_way import FORGOTTEN, Noted, under_way
from llm_platform.operations.reviewing.review import ReviewDesk
from llm_platform.records import Prices
from llm_platform.review.app import review_app
from llm_platform.review.people import Access, Person
from llm_platform.settings.connection import Connection
from llm_platform.warehouse.lake import Warehouse
from llm_platform_tests.servers.faults import Fault, Status
from llm_platform_tests.servers.scripted import ScriptedServer, Seen
from llm_platform_tests.team import NAME, Team, answer

DOCUMENTS = 100
PRICES = Prices(usd_per_million_prompt_tokens=1_000.0)


def refuses_some(seen: Seen) -> Fault | None:
    return Status(400) if seen.document_id.endswith("7") else None


@pytest.fixture
def model() -> Iterator[ScriptedServer]:
    with ScriptedServer(answer=answer, script=refuses_some, latency_seconds=0.1) as model:
        yield model


@pytest.fixture
def team(tmp_path: Path, model: ScriptedServer) -> Team:
    return Team(tmp_path, model.url, documents=DOCUMENTS)


@pytest.fixture
def lake(team: Team) -> Iterator[Warehouse]:
    with team.warehouse.open() as lake:
        update_documents(lake, team.loaded)
        yield lake


def test_a_run_can_be_followed_from_outside_and_leaves_nothing(
    lake: Warehouse, team: Team, model: ScriptedServer, tmp_path: Path
) -> None:
    """Whoever pays sees what it costs while it can still be stopped, from any process, and reads no document."""
    store, folder = lake.application(NAME), tmp_path / "progress"
    release = team.loaded.requesting("clear", store)
    assert release is not None
    store.releases.put(release)
    seen: list[Noted] = []
    files: set[tuple[int, bool]] = set()

    def look(_: Progress) -> None:
        seen.extend(under_way(folder, NAME, now=datetime.now(UTC)))
        for path in (folder / NAME).glob("*.json"):
            files.add((path.stat().st_mode & 0o777, "printer" in path.read_text(encoding="utf-8")))

    asking = Asking(
        endpoints=lambda: [EndpointTarget(model.url)],
        policy=EnginePolicy(limit=3, attempts=1, max_failed_share=1.0, prices=PRICES),
        connection=Connection(),
        run_id="run-1",
        git_commit="",
        on_progress=look,
        progress=folder,
        expected=(9_000, 9.0),
    )
    answer_missing(store, release, application=team.loaded.application, asking=asking)

    assert seen, "nothing was written while it ran"
    assert {(one.run_id, one.release_id, one.total) for one in seen} == {("run-1", release.release_id, DOCUMENTS)}
    last = seen[-1]
    assert 0 < last.done <= DOCUMENTS
    assert last.cost_usd is not None
    assert last.cost_usd > 0
    assert (last.expected_tokens, last.expected_usd) == (9_000, 9.0)
    assert sum(last.failed.values()) > 0
    assert files == {(0o600, False)}
    assert list((folder / NAME).iterdir()) == []


def noted(**values: Any) -> Noted:
    given: dict[str, Any] = {
        "release_id": "r", "run_id": "run-1", "host": socket.gethostname(), "process": os.getpid(),
        "at": datetime.now(UTC), "done": 10, "total": 40, "tokens_per_second": 120.0, "seconds_left": 3.0,
        "tokens": 1_000, "cost_usd": 0.5, "expected_tokens": 4_000, "expected_usd": 2.0,
        "failed": {"HTTP 400": 2}, "retries": {"timeout": 1},
    }  # fmt: skip
    return Noted.model_validate({**given, **values})


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        pytest.param({}, True, id="at-work"),
        pytest.param({"process": 2**22 + 1}, False, id="killed"),
        pytest.param({"host": "elsewhere", "process": 2**22 + 1}, True, id="on-another-machine"),
        pytest.param({"host": "elsewhere", "at": datetime.now(UTC) - 2 * FORGOTTEN}, False, id="silent-for-long"),
    ],
)
def test_what_a_killed_process_left_is_not_shown(tmp_path: Path, values: dict[str, Any], shown: bool) -> None:
    """A page that shows yesterday's run at 40 % for ever is believed once."""
    (tmp_path / NAME).mkdir()
    (tmp_path / NAME / "r-1.json").write_text(noted(**values).model_dump_json(), encoding="utf-8")
    (tmp_path / NAME / "broken.json").write_text("{", encoding="utf-8")

    assert bool(under_way(tmp_path, NAME, now=datetime.now(UTC))) is shown


def test_the_page_is_told_as_it_changes(lake: Warehouse, team: Team, tmp_path: Path) -> None:
    """Progress, speed, cost against the estimate, and what fails, without a reload."""
    folder = tmp_path / "progress"
    (folder / NAME).mkdir(parents=True)
    path = folder / NAME / "r-1.json"
    path.write_text(noted().model_dump_json(), encoding="utf-8")
    desk = ReviewDesk(lake, team.loaded, progress_folder=folder)
    app = review_app({NAME: desk}, Access(local=Person("vic", "viewer")), hosts=("127.0.0.1",))

    async def told() -> list[dict[str, Any]]:
        route = next(one for one in app.routes if getattr(one, "name", "") == "live")
        scope = {"type": "http", "method": "GET", "path": "/live", "headers": [], "query_string": b"", "app": app}
        request = Request({**scope, "server": ("127.0.0.1", 80), "scheme": "http"}, _never)
        response = await route.endpoint(request)  # type: ignore[attr-defined]
        found: list[dict[str, Any]] = []
        async for chunk in response.body_iterator:
            if chunk.startswith("data: "):
                found.append(json.loads(chunk.removeprefix("data: ")))
                path.unlink(missing_ok=True)
            if len(found) == 2:
                break
        return found

    first, then = asyncio.run(asyncio.wait_for(told(), 60))

    for words in (
        "10 of 40 texts",
        "120 tokens/s",
        "1,000 tokens, 0.50 USD of about 4,000 tokens, 2.00 USD",
        "HTTP 400",
    ):
        assert words in first["html"], words
    assert (first["works"], then["works"]) == (1, 0)
    assert "10 of 40" not in then["html"]


def test_lines_say_what_is_under_way(lake: Warehouse, team: Team, tmp_path: Path) -> None:
    """A terminal is told the same."""
    from llm_platform.operations.reviewing.status import platform_status
    from llm_platform.review.status import lines_of

    (tmp_path / NAME).mkdir()
    (tmp_path / NAME / "r-1.json").write_text(noted().model_dump_json(), encoding="utf-8")
    status = platform_status(
        lake, {NAME: team.loaded}, namespace="test", broken={}, cards_folder=tmp_path, progress_folder=tmp_path,
        now=datetime.now(UTC) + timedelta(seconds=1),
    )  # fmt: skip

    assert any("10 of 40 texts" in line for line in lines_of(status))


async def _never() -> dict[str, str]:
    await asyncio.sleep(3600)
    return {"type": "http.disconnect"}
