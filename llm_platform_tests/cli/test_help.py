"""What the command says about itself, and what it says when it is called wrongly."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from llm_platform.cli.console import console, new_table, show
from llm_platform.cli.main import _end, program
from llm_platform_tests.survival.command import Terminal
from llm_platform_tests.team import NAME


def every_command() -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = [()]
    groups: list[tuple[tuple[str, ...], Any]] = [((), program())]
    while groups:
        path, group = groups.pop()
        for name, command in getattr(group, "commands", {}).items():
            found.append((*path, name))
            groups.append(((*path, name), command))
    return sorted(found)


@pytest.mark.parametrize("command", every_command(), ids=" ".join)
def test_every_command_explains_itself(capsys: pytest.CaptureFixture[str], command: tuple[str, ...]) -> None:
    """Help is what people read first, and needs no working set-up. In this process: a fork for each takes a minute."""
    status = program().main([*command, "--help"], prog_name="llm-platform", standalone_mode=False)

    told = capsys.readouterr().out
    assert status == 0, told
    assert "Usage: llm-platform" in told
    assert len(told.splitlines()) > 5


def test_installed_script_lists_what_the_platform_does(fresh: Terminal) -> None:
    """The script that pip installs is the command that everything else is shown with."""
    finished = fresh.script("--help")

    assert finished.status == 0, finished.said
    for command in ("demo", "run", "plan", "promote", "rollback", "explain", "nim", "model", "application", "state"):
        assert f" {command} " in finished.out


def test_what_people_wrote_is_printed_as_they_wrote_it(capsys: pytest.CaptureFixture[str]) -> None:
    """A key, a title or a pattern may look like markup of the terminal's: half a message was missing."""
    written = r"'\[/x]', '\[a-z]' and ':bug:' [bold]"
    table = new_table("key")
    table.add_row(written)

    console.print(written)
    show(table)
    with pytest.raises(SystemExit):
        _end(written)

    said = capsys.readouterr()
    assert said.out.count(written) == 2
    assert said.err == f"error: {written}\n"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        pytest.param(("run", "nothing"), "There is no application 'nothing'. There are:", id="run"),
        pytest.param(("plan", "nothing"), "There is no application 'nothing'. There are:", id="plan"),
        pytest.param(("explain", "nothing", "7"), "There is no application 'nothing'. There are:", id="explain"),
        pytest.param(("rollback", "nothing"), "There is no application 'nothing'. There are:", id="rollback"),
        pytest.param(("promote", "nothing", "x"), "There is no application 'nothing'. There are:", id="promote"),
        pytest.param(("adapter", "sign", "nothing", "x"), "llm-platform application new NAME", id="adapter-sign"),
        pytest.param(
            ("demo", "--application", "nothing"), "There is no application 'nothing'. There are:", id="demo-unknown"
        ),
        pytest.param(
            ("demo", "--application", NAME), f"Application {NAME!r} has no documents to load", id="demo-not-shipped"
        ),
        pytest.param(
            ("promote", NAME, "loud"), f"{NAME} has no variant 'loud'. There are: clear, vague.", id="variant"
        ),
        pytest.param(
            ("answer", NAME, "loud"), "has no variant 'loud'. There are: clear, vague, champion.", id="answer"
        ),
        pytest.param(("answer", NAME, "--buckets", "3-x"), "is not a list of numbers and ranges", id="answer-buckets"),
        pytest.param(("answer", NAME, "--buckets", "16"), f"{NAME} has no bucket 16: they are 0 to 15", id="no-bucket"),
        pytest.param(("backfill", NAME, "--buckets", "9-3"), "names no bucket", id="backfill-empty"),
        pytest.param(("backfill", NAME, "--buckets", "3,99"), f"{NAME} has buckets 0 to 15, and no 99", id="backfill"),
        pytest.param(("promote", NAME, "clear"), "has no report on the present evaluation", id="promote-unreported"),
        pytest.param(("rollback", NAME), f"{NAME} has no earlier champion to go back to", id="rollback-nothing"),
        pytest.param(("model", "fetch", "gpt"), "models.lock.yaml has no entry 'gpt'. There are:", id="model-fetch"),
        pytest.param(("nim", "down", "gpt"), "models.lock.yaml has no entry 'gpt'. There are:", id="nim-down"),
        pytest.param(("nim", "serve", "gpt"), "models.lock.yaml has no entry 'gpt'. There are:", id="nim-serve"),
        pytest.param(("nim", "serve", "scripted"), "Lock entry 'scripted' names no weights", id="nim-serve-external"),
        pytest.param(
            ("nim", "down", "scripted"), "'scripted' has mode 'external': somebody else runs it", id="nim-down-external"
        ),
        pytest.param(("application", "check", "/nowhere"), "/nowhere:1: found no such folder", id="check-nothing"),
        pytest.param(
            ("branch", "down", "test", "--yes"), "Namespace 'test' is not a branch, so it stays", id="no-branch"
        ),
        pytest.param(("branch", "up", "test"), "Namespace 'test' cannot read itself", id="branch-of-itself"),
    ],
)
def test_wrong_names_are_errors_in_words(fresh: Terminal, arguments: tuple[str, ...], complaint: str) -> None:
    """A typing error is answered with what there is, never with a traceback."""
    finished = fresh.run(*arguments)

    assert finished.failed_plainly, finished.said
    assert complaint in finished.err


