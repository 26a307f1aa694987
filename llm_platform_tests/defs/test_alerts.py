"""The sensor that turns ended runs into alerts, with real runs and a real receiver."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from llm_platform.defs.alerts import Cursor, alerts_sensor
from llm_platform.resources.alerts import AlertsResource
from llm_platform.settings.settings import Settings
from llm_platform_tests.servers.inbox import HttpInbox
from llm_platform_tests.team import NAME, Team

QUIET: Any = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@pytest.fixture
def inbox() -> Iterator[HttpInbox]:
    with HttpInbox() as server:
        yield server


class Sensor:
    """Ticks of the sensor, with the cursor kept between them as the daemon keeps it."""

    def __init__(self, team: Team, instance: dg.DagsterInstance, inbox: HttpInbox) -> None:
        self.team, self.instance, self.inbox = team, instance, inbox
        # Runs of the test end after this, as runs end after somebody has switched the sensor on.
        self.cursor: str | None = Cursor((datetime.now(UTC) - timedelta(seconds=1)).timestamp()).written()
        self.now = datetime.now(UTC)

    def tick(self) -> str:
        alerts = AlertsResource(webhook_url=f"{self.inbox.url}/hook", ui_url="http://dagster.example:3000/")
        resources = {"warehouse": self.team.warehouse, "alerts": alerts}
        self.now += timedelta(minutes=1)
        with dg.build_sensor_context(instance=self.instance, cursor=self.cursor, resources=resources) as context:
            result: Any = alerts_sensor(self.team.settings, clock=lambda: self.now)(context)
        if isinstance(result, dg.SkipReason):
            return str(result.skip_message)
        self.cursor = result.cursor
        return str(result.skip_reason.skip_message)

    def told(self) -> list[tuple[str, str]]:
        found = [(body["kind"], body["state"]) for _, _, body in self.inbox.received]
        self.inbox.received.clear()
        return sorted(found)


@pytest.fixture
def sensor(team: Team, instance: dg.DagsterInstance, inbox: HttpInbox) -> Sensor:
    return Sensor(team, instance, inbox)


def read_documents(team: Team, instance: dg.DagsterInstance) -> bool:
    """A run of one asset that needs no model."""
    job = team.definitions().resolve_job_def(NAME)
    keys = [dg.AssetKey([NAME, "documents"])]
    return job.execute_in_process(
        instance=instance, asset_selection=keys, raise_on_error=False, run_config=QUIET
    ).success


def test_a_broken_contract_is_told_once_with_a_link_and_its_end_is_told(
    sensor: Sensor, team: Team, instance: dg.DagsterInstance
) -> None:
    """The owners of a table rename a column: people hear of it once, may click, and hear when it is mended."""
    assert read_documents(team, instance)
    # As many as before: a table that is suddenly almost empty is held for another reason.
    tickets = {str(number): f"DOC#{number}# secretword" for number in range(60)}
    team.write_documents(tickets, columns=("ticket", "words", "team"))
    assert not read_documents(team, instance)
    assert not read_documents(team, instance)

    sensor.tick()
    # Both are of one moment, so either may come first.
    first = next(body for _, _, body in sensor.inbox.received if body["kind"] == "contract_broken")
    broken = sensor.told()
    team.write_documents(tickets)
    assert read_documents(team, instance)
    sensor.tick()
    mended = sensor.told()
    sensor.tick()

    assert broken == [("contract_broken", "raised"), ("documents.source_columns_present", "raised")]
    assert first["application"] == NAME
    assert first["link"] == f"http://dagster.example:3000/runs/{first['run_id']}"
    assert "no column body" in first["message"]
    assert "secretword" not in str(first)
    assert mended == [("contract_broken", "recovered"), ("documents.source_columns_present", "recovered")]
    assert sensor.told() == []


def test_a_lake_that_cannot_be_written_keeps_the_cursor(
    sensor: Sensor, team: Team, instance: dg.DagsterInstance
) -> None:
    """The run is looked at again when the lake is back: the alert is late, not lost."""
    assert read_documents(team, instance)
    team.write_documents({}, columns=("ticket", "words", "team"))
    assert not read_documents(team, instance)
    catalog = Path(team.warehouse.catalog.removeprefix("sqlite:"))
    aside = catalog.with_name("aside")
    catalog.rename(aside)
    catalog.mkdir()

    said = sensor.tick()
    catalog.rmdir()
    aside.rename(catalog)
    nothing_yet = sensor.told()
    sensor.tick()

    assert "nothing is lost" in said
    assert nothing_yet == []
    assert ("contract_broken", "raised") in sensor.told()


def test_runs_before_the_sensor_was_switched_on_are_no_news(
    sensor: Sensor, team: Team, instance: dg.DagsterInstance
) -> None:
    """Switching alerts on must not send last year's failures."""
    team.write_documents({}, columns=("nothing", "words", "team"))
    assert not read_documents(team, instance)
    sensor.cursor = None
    sensor.now += timedelta(hours=1)

    sensor.tick()

    assert sensor.told() == []


def test_secrets_are_in_no_snapshot_of_the_graph(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Configuration of resources is shown in the UI."""
    secrets = {
        "LLM_PLATFORM_ALERT_SLACK_TOKEN": "xoxb-hidden",
        "LLM_PLATFORM_ALERT_WEBHOOK_URL": "https://hooks.example/hidden",
        "LLM_PLATFORM_ALERT_SMTP_PASSWORD": "mail-hidden",
    }
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LLM_PLATFORM_ALERT_SMTP_URL", "smtps://me@mail.example")
    monkeypatch.setenv("LLM_PLATFORM_ALERT_SLACK_CHANNEL", "#alerts")
    monkeypatch.setenv("LLM_PLATFORM_ALERT_EMAIL_TO", "a@example.org, b@example.org")

    resource = AlertsResource.of(Settings(state=tmp_path))

    assert "hidden" not in repr(resource)
    assert resource.email_to == ["a@example.org", "b@example.org"]
    assert [channel.name for channel in resource.channels()] == ["slack", "email", "webhook"]
    assert "hidden" not in repr(resource.channels()[1:])
