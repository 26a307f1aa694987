"""Publishing adapters, and waiting until they are served."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llm_platform.errors import EndpointUnavailable, RequestRejected, SpecificationError, StorageError
from llm_platform.nim.adapters import load, publish, retire, served_adapters, unload, wait_served

BASE = {"id": "base", "root": "/models/base", "parent": None}
TUNED = {"id": "tuned", "root": "/loras/tuned", "parent": "base"}
TOKEN = {"usage": {"completion_tokens": 1}}


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """What a training leaves."""
    folder = tmp_path / "trained"
    folder.mkdir()
    (folder / "adapter_config.json").write_text("{}")
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    (folder / "manifest.json").write_text("{}")
    return folder


class Endpoint:
    """Answers by what is served at the moment it is asked; `replies` are functions of how often it was asked."""

    def __init__(self, **replies: Callable[[int], tuple[int, Any]]) -> None:
        self._replies = replies
        self.asked: dict[str, int] = {}

    def get(self, url: str) -> tuple[int, bytes]:
        return self._reply(url)

    def post(self, url: str, payload: dict[str, Any]) -> tuple[int, bytes]:
        return self._reply(url)

    def _reply(self, url: str) -> tuple[int, bytes]:
        path = url.rsplit("/", 1)[1]
        self.asked[path] = self.asked.get(path, 0) + 1
        status, body = (
            self._replies[path](self.asked[path]) if path in self._replies else (404, {"detail": "Not Found"})
        )
        return status, body if isinstance(body, bytes) else json.dumps(body).encode()


def test_published_adapter_is_whole_and_readable_by_everyone(trained: Path, tmp_path: Path) -> None:
    """A NIM runs as another user; a folder that only its writer may enter is an empty one."""
    published = publish(trained, tmp_path / "peft", "a-1")

    assert published == tmp_path / "peft" / "a-1"
    assert {path.name for path in published.iterdir()} == {path.name for path in trained.iterdir()}
    assert published.stat().st_mode & 0o777 == 0o755
    assert {path.stat().st_mode & 0o777 for path in published.iterdir()} == {0o644}
    assert [path.name for path in (tmp_path / "peft").iterdir()] == ["a-1"]


def test_publishing_again_changes_nothing_and_other_content_is_refused(trained: Path, tmp_path: Path) -> None:
    """A release pins an adapter by its name: the name must not come to mean something else."""
    first = publish(trained, tmp_path / "peft", "a").stat()

    assert publish(trained, tmp_path / "peft", "a").stat().st_ino == first.st_ino
    (trained / "adapter_model.safetensors").write_bytes(b"others")
    with pytest.raises(StorageError, match=r"another adapter \(content [0-9a-f]{16}, wanted [0-9a-f]{16}\)"):
        publish(trained, tmp_path / "peft", "a")


def test_what_a_killed_publisher_left_is_invisible_and_swept_later(trained: Path, tmp_path: Path) -> None:
    """Half an adapter must never be served, and the folder must not fill up."""
    left = tmp_path / "peft" / ".a.left"
    left.mkdir(parents=True)
    (left / "adapter_config.json").write_text("{}")
    os.utime(left, (0, 0))
    young = tmp_path / "peft" / ".a.young"
    young.mkdir()

    publish(trained, tmp_path / "peft", "a")

    assert not left.exists()
    assert young.exists()


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "..", "with space", "a" * 129])
def test_names_that_are_no_folder_and_model_name_are_refused(name: str, trained: Path, tmp_path: Path) -> None:
    """A hidden folder is never served, and a path leads out of the source."""
    with pytest.raises(SpecificationError, match="as the name of an adapter"):
        publish(trained, tmp_path / "peft", name)


def test_folder_without_an_adapter_is_not_published(tmp_path: Path) -> None:
    """The message says which file is missing, not that nobody served it after two minutes."""
    with pytest.raises(SpecificationError, match=r"no adapter_config\.json, adapter_model\.safetensors there"):
        publish(tmp_path, tmp_path / "peft", "a")


def test_retired_adapter_is_gone_at_once(trained: Path, tmp_path: Path) -> None:
    """Removed file by file, it would be seen broken in between."""
    publish(trained, tmp_path / "peft", "a")

    assert retire(tmp_path / "peft", "a")
    assert not retire(tmp_path / "peft", "a")
    assert list((tmp_path / "peft").iterdir()) == []


def test_an_adapter_counts_as_served_when_it_is_listed_and_generates() -> None:
    """A listed adapter may still fail to load; the first request of a run is too late to find out."""
    endpoint = Endpoint(
        models=lambda times: (200, {"data": [BASE] if times == 1 else [BASE, TUNED]}),
        completions=lambda times: (500, {}) if times == 1 else (200, TOKEN),
    )

    wait_served(["http://e/v1"], "tuned", endpoint, deadline_seconds=30)

    assert endpoint.asked == {"models": 3, "adapters": 1, "completions": 2}


@pytest.mark.parametrize(
    ("replies", "said"),
    [
        pytest.param({"models": (200, {"data": [BASE]})}, "/v1/models lists 'base'", id="not-listed"),
        pytest.param(
            {"models": (200, {"data": [BASE]}), "adapters": (200, {"refused": {"tuned": "rank 64"}})},
            "lists 'base'; it refuses 'tuned', and says why at http://e/v1/adapters",
            id="refused",
        ),
        pytest.param(
            {"models": (200, {"data": [BASE, TUNED]}), "completions": (500, {})}, "HTTP 500 came back", id="no-token"
        ),
        pytest.param({"models": (503, {})}, "HTTP 503 without a list of models", id="not-ready"),
    ],
)
def test_at_the_deadline_the_last_state_is_named(replies: dict[str, tuple[int, Any]], said: str) -> None:
    """'Timed out' sends people to the wrong place."""
    endpoint = Endpoint(**{path: lambda _, reply=reply: reply for path, reply in replies.items()})

    with pytest.raises(EndpointUnavailable, match=f"does not serve adapter 'tuned' after 0 s.*{said}"):
        wait_served(["http://e"], "tuned", endpoint, deadline_seconds=0)


def test_adapters_are_told_from_base_models_in_both_dialects() -> None:
    """1.x names the base in `root`, 2.x in `parent`."""
    older = {"id": "older", "root": "base1", "parent": None}
    base1 = {"id": "base1", "root": "base1", "parent": None}
    endpoint = Endpoint(models=lambda _: (200, {"data": [BASE, TUNED, base1, older]}))

    assert served_adapters("http://e", endpoint) == {"tuned": "base", "older": "base1"}


def test_the_api_is_used_where_the_dialect_has_it() -> None:
    """Loaded twice is loaded; unloaded twice is unloaded; a dialect without the call says so."""
    loaded = Endpoint(
        load_lora_adapter=lambda _: (400, {"error": {"message": "'a' has already been loaded."}}),
        unload_lora_adapter=lambda times: (
            (200, b"ok") if times == 1 else (404, {"error": {"message": "cannot be found"}})
        ),
    )
    load("http://e", "a", "/loras/a", loaded)
    assert unload("http://e", "a", loaded)
    assert not unload("http://e", "a", loaded)

    with pytest.raises(RequestRejected, match=r"it has no such call \(HTTP 404\)"):
        load("http://e", "a", "/loras/a", Endpoint())


def test_what_an_endpoint_says_of_an_adapter_is_in_no_error() -> None:
    """A gateway's page may repeat whatever was sent through it; the endpoint's own log is the place to look."""
    said = (500, {"error": {"message": "while Mueller, 12 Main St"}})
    refusing = Endpoint(
        load_lora_adapter=lambda _: said,
        unload_lora_adapter=lambda _: said,
        models=lambda _: (200, {"data": [BASE]}),
        adapters=lambda _: (200, {"refused": {"a": "while Mueller, 12 Main St"}}),
    )
    with pytest.raises(RequestRejected, match=r"HTTP 500\. Its log says why") as loading:
        load("http://e", "a", "/loras/a", refusing)
    with pytest.raises(RequestRejected, match=r"HTTP 500\. Its log says why") as unloading:
        unload("http://e", "a", refusing)
    with pytest.raises(EndpointUnavailable, match="says why at http://e/v1/adapters") as waiting:
        wait_served(["http://e"], "a", refusing, deadline_seconds=0)

    assert not any("Mueller" in str(one.value) for one in (loading, unloading, waiting))
