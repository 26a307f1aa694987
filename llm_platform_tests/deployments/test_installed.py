"""An installed package is not a checkout: what it needs has to come along."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml
from setuptools import build_meta

from llm_platform.settings.settings import CHECKOUT

TOP = ("dagster.yaml", "models.lock.yaml", "workspace.yaml")
DOCUMENTS = "id,text,label\n" + "".join(
    f"t{row},The printer on floor {row} is {'on fire' if row % 2 else 'fine'}.,{'URGENT' if row % 2 else 'CALM'}\n"
    for row in range(20)
)


def built(name: str, folder: Path) -> Path:
    """The distribution of this checkout, built from a copy: a build leaves behind what the next one would pack."""
    copy, before = folder / "copy", Path.cwd()
    left_out = shutil.ignore_patterns(
        ".git", ".venv", ".llm_platform", ".*_cache", "__pycache__", "build", "*.egg-info"
    )
    shutil.copytree(CHECKOUT, copy, symlinks=True, ignore=left_out)
    os.chdir(copy)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            return folder / getattr(build_meta, f"build_{name}")(str(folder))
    finally:
        os.chdir(before)


class Installed:
    """A wheel unpacked beside the packages it needs, and an empty folder to work in."""

    def __init__(self, folder: Path) -> None:
        self.site, self.work, self.home = folder / "site", folder / "work", folder / "home"
        self.work.mkdir()
        self.home.mkdir()
        with zipfile.ZipFile(built("wheel", folder)) as wheel:
            wheel.extractall(self.site)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`llm-platform` in the empty folder; the variables of whoever tests do not count."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("LLM_PLATFORM_", "DAGSTER_"))}
        environment = {**kept, "PYTHONPATH": str(self.site), "XDG_DATA_HOME": str(self.home)}
        environment["LLM_PLATFORM_APPLICATIONS"] = str(self.work / "applications")
        command = [sys.executable, "-c", "from llm_platform.cli.main import main; main()", *arguments]
        return subprocess.run(
            command, cwd=self.work, env=environment, capture_output=True, text=True, timeout=120, check=False
        )


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return Installed(tmp_path_factory.mktemp("installed"))


def test_a_wheel_brings_the_files_of_a_deployment(installed: Installed) -> None:
    """In a checkout they are links to the files at its top; a wheel must hold their content."""
    for name in TOP:
        shipped = installed.site / "llm_platform" / "shipped" / name
        assert not shipped.is_symlink()
        assert shipped.read_bytes() == (CHECKOUT / name).read_bytes()


def test_a_wheel_brings_every_file_of_the_shipped_applications(installed: Installed) -> None:
    """A report that stays behind is a document less, and nothing says so."""
    theirs, ours = (
        {path.relative_to(root) for path in (root / "llm_platform" / "applications").rglob("*.*") if path.is_file()}
        for root in (installed.site, CHECKOUT)
    )

    assert theirs == {path for path in ours if path.suffix != ".pyc"}
    assert {".pdf", ".docx", ".eml", ".html", ".md", ".txt", ".csv", ".yaml"} <= {path.suffix for path in theirs}


def test_an_application_is_made_checked_and_planned_without_a_checkout(installed: Installed) -> None:
    """Whoever types `pip install` has an empty folder and a table."""
    (installed.work / "tickets.csv").write_text(DOCUMENTS, encoding="utf-8")

    made = installed.run("application", "new", "tickets", "--source", "tickets.csv", "--answer", "label")
    checked = installed.run("application", "check")
    home = installed.run("dagster-home")

    assert made.returncode == 0, made.stderr
    assert checked.returncode == 0, checked.stderr
    assert "tickets" in checked.stdout
    assert home.returncode == 0, home.stderr
    written = yaml.safe_load((Path(home.stdout.strip()) / "dagster.yaml").read_text(encoding="utf-8"))
    shipped = yaml.safe_load((CHECKOUT / "dagster.yaml").read_text(encoding="utf-8"))
    assert {key: written[key] for key in shipped} == shipped
    assert written["storage"]["custom"]["config"] == {"base_dir": home.stdout.strip()}
    assert home.stdout.startswith(str(installed.home))


def test_the_lock_file_of_a_package_is_not_written(installed: Installed) -> None:
    """The next upgrade would take the pin away, and nobody would know which model was meant."""
    refused = installed.run("model", "lock", "smollm2-135m")

    assert refused.returncode == 1
    assert "LLM_PLATFORM_MODELS_LOCK" in refused.stderr


def test_a_source_distribution_holds_the_tests_and_all_they_read(tmp_path: Path) -> None:
    """Distributors test what they package, and have no history."""
    with tarfile.open(built("sdist", tmp_path)) as archive:
        root = archive.getnames()[0].partition("/")[0]
        names = {name.removeprefix(f"{root}/") for name in archive.getnames()}

    tracked = subprocess.run(["git", "ls-files"], cwd=CHECKOUT, capture_output=True, text=True, check=False).stdout
    assert {*TOP, "LICENSE", "Makefile", "llm_platform_tests/conftest.py", "docs/settings.md", ".ci/run"} <= names
    assert set(tracked.splitlines()) <= names
