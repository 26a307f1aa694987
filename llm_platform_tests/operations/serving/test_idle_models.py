"""Models that nobody asks are taken down, and no others."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from llm_platform.nim.metrics import EndpointMetrics
from llm_platform.nim.series import EndpointReading
from llm_platform.operations.serving.bringing_up import bring_model_up
from llm_platform.operations.serving.idle_models import take_idle_down, why_not_idle
from llm_platform.operations.serving.monitoring import Look, looks_table
from llm_platform.resources.handed import serving_of
from llm_platform_tests.operations.cluster_team import SERVICE, ClusterTeam, cluster, end_pods, kinds
from llm_platform_tests.servers.kubernetes_api import KubernetesApi

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LIMIT = timedelta(minutes=30)
URL = "http://10.0.0.1:8000"


def reading(minutes_ago: int, *, url: str = URL, **numbers: float) -> EndpointReading:
    metrics = EndpointMetrics(**{"requests": 5.0, "running": 0.0, "waiting": 0.0, **numbers})
    return EndpointReading(base_url=url, scraped_at=NOW - timedelta(minutes=minutes_ago), healthy=True, metrics=metrics)


QUIET = [reading(minutes) for minutes in (35, 30, 25, 20, 15, 10, 5, 0)]


@pytest.mark.parametrize(
    ("readings", "reason"),
    [
        pytest.param(QUIET, None, id="nobody-asked"),
        pytest.param([], "said nothing", id="never-looked-at"),
        pytest.param([*QUIET[:-1], reading(0, requests=6.0)], "was asked", id="one-request"),
        pytest.param([*QUIET[:-1], reading(0, running=1.0)], "was asked", id="one-running"),
        pytest.param([*QUIET[:-1], reading(0, requests=0.0)], "started anew", id="restarted"),
        pytest.param(QUIET[3:], "not been looked at for that long", id="only-just-up"),
        pytest.param(QUIET[:-4], "not been looked at for that long", id="no-look-lately"),
        pytest.param([*QUIET[:2], *QUIET[-2:]], "not been looked at all the time", id="a-gap"),
        pytest.param([*QUIET, reading(0, url="http://10.0.0.2:8000")], "10.0.0.2", id="a-replica-was-added"),
        pytest.param(
            [EndpointReading(**{**one.model_dump(), "metrics": EndpointMetrics(running=0.0)}) for one in QUIET],
            "counts no requests",
            id="counts-nothing",
        ),
    ],
)
def test_only_a_model_that_is_known_to_be_idle_counts_as_such(
    readings: list[EndpointReading], reason: str | None
) -> None:
    """Taking down a model that works costs half an hour; one that idles for five minutes more costs little."""
    found = why_not_idle(readings, now=NOW, limit=LIMIT)

    assert (found is None) == (reason is None), found
    assert reason is None or reason in str(found)


@pytest.fixture
def api() -> Iterator[KubernetesApi]:
    with cluster() as running:
        yield running


def down(team: ClusterTeam, api: KubernetesApi, readings: list[EndpointReading]) -> list[Any]:
    looks = [Look(team.entry.name, one.base_url, one.scraped_at, True, "", 0.1, one.metrics) for one in readings]
    with team.warehouse.open() as lake:
        lake.endpoint_metrics.append(looks_table(looks))
        return list(
            take_idle_down(
                lake,
                [team.entry],
                serving_of(team.settings),
                now=NOW,
                report=lambda _: None,
                sleep=lambda _: end_pods(api),
            )
        )


def test_an_idle_model_of_ours_is_taken_down_once(tmp_path: Path, api: KubernetesApi) -> None:
    """Its GPUs are free, its weights stay, and the next look finds it down."""
    team = ClusterTeam(tmp_path, api, nim_idle_down_minutes=30)
    bring_model_up(team.entry, serving_of(team.settings), report=lambda _: None)

    first = down(team, api, QUIET)
    second = down(team, api, [])

    assert first[0].taken_down
    assert first[0].note.startswith("nobody has asked it for 30 minutes. Deleted: NIMService")
    assert kinds(api) == ["NIMCache", "PersistentVolumeClaim"]
    assert [(one.taken_down, one.note) for one in second] == [(False, "it is down already")]


def test_an_idle_model_of_somebody_else_stays(tmp_path: Path, api: KubernetesApi) -> None:
    """Production's chart owns its models, however quiet the night is."""
    team = ClusterTeam(tmp_path, api, nim_idle_down_minutes=30)
    bring_model_up(team.entry, serving_of(team.settings), report=lambda _: None)
    service = api.objects["apps.nvidia.com/v1alpha1", "nimservices", "models", SERVICE]
    service["metadata"]["labels"]["llm-platform/owner"] = "production.main"

    (found,) = down(team, api, QUIET)

    assert not found.taken_down
    assert found.note == f"NIMService '{SERVICE}' was made by somebody else"
    assert "NIMService" in kinds(api)


def test_without_the_setting_nothing_is_taken_down(tmp_path: Path, api: KubernetesApi) -> None:
    """Scale to zero is asked for, never a surprise."""
    assert down(ClusterTeam(tmp_path, api), api, QUIET) == []
