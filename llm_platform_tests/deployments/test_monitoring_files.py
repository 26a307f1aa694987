"""The files for Prometheus and Grafana: their names are real, and their rules do what they say."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from llm_platform.nim.metric_names import ALL
from llm_platform.settings.settings import CHECKOUT

FOLDER = CHECKOUT / "deploy" / "monitoring"
FUNCTIONS = frozenset(
    {"sum", "max", "count", "rate", "deriv", "histogram_quantile", "label_replace", "vector", "by", "or", "and", "up"}
)
LABELS = frozenset({"entry", "instance", "le", "finished_reason", "job", "alertname", "alertstate"})


def read(name: str) -> Any:
    return yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))


def metrics_in(expression: str) -> set[str]:
    """Names of metrics in a PromQL expression."""
    without_text = re.sub(r'"[^"]*"', "", expression)
    without_ranges = re.sub(r"\[\w+\]", "", without_text)
    words = set(re.findall(r"[A-Za-z_][\w:]*", without_ranges))
    return words - FUNCTIONS - LABELS - {"$entry"}


def rules() -> list[dict[str, Any]]:
    return [rule for group in read("rules.yaml")["groups"] for rule in group["rules"]]


def test_rules_read_names_that_endpoints_publish_or_rules_record() -> None:
    """A misspelt metric is an alert that never fires; the names are those that the platform itself reads."""
    buckets = {f"{name}_bucket" for name in ALL.histograms}
    known = {*ALL.numbers, *ALL.finished, *buckets, *(rule["record"] for rule in rules() if "record" in rule)}

    for rule in rules():
        assert metrics_in(rule["expr"]) <= known, rule


def test_every_recorded_number_is_there_in_all_three_families() -> None:
    """One dashboard for every dialect: a name that only vLLM has would leave half of it empty."""
    for rule in rules():
        found = {name for name in metrics_in(rule["expr"]) if not name.startswith("llm:")}
        if "record" in rule and found:
            families = {name.split(":")[0] if ":" in name else "1.x" for name in found}
            assert families == {"1.x", "vllm", "sglang"}, rule["record"]


def test_alerts_say_what_to_do_and_wait_a_while() -> None:
    """An alert for one scrape is noise, and one without a next step is a riddle."""
    alerts = [rule for rule in rules() if "alert" in rule]

    assert len(alerts) == 5
    for alert in alerts:
        assert alert["for"].endswith("m"), alert
        assert {"summary", "description"} <= set(alert["annotations"])
        assert alert["labels"]["severity"] in ("warning", "critical")


def test_each_alert_is_fired_once_by_the_tests_of_promtool() -> None:
    """An expression that is taken and never holds is an alert that nobody misses."""
    cases = [case for test in read("rules_test.yaml")["tests"] for case in test.get("alert_rule_test", [])]

    assert {case["alertname"] for case in cases if case["exp_alerts"]} == {
        rule["alert"] for rule in rules() if "alert" in rule
    }


def test_the_dashboard_shows_recorded_names_in_places_of_their_own() -> None:
    """Grafana shows an unknown name as an empty panel, and two panels in one place as one."""
    dashboard = json.loads((FOLDER / "dashboard.json").read_text(encoding="utf-8"))
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    cells: set[tuple[int, int]] = set()

    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        taken = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not taken & cells, panel["title"]
        assert place["x"] + place["w"] <= 24
        cells |= taken
        for target in panel["targets"]:
            assert metrics_in(target["expr"]) <= recorded | {"up"}, panel["title"]
            assert "$entry" in target["expr"], panel["title"]
        assert panel["description"]
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    assert {variable["name"] for variable in dashboard["templating"]["list"]} == {"datasource", "entry"}


def test_every_scrape_gives_its_targets_the_name_of_their_entry() -> None:
    """Rules and dashboard group by it; a target without it would be added to all others."""
    jobs = {job["job_name"]: job for job in read("prometheus.yaml")["scrape_configs"]}

    assert all(name.startswith("llm-endpoints") for name in jobs)
    assert {job["metrics_path"] for job in jobs.values()} == {"/v1/metrics", "/metrics"}
    pods = jobs["llm-endpoints"]["relabel_configs"]
    assert any(rule.get("target_label") == "entry" for rule in pods)
    assert any(rule.get("action") == "keep" and rule["regex"] == ".+" for rule in pods)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="there is no promtool on this machine: make tools")
def test_promtool_accepts_the_files_and_the_rules_pass_their_tests(tmp_path: Path) -> None:
    """The rules are evaluated by Prometheus' own engine on series of both dialects."""
    config = read("prometheus.yaml")
    # Some builds of promtool come without the discovery of pods.
    config["scrape_configs"] = [job for job in config["scrape_configs"] if "kubernetes_sd_configs" not in job]
    (tmp_path / "prometheus.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    shutil.copy(FOLDER / "rules.yaml", tmp_path)

    for arguments in (
        ["check", "config", str(tmp_path / "prometheus.yaml")],
        ["check", "rules", str(FOLDER / "rules.yaml")],
        ["test", "rules", str(FOLDER / "rules_test.yaml")],
    ):
        done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
