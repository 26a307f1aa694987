"""Settings: deployments differ in values and in nothing else."""

from __future__ import annotations

import getpass
import os
import re
import subprocess
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

import llm_platform.settings.settings as settings_module
from llm_platform.cli.settings import settings as settings_command
from llm_platform.errors import SpecificationError
from llm_platform.models.lock import load_lock
from llm_platform.settings.login import login
from llm_platform.settings.page import all_settings, settings_page
from llm_platform.settings.settings import CHECKOUT, MAX_NAMESPACE_LENGTH, load_settings, namespace_name
from llm_platform.warehouse.passwords import without_password_file

FALLBACKS = {
    "namespace": ("LLM_PLATFORM_NAMESPACE", "DAGSTER_CLOUD_GIT_BRANCH"),
    "deployment": ("LLM_PLATFORM_DEPLOYMENT", "DAGSTER_CLOUD_DEPLOYMENT_NAME"),
    "git_commit": ("LLM_PLATFORM_GIT_COMMIT", "DAGSTER_CLOUD_GIT_SHA"),
}


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of our variables, whatever the shell of the person who tests has."""
    for name in list(os.environ):
        if name.startswith(("LLM_PLATFORM_", "DAGSTER_CLOUD_", "GIT_", "KUBERNETES_")):
            monkeypatch.delenv(name)


@pytest.mark.parametrize("field", FALLBACKS)
def test_variables_of_dagster_plus_are_the_fallback_for_ours(field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same image runs on Dagster+, where these are set by the platform."""
    ours, theirs = FALLBACKS[field]
    monkeypatch.setenv(theirs, "theirs")
    assert getattr(load_settings(), field) == "theirs"

    monkeypatch.setenv(ours, "ours")

    assert getattr(load_settings(), field) == "ours"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("main", "main", id="simple"),
        pytest.param("branch_42", "branch_42", id="underscores-and-digits"),
        pytest.param("x" * MAX_NAMESPACE_LENGTH, "x" * MAX_NAMESPACE_LENGTH, id="as-long-as-may-be"),
        pytest.param("feature/Add-Labels #42", "feature_add_labels_42_[0-9a-f]{8}", id="branch"),
        pytest.param("42-fix", "n_42_fix_[0-9a-f]{8}", id="starts-with-a-digit"),
        pytest.param("Jürgen.Müller", "j_rgen_m_ller_[0-9a-f]{8}", id="letters-beyond-ascii"),
        pytest.param("x" * 80, "x{31}_[0-9a-f]{8}", id="long"),
        pytest.param("a" * 30 + "-b" * 9, "a{30}_[0-9a-f]{8}", id="cut-at-a-separator"),
        pytest.param("---", "n_[0-9a-f]{8}", id="nothing-left"),
    ],
)
def test_a_namespace_is_a_name_for_folders_schemas_and_labels(text: str, expected: str) -> None:
    """A branch name goes into SQL identifiers and paths."""
    name = namespace_name(text)

    assert re.fullmatch(expected, name)
    assert re.fullmatch("[a-z][a-z0-9_]*", name)
    assert len(name) <= MAX_NAMESPACE_LENGTH
    assert namespace_name(name) == name


