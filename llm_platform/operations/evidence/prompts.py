"""Versions of prompts: those in files, those that were stored, and those that were only tried."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from llm_platform.application.load import find_applications, load_application
from llm_platform.application.model import Application
from llm_platform.errors import SpecificationError
from llm_platform.models.lock import load_lock
from llm_platform.operations.releases import CHAMPION, LoadedApplication, champion_release, unknown_application
from llm_platform.prompts.load import load_prompt
from llm_platform.records import Prompt, Release
from llm_platform.warehouse.store import ApplicationStore


@dataclass(frozen=True)
class PromptVersion:
    """One version of a prompt.

    Attributes:
        first_seen: None for a file that nothing has run with.
        used_by: Variants whose file has this version now, `champion`, and `tried` where only a trial has used it.
        tags: What people have tagged it with.
    """

    name: str
    version: str
    first_seen: datetime | None
    used_by: tuple[str, ...]
    release_ids: tuple[str, ...]
    tags: tuple[str, ...]


@dataclass(frozen=True)
class TitledPrompt:
    """A prompt and what to call it in a comparison."""

    title: str
    prompt: Prompt


def prompt_versions(store: ApplicationStore, loaded: LoadedApplication) -> list[PromptVersion]:
    """Every version by name, oldest first."""
    seen: dict[tuple[str, str], datetime | None] = {}
    releases: dict[tuple[str, str], list[str]] = defaultdict(list)
    stored = store.prompts.table()
    for name, version, at in zip(*(stored[key].to_pylist() for key in ("name", "version", "created_at")), strict=True):
        seen.setdefault((name, version), at)
    for release, at in _releases(store):
        key = (release.prompt.name, release.prompt.version)
        seen.setdefault(key, at)
        releases[key].append(release.release_id)
    for name, prompt in loaded.prompts.items():
        seen.setdefault((name, prompt.version), None)
    used = _used_by(store, loaded)
    tags = _tags(store)
    tried = set(store.trials.table()["release_id"].to_pylist())
    return [
        PromptVersion(
            name=name,
            version=version,
            first_seen=at,
            used_by=tuple(used[name, version]) or (("tried",) if tried & set(releases[name, version]) else ()),
            release_ids=tuple(releases[name, version]),
            tags=tuple(tags[name] + tags[version]),
        )
        for (name, version), at in sorted(seen.items(), key=lambda item: (item[0][0], item[1] is None, item[1] or 0))
    ]


def prompts_to_compare(
    store: ApplicationStore, loaded: LoadedApplication, a: str, b: str | None
) -> tuple[TitledPrompt, TitledPrompt]:
    """The two prompts that `a` and `b` name; with `a` alone, the version that was stored before its file, and its file.

    Raises:
        SpecificationError: there is no such prompt, or nothing to compare it with.
    """
    if b is not None:
        return _named(store, loaded, a), _named(store, loaded, b)
    after = _named(store, loaded, a)
    versions = [
        one
        for one in prompt_versions(store, loaded)
        if one.name == after.prompt.name and one.version != after.prompt.version and one.first_seen is not None
    ]
    if not versions:
        raise SpecificationError(
            f"No other version of prompt {after.prompt.name!r} is stored. Name two: a prompt, a version, a release id "
            "or a path."
        )
    return _named(store, loaded, versions[-1].version), after


def application_of(folders: Sequence[Path], lock_file: Path, name: str) -> Application:
    """The specification of an application whose prompt files may have mistakes.

    Raises:
        SpecificationError: there is none of this name, or its application.yaml has mistakes.
    """
    found = find_applications(folders).folders
    if name not in found:
        raise unknown_application(name, found)
    return load_application(found[name], models=load_lock(lock_file))


def _named(store: ApplicationStore, loaded: LoadedApplication, name: str) -> TitledPrompt:
    if name in loaded.prompts:
        return TitledPrompt(f"{name} (file)", loaded.prompts[name])
    path = Path(name)
    if path.suffix == ".md":
        return TitledPrompt(name, load_prompt(path, loaded.application))
    stored = store.prompts.table()
    versions = {version: store.prompts.get for version in stored["version"].to_pylist() if version.startswith(name)}
    found: dict[str, Prompt] = {}
    for version, get in versions.items():
        prompt = get(version)
        if prompt is not None:
            found[version] = prompt
    for release, _ in _releases(store):
        if release.prompt.version.startswith(name) or release.release_id.startswith(name):
            found[release.prompt.version] = release.prompt
    if len(found) != 1:
        many = "no version or release begins" if not found else f"{len(found)} versions begin"
        raise SpecificationError(
            f"{loaded.application.name} has no prompt {name!r} (there are: {', '.join(loaded.prompts)}), and "
            f"{many} like this. See: llm-platform prompt list {loaded.application.name}"
        )
    version, prompt = next(iter(found.items()))
    return TitledPrompt(f"{prompt.name} {version}", prompt)


def _releases(store: ApplicationStore) -> list[tuple[Release, datetime]]:
    table = store.releases.table()
    columns = (table[name].to_pylist() for name in ("content", "created_at"))
    return [(Release.model_validate_json(content), at) for content, at in zip(*columns, strict=True)]


def _used_by(store: ApplicationStore, loaded: LoadedApplication) -> dict[tuple[str, str], list[str]]:
    used: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name, variant in loaded.application.variants.items():
        used[variant.prompt, loaded.prompts[variant.prompt].version].append(name)
    serving = champion_release(store)
    if serving is not None:
        used[serving.prompt.name, serving.prompt.version].append(CHAMPION)
    return used


def _tags(store: ApplicationStore) -> dict[str, list[str]]:
    """Name or version of a prompt → its tags."""
    tags: dict[str, list[str]] = defaultdict(list)
    for row in store.annotations.tags("prompt").to_pylist():
        if row["kind"] == "tag":
            tags[row["subject_id"]].append(row["body"])
    return tags
