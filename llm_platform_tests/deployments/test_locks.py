"""What `pyproject.toml` asks for is what the lock files install and what is tested."""

from __future__ import annotations

import re
import tomllib
from collections import Counter

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from llm_platform.settings.settings import CHECKOUT

PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
LOCKED = re.compile(r"^([\w.-]+)(?:\[[^\]]*\])?==([^ ;\\]+)", re.MULTILINE)
WITHOUT_LOCK = {"torch"}
"""Which build of it fits is a matter of the machine."""


@pytest.mark.parametrize(
    ("lock", "asked"),
    [
        ("requirements.lock", [*PROJECT["dependencies"], *EXTRAS["local"], *EXTRAS["files"]]),
        ("requirements-finetune.lock", EXTRAS["finetune"]),
        ("requirements-dev.lock", EXTRAS["dev"]),
    ],
)
def test_a_lock_has_a_version_that_fits_each_requirement(lock: str, asked: list[str]) -> None:
    """A requirement that was added or raised without `make lock` is installed by nobody who follows the README."""
    found = {
        canonicalize_name(name): version
        for name, version in LOCKED.findall((CHECKOUT / lock).read_text(encoding="utf-8"))
    }

    unmet = [
        text
        for text in asked
        if (wanted := Requirement(text)).name not in WITHOUT_LOCK
        and not wanted.specifier.contains(found.get(canonicalize_name(wanted.name), "0.dev0"), prereleases=True)
    ]

    assert unmet == []


def test_no_requirement_is_stated_twice() -> None:
    """The second one is raised, and the first one still says what it said."""
    for asked in (PROJECT["dependencies"], *EXTRAS.values()):
        names = Counter(canonicalize_name(Requirement(text).name) for text in asked)
        assert [name for name, count in names.items() if count > 1] == []


def test_every_version_of_python_that_is_promised_is_tested() -> None:
    """A promise that no machine keeps is found out by a stranger."""
    checks = yaml.safe_load((CHECKOUT / ".github" / "workflows" / "checks.yml").read_text(encoding="utf-8"))
    tested = checks["jobs"]["test"]["strategy"]["matrix"]["python"]
    named = [one.rpartition(" ")[2] for one in PROJECT["classifiers"] if one.startswith("Programming Language")]

    assert PROJECT["requires-python"] == ">=3.11,<3.14"
    assert tested == named == ["3.11", "3.12", "3.13"]
