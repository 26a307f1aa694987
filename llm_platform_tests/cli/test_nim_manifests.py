"""`llm-platform nim render|route|pool`, as the documentation shows them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from llm_platform.cli.main import app
from llm_platform.settings.settings import CHECKOUT
from llm_platform.settings.settings_pods import PodFields

PAGE = (CHECKOUT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
LINES = PAGE.splitlines()
COMMANDS = [line for line in LINES if re.match(r"llm-platform nim (render|route|pool)\b", line)]


@pytest.fixture
def documented(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The lock entry and the settings of the page, and a second build of the same model."""
    [lock] = [
        yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL) if "models:" in block
    ]
    models = lock["models"]
    models["llama-8b-next"] = {**models["llama-8b"], "image": {**models["llama-8b"]["image"], "tag": "2.1.6"}}
    (tmp_path / "models.lock.yaml").write_text(yaml.safe_dump(lock), encoding="utf-8")
    monkeypatch.setenv("LLM_PLATFORM_MODELS_LOCK", str(tmp_path / "models.lock.yaml"))
    for line in LINES:
        if line.startswith("export "):
            monkeypatch.setenv(*shlex.split(line, comments=True)[1].split("=", 1))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(command: str) -> list[Any]:
    """Objects that a command writes."""
    finished = CliRunner().invoke(app, shlex.split(command, comments=True)[1:])
    assert finished.exit_code == 0, finished.output
    return list(yaml.safe_load_all(finished.output)) if "--output" not in command else []


@pytest.mark.parametrize("command", COMMANDS)
def test_documented_commands_write_objects(command: str, documented: Path) -> None:
    """A page whose commands no longer work is worse than none."""
    written = said(command)

    for path in documented.glob("*.yaml"):
        if path.name != "models.lock.yaml":
            written += yaml.safe_load_all(path.read_text(encoding="utf-8"))
    assert written
    assert all({"apiVersion", "kind", "metadata"} <= manifest.keys() for manifest in written)


def test_the_page_shows_every_command() -> None:
    """The test above runs what it finds, so finding nothing would pass."""
    assert {command.split()[2] for command in COMMANDS} == {"render", "route", "pool"}


def test_the_page_names_every_setting_of_pods() -> None:
    """A setting that is not written down is found by reading code."""
    missing = [name for name in PodFields.model_fields if f"`{name.upper()}`" not in PAGE]

    assert missing == []


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        pytest.param(("render", "nothing"), "has no entry 'nothing'", id="unknown-model"),
        pytest.param(("route", "chat", "--to", "llama-8b"), "Cannot read the share 'llama-8b'", id="no-weight"),
        pytest.param(
            ("route", "chat", "--to", "llama-8b=1", "--to", "llama-8b=2"), "Two shares are for 'llama-8b'", id="twice"
        ),
        pytest.param(("route", "chat", "--to", "nothing=1"), "has no entry 'nothing'", id="unknown-share"),
        pytest.param(("pool", "--gpus", "4", "--production-gpus", "5"), "Cannot guarantee 5", id="too-many"),
    ],
)
def test_what_cannot_be_rendered_is_said_plainly(arguments: tuple[str, ...], complaint: str, documented: Path) -> None:
    """The error is the platform's own; nothing is written."""
    finished = CliRunner().invoke(app, ["nim", *arguments])

    assert finished.exit_code != 0
    assert complaint in str(finished.exception)
    assert "apiVersion" not in finished.output