def test_names_that_differ_are_namespaces_that_differ() -> None:
    """Two people on two branches would write one another's tables, and one would publish what the other approved."""
    names = ["main", "main-", "MAIN", "Main", "-main", "main/", "分支", "другая", "n", "", "n_", "é", "e\u0301"]
    names += ["feature/a", "feature-a", "feature_a", "x" * 41, "x" * 42, "x" * 40, "\udcff"]

    assert len({namespace_name(name) for name in names}) == len(names)


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=Somebody", "-c", "user.email=somebody@example.org")
    command = ["git", *identity, "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout.strip()


def on_branch(folder: Path) -> Path:
    git(folder, "switch", "-q", "-c", "feature/Better-Prompt")
    return folder


def in_worktree(folder: Path) -> Path:
    git(folder, "worktree", "add", "-q", "-b", "feature/Better-Prompt", str(folder.with_name("worktree")))
    return folder.with_name("worktree")


def packed(folder: Path) -> Path:
    on_branch(folder)
    git(folder, "pack-refs", "--all")
    return folder


def detached(folder: Path) -> Path:
    git(folder, "switch", "-q", "--detach", "HEAD")
    return folder


@pytest.mark.parametrize(
    ("arrange", "branch"),
    [
        pytest.param(on_branch, True, id="branch"),
        pytest.param(in_worktree, True, id="worktree"),
        pytest.param(packed, True, id="packed-references"),
        pytest.param(detached, False, id="detached-head"),
    ],
)
def test_namespace_and_commit_follow_the_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arrange: Callable[[Path], Path], branch: bool
) -> None:
    """Somebody who switches the branch must not write into the tables of another one."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    (folder / "file").touch()
    git(folder, "add", "file")
    git(folder, "commit", "-q", "-m", "first")
    checkout = arrange(folder)
    monkeypatch.setattr(settings_module, "CHECKOUT", checkout)

    settings = load_settings()

    assert settings.git_commit == git(checkout, "rev-parse", "HEAD")
    assert settings.namespace == namespace_name("feature/Better-Prompt" if branch else getpass.getuser())


def test_without_a_checkout_the_namespace_is_the_user_and_the_state_is_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Installed from a wheel there is no folder of ours to write into."""
    monkeypatch.setattr(settings_module, "CHECKOUT", tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("LOGNAME", "somebody")

    settings = load_settings()

    assert (settings.namespace, settings.git_commit) == ("somebody", f"version {version('llm-platform')}")
    assert settings.state == tmp_path / "data" / "llm_platform"


SECRET = "s3cret-value"
MISTAKES = {
    "LLM_PLATFORM_NIM_SLOTS": "0",
    "LLM_PLATFORM_NIM_THREADS": SECRET,
    "LLM_PLATFORM_NIM_IDLE_MINUTES": "-1",
    "LLM_PLATFORM_OUTAGE_SECONDS": SECRET,
    "LLM_PLATFORM_SENSORS": SECRET,
    "LLM_PLATFORM_SENSOR_SECONDS": "0",
    "LLM_PLATFORM_NIM_POOL_LIMITS": '{"llama-8b": 0}',
    "LLM_PLATFORM_RUN_PRIORITY": SECRET,
    "LLM_PLATFORM_WAREHOUSES": f"postgres:password={SECRET}",
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_wrong_value_is_reported_by_its_name_and_is_not_repeated(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The value may be a password that was put into the wrong variable; logs are read by many."""
    monkeypatch.setenv(name, MISTAKES[name])

    with pytest.raises(SpecificationError, match=name) as caught:
        load_settings()

    shown, cause = str(caught.value), caught.value.__cause__
    while cause is not None:
        shown, cause = f"{shown}\n{cause}", cause.__cause__ or cause.__context__
    assert SECRET not in shown


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param(
            {}, ("sqlite:{state}/namespaces/{name}/catalog.sqlite", "{state}/namespaces/{name}/data", None), id="local"
        ),
        pytest.param(
            {"CATALOG": "postgres:dbname=lake user=me", "DATA_ROOT": "s3://bucket/lake/"},
            ("postgres:dbname=lake user=me", "s3://bucket/lake/{name}", "{name}"), id="production",
        ),
        pytest.param(
            {"CATALOG": "postgres:user=me", "UPSTREAM_CATALOG": "postgres:user=reader", "DATA_ROOT": "/data"},
            ("postgres:{role}", "/data/{name}", "{name}"), id="branch",
        ),
    ],
)  # fmt: skip
def test_a_namespace_is_a_catalog_and_a_prefix_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, values: dict[str, str], expected: tuple[str | None, ...]
) -> None:
    """Two namespaces share no place that either of them writes."""
    for name, value in {"STATE": str(tmp_path), "NAMESPACE": "mine", "UPSTREAM": "production", **values}.items():
        monkeypatch.setenv(f"LLM_PLATFORM_{name}", value)
    settings = load_settings()

    for name, role in {"mine": "user=me", "production": "user=reader"}.items():
        words = {"state": tmp_path, "name": name, "role": role}
        assert settings.location(name) == tuple(part and part.format(**words) for part in expected)
    assert settings.upstream_namespace == "production"


def test_the_page_of_settings_is_what_the_code_says() -> None:
    """A setting that stands nowhere is one that nobody can use; made anew by `llm-platform settings --markdown`."""
    page = (settings_module.CHECKOUT / "docs" / "settings.md").read_text(encoding="utf-8")

    assert page == settings_page()
    assert all(one.meaning and f"`{one.variable}`" in page for one in all_settings())
    assert str(settings_module.CHECKOUT) not in page


def test_values_of_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The list is what people paste into a ticket."""
    monkeypatch.setenv("LLM_PLATFORM_NIM_API_KEY", "nvapi-do-not-show")
    monkeypatch.setenv("LLM_PLATFORM_RUN_PRIORITY", "7")

    settings_command(markdown=False, everything=False)

    shown = capsys.readouterr().out
    assert "LLM_PLATFORM_NIM_API_KEY" in shown
    assert "nvapi" not in shown
    assert "7" in shown


def test_a_pod_has_neither_the_samples_nor_their_model_unless_it_is_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """They ran in production beside the company's own, and asked a toy model."""
    assert load_settings().samples
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")

    in_pod = load_settings()

    assert in_pod.application_folders == ()
    assert load_lock(in_pod.models_lock) == {}
    assert in_pod.source_warehouses == {}
    monkeypatch.setenv("LLM_PLATFORM_SAMPLES", "true")
    assert load_settings().application_folders
    assert list(load_lock(load_settings().models_lock)) == ["smollm2-135m"]


def test_catalog_and_upstream_have_password_files_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A branch reads production as one role and writes its own schema as another."""
    monkeypatch.setenv("LLM_PLATFORM_NAMESPACE", "branch_42")
    monkeypatch.setenv("LLM_PLATFORM_CATALOG", "postgres:dbname=lake user=branch_42")
    monkeypatch.setenv("LLM_PLATFORM_CATALOG_PASSWORD_FILE", "/run/secrets/branch/password")
    assert load_settings().location("production")[0] == load_settings().location("branch_42")[0]
    monkeypatch.setenv("LLM_PLATFORM_UPSTREAM_CATALOG", "postgres:dbname=lake user=reader")
    monkeypatch.setenv("LLM_PLATFORM_UPSTREAM_CATALOG_PASSWORD_FILE", "/run/secrets/reader/password")

    settings = load_settings()

    mine, theirs = settings.location("branch_42")[0], settings.location("production")[0]
    assert without_password_file(mine) == ("postgres:dbname=lake user=branch_42", Path("/run/secrets/branch/password"))
    assert without_password_file(theirs) == ("postgres:dbname=lake user=reader", Path("/run/secrets/reader/password"))


@pytest.mark.parametrize("value", ["postgresql://dagster:secret@db/dagster", "mysql://db/dagster", "postgresql://db"])
def test_the_address_of_dagsters_storage_holds_no_password_and_names_a_database(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is written into dagster.yaml."""
    monkeypatch.setenv("LLM_PLATFORM_DAGSTER_STORAGE", value)

    with pytest.raises(SpecificationError, match="LLM_PLATFORM_DAGSTER_STORAGE: ") as caught:
        load_settings()

    assert "secret" not in str(caught.value)


def test_an_empty_address_is_one_that_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """A workflow hands on '' where the repository has no such variable, and a laptop's catalog has no address."""
    for name in ("CATALOG", "UPSTREAM_CATALOG", "UPSTREAM", "DAGSTER_STORAGE", "DATA_ROOT"):
        monkeypatch.setenv(f"LLM_PLATFORM_{name}", "")

    settings = load_settings()

    addresses = (
        settings.catalog,
        settings.upstream_catalog,
        settings.upstream,
        settings.dagster_storage,
        settings.data_root,
    )
    assert addresses == (None,) * 5


def test_a_user_without_a_name_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pod runs under a number that no file knows; what it does is recorded all the same, and by one function."""

    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 10001")

    monkeypatch.setattr(getpass, "getuser", nobody)
    askers = [path for path in (CHECKOUT / "llm_platform").rglob("*.py") if "getpass" in path.read_text("utf-8")]

    assert (login(), login(otherwise="local")) == ("unknown", "local")
    assert [path.name for path in askers] == ["login.py"]
