"""Looking at endpoints: what is stored, what is held against limits, and what the card shows."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from llm_platform.models.entries import LockEntry
from llm_platform.operations.serving.endpoint_page import write_endpoint_page
from llm_platform.operations.serving.local_nim import LocalNim
from llm_platform.operations.serving.monitoring import Place, Watched, stored_readings, watch
from llm_platform.settings.connection import Connection
from llm_platform.warehouse.lake import Warehouse
from llm_platform_tests.servers.pages import Pages
from llm_platform_tests.warehouse.conftest import sqlite_location

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def metrics(
    *, requests: float = 0, errors: float = 0, waiting: float = 0, tokens: float = 0, prefix: str = "vllm:"
) -> str:
    """What vLLM, or with another prefix NIM 1.x, publishes of a few numbers."""
    labels = 'model_name="m"'
    finish = "vllm:request_success_total" if prefix else "request_finish_total"
    lines = [
        f"{prefix}num_requests_running{{{labels}}} 3.0",
        f"{prefix}num_requests_waiting{{{labels}}} {waiting}",
        f"{prefix}generation_tokens_total{{{labels}}} {tokens}",
        f'{finish}{{{labels},finished_reason="stop"}} {requests - errors}',
        f'{finish}{{{labels},finished_reason="error"}} {errors}',
        f'{prefix}e2e_request_latency_seconds_bucket{{{labels},le="1.0"}} {requests}',
        f'{prefix}e2e_request_latency_seconds_bucket{{{labels},le="+Inf"}} {requests}',
        f"{prefix}e2e_request_latency_seconds_sum{{{labels}}} {requests / 2}",
        f"{prefix}e2e_request_latency_seconds_count{{{labels}}} {requests}",
    ]
    return "\n".join(lines) + "\n"


class Site:
    """A lake, an endpoint, and a clock."""

    def __init__(self, lake: Warehouse, pages: Pages, folder: Path) -> None:
        self.lake, self.pages, self.folder = lake, pages, folder
        self.place = Place(LocalNim(folder), Connection())
        self.now = NOON

    def entry(self, *urls: str, dialect: str = "nim-2.x") -> LockEntry:
        values = {"mode": "external", "served_name": "m", "model": "test/m", "licence": "none", "context_length": 4096}
        return LockEntry.model_validate(
            {"name": "llama-8b", "dialect": dialect, "base_urls": urls or [self.pages.url], **values}
        )

    def look(self, text: str | None = None, *, entry: LockEntry | None = None) -> Watched:
        if text is not None:
            self.pages.texts["/v1/metrics"] = (200, text)
        self.now += timedelta(minutes=5)
        return watch(self.lake, entry or self.entry(), self.place, now=self.now)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Warehouse.attach(sqlite_location(tmp_path), threads=1) as lake, Pages() as pages:
        pages.texts["/v1/health/ready"] = (200, '{"status": "ready"}')
        yield Site(lake, pages, tmp_path)


@pytest.mark.parametrize(
    ("dialect", "prefix"), [pytest.param("nim-1.x", "", id="1.x"), pytest.param("nim-2.x", "vllm:", id="2.x")]
)
def test_both_dialects_become_the_same_row(site: Site, dialect: str, prefix: str) -> None:
    """Whoever reads the table must not know which line an image is of."""
    site.look(metrics(requests=40, errors=2, waiting=7, tokens=900, prefix=prefix), entry=site.entry(dialect=dialect))

    row = site.lake.endpoint_metrics.latest().to_pylist()[0]
    stored = stored_readings(site.lake, "llama-8b", NOON)[0].metrics

    assert (row["running"], row["waiting"], row["generation_tokens"]) == (3.0, 7.0, 900.0)
    assert stored.requests == 40
    assert stored.finished == {"stop": 38.0, "error": 2.0}
    assert stored.end_to_end is not None
    assert stored.end_to_end.count == 40


def test_an_endpoint_that_works_is_well(site: Site) -> None:
    """Enough requests, a queue that comes and goes, one error in a hundred: nothing to tell."""
    for number in range(8):
        found = site.look(metrics(requests=100 * number, errors=number, waiting=number % 3))

    assert (found.healthy.passed, found.queue.passed, found.errors.passed) == (True, True, True)
    assert (found.queue.told, found.errors.told) == (True, True)


def test_a_growing_queue_and_errors_are_seen(site: Site) -> None:
    """More work than the endpoint can do, and a tenth of it failing."""
    for number in range(8):
        found = site.look(metrics(requests=100 * number, errors=10 * number, waiting=5 * number))

    assert not found.queue.passed
    assert not found.errors.passed
    assert found.errors.numbers["errors"] == 70


@pytest.mark.parametrize(
    ("errors", "passed"),
    [
        pytest.param(4, True, id="two-of-a-hundred-may-be-chance"),
        pytest.param(8, False, id="four-of-a-hundred-are-not"),
    ],
)
def test_an_error_rate_is_an_alarm_when_its_interval_is_over_the_limit(site: Site, errors: int, passed: bool) -> None:
    """Four failures of 200 are twice the limit of one in a hundred, and still within what chance does to it."""
    site.look(metrics())
    found = site.look(metrics(requests=200, errors=errors))

    assert (found.errors.told, found.errors.passed) == (True, passed)
    assert found.errors.numbers["errors"] / found.errors.numbers["requests"] > found.errors.numbers["maximum"]


def test_a_first_look_cannot_tell(site: Site) -> None:
    """One reading is no rate and no trend; neither is an alarm."""
    found = site.look(metrics(requests=3, errors=3, waiting=50))

    assert found.healthy.passed
    assert (found.queue.passed, found.queue.told) == (True, False)
    assert (found.errors.passed, found.errors.told) == (True, False)


def test_an_endpoint_that_is_not_ready_or_not_there_is_stored_as_such(site: Site) -> None:
    """The outage is what the table is for; a look that raised would leave a hole in it."""
    site.pages.texts["/v1/health/ready"] = (503, "")
    loading = site.look(metrics())
    gone = site.look(entry=site.entry("http://127.0.0.1:9"))

    rows = site.lake.endpoint_metrics.since("llama-8b", NOON).to_pylist()

    assert not loading.healthy.passed
    assert "HTTP 503" in loading.healthy.note
    assert not gone.healthy.passed
    assert [row["healthy"] for row in rows] == [False, False]
    assert rows[1]["running"] is None


def test_a_bare_engine_is_healthy_by_its_own_path(site: Site) -> None:
    """vLLM without NIM has /health and /metrics, and nothing below /v1/health."""
    site.pages.texts.clear()
    site.pages.texts["/health"] = (200, "")
    site.pages.texts["/metrics"] = (200, metrics(requests=1))

    found = site.look()

    assert found.healthy.passed
    assert found.looks[0].metrics.requests == 1


def test_a_restart_is_no_burst_of_negative_or_double_work(site: Site) -> None:
    """The counters begin again; the hour's error rate must not be of both lives."""
    site.look(metrics(requests=5000, errors=5000))
    for number in range(3):
        found = site.look(metrics(requests=100 * number))

    assert found.errors.passed
    assert found.errors.numbers["requests"] == 200
    assert found.series[0].restarted


def test_looking_starts_no_embedded_model(tmp_path: Path, site: Site) -> None:
    """A schedule that starts a model every five minutes would keep it for ever."""
    from llm_platform.models.lock import load_lock
    from llm_platform.settings.settings import CHECKOUT

    entry = load_lock(CHECKOUT / "models.lock.yaml")["smollm2-135m"]

    found = site.look(entry=entry)

    assert found.resting
    assert found.healthy.passed
    assert "starts on use" in found.healthy.note
    assert not (tmp_path / "nim").exists()


def test_the_card_shows_the_day_and_renders_offline(site: Site) -> None:
    """Linked from the asset; a picture that needs a network is no picture on the day of the outage."""
    for number in range(8):
        found = site.look(metrics(requests=100 * number, waiting=5 * number, tokens=4000 * number))

    page = write_endpoint_page(site.lake, found, site.entry(), ["reviews"], folder=site.folder / "cards")
    html = page.read_text(encoding="utf-8")

    assert {"Throughput", "Whole answer", "Requests at the endpoints"} <= {
        part.partition("</h2>")[0] for part in html.split("<h2>")[1:]
    }
    assert "from 5 to 35 waiting requests" in html
    assert "http" not in html.replace(site.pages.url, "").replace("http-equiv", "")
