"""`llm-platform nim bench`, as it is typed."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from llm_platform.cli.main import app
from llm_platform_tests.servers.scripted import MODEL, ScriptedServer


def test_figures_of_an_address_are_printed() -> None:
    """The same command for a scripted server and for a GPU."""
    with ScriptedServer(slots=16, latency_seconds=0.01) as server:
        arguments = [server.url, "--requests", "200", "--words", "20", "--shared-words", "5", "--gpus", "2"]
        done = CliRunner().invoke(app, ["nim", "bench", *arguments, "--reference", "1600"])

    assert done.exit_code == 0, done.output
    assert MODEL in done.output
    for figure in ("requests/s", "tokens per GPU hour", "share of the reference", "3.38 requests/s"):
        assert figure in done.output


@pytest.mark.parametrize("option", ["--requests", "--gpus", "--words"])
def test_zero_of_something_is_refused(option: str) -> None:
    """Before the endpoint is asked."""
    done = CliRunner().invoke(app, ["nim", "bench", "http://127.0.0.1:1", option, "0"])

    assert done.exit_code == 2