def test_unknown_document_is_an_error_in_words(fresh: Terminal) -> None:
    """Asked about a key that is not there, the command says where it looked."""
    assert fresh.run("state", "path").out.strip() == str(fresh.team.settings.state)

    finished = fresh.run("explain", NAME, "7")

    assert finished.failed_plainly, finished.said


def test_setting_that_cannot_be_read_is_named(fresh: Terminal) -> None:
    """A wrong variable in a deployment is found by its name; its value may be a secret and is not shown."""
    terminal = Terminal(fresh.team, LLM_PLATFORM_NIM_SLOTS="many-secrets")

    finished = terminal.run("plan", NAME)

    assert finished.failed_plainly, finished.said
    assert "LLM_PLATFORM_NIM_SLOTS" in finished.err
    assert "many-secrets" not in finished.said


@pytest.mark.parametrize(
    ("file", "edit", "complaint"),
    [
        pytest.param(
            "application.yaml", ("task: classify", "task: classfy"), "application.yaml:3:", id="specification"
        ),
        pytest.param("application.yaml", ("labels:", "labels: ["), "application.yaml:", id="yaml"),
        pytest.param("prompts/clear.md", ("{{ text }}", "{{ txet }}"), "clear.md:", id="prompt"),
        pytest.param(
            "../../models.lock.yaml",
            ("served_name: scripted-model", "serve_name: scripted-model"),
            "models.lock.yaml:",
            id="lock",
        ),
    ],
)
@pytest.mark.parametrize("command", [("run", NAME), ("application", "check")], ids=["run", "check"])
def test_mistakes_in_files_are_named_with_file_and_line(
    fresh: Terminal, command: tuple[str, ...], file: str, edit: tuple[str, str], complaint: str
) -> None:
    """People fix what they are pointed to."""
    path = fresh.team.folder / file
    path.write_text(path.read_text(encoding="utf-8").replace(*edit, 1), encoding="utf-8")

    finished = fresh.run(*command)

    assert finished.failed_plainly, finished.said
    assert complaint in finished.err


def test_a_command_begins_without_what_only_others_need() -> None:
    """Each of them is typed a hundred times a day: an import at the top of one module is paid by all of them."""
    heavy = {"dagster", "duckdb", "pandas", "numpy", "pyarrow", "sklearn", "openai", "cryptography"}
    code = f"import sys, llm_platform.cli.main; print(sorted({heavy!r} & set(sys.modules)))"

    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert told.stdout.strip() == "[]"
