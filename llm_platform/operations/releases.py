"""Which release a variant points at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.compute as pc

from llm_platform.application import Application
from llm_platform.errors import SpecificationError
from llm_platform.models.entries import LockEntry
from llm_platform.models.lock import load_lock, pin
from llm_platform.prompts.load import load_prompts
from llm_platform.records import Prompt, Release
from llm_platform.settings import Settings
from llm_platform.specification.load import find_applications, load_application
from llm_platform.warehouse.store import ApplicationStore

CHAMPION = "champion"


@dataclass(frozen=True)
class Candidates:
    """The files of one application, read: what each variant would send.

    Attributes:
        application: The specification.
        prompts: Prompt name → prompt, for every prompt that a variant names.
        lock: Lock entry name → entry, for every entry that a variant names.
    """

    application: Application
    prompts: Mapping[str, Prompt]
    lock: Mapping[str, LockEntry]

    def price(self, entry: str) -> float | None:
        """Price of one GPU of a lock entry for an hour, USD; None for an entry that the files no longer name."""
        return self.lock[entry].price_per_gpu_hour_usd if entry in self.lock else None

    def requesting(self, variant_name: str) -> Release:
        """The release that sends the requests of a variant: everything but what is applied to the answers."""
        variant = self.application.variants[variant_name]
        return Release(
            application=self.application.name,
            task=self.application.task,
            model=pin(self.lock[variant.model]),
            prompt=self.prompts[variant.prompt],
            sampling=variant.sampling,
            decision=variant.decision,
            output_schema=self.application.output_schema(),
        )

    def release(self, variant_name: str, store: ApplicationStore) -> Release | None:
        """The release that a variant points at, or None while its calibration is not fitted yet.

        A calibration is frozen once fitted: the newest release with the same requests is taken, so new labels change
        nothing until somebody asks for a new fit.
        """
        requesting = self.requesting(variant_name)
        if not self.application.variants[variant_name].calibrate:
            return requesting
        return latest_calibrated(store, requesting.request_id)


def load_applications(settings: Settings) -> dict[str, Candidates]:
    """Every application of the deployment by name, with its prompts and lock entries.

    Raises:
        SpecificationError: lists every mistake in every file.
    """
    return load_candidates(settings.application_folders, load_lock(settings.models_lock))


def candidates_of(settings: Settings, name: str) -> Candidates:
    """One application of the deployment.

    Raises:
        SpecificationError: there is none of this name, or a file has mistakes.
    """
    applications = load_applications(settings)
    if name not in applications:
        raise SpecificationError(
            f"There is no application {name!r}. There are: {', '.join(sorted(applications)) or 'none'}."
        )
    return applications[name]


def load_candidates(folders: Sequence[Path], lock: Mapping[str, LockEntry]) -> dict[str, Candidates]:
    """Every application in `folders` by name.

    Raises:
        SpecificationError: lists the mistakes of all applications, not only of the first.
    """
    found: dict[str, Candidates] = {}
    mistakes: list[str] = []
    for name, folder in find_applications(folders).items():
        try:
            application = load_application(folder, models=lock)
            prompts = load_prompts(application)
        except SpecificationError as error:
            mistakes.append(str(error))
            continue
        used = {variant.prompt for variant in application.variants.values()}
        entries = {variant.model: lock[variant.model] for variant in application.variants.values()}
        found[name] = Candidates(application, {key: prompts[key] for key in sorted(used)}, entries)
    if mistakes:
        raise SpecificationError("\n".join(mistakes))
    return found


def latest_calibrated(store: ApplicationStore, request_id: str) -> Release | None:
    """The newest stored release with these requests and a calibration."""
    rows = store.releases.table()
    matching = rows.filter(pc.equal(rows["request_id"], request_id))["content"].to_pylist()
    releases = (Release.model_validate_json(content) for content in reversed(matching))
    return next((release for release in releases if release.calibration is not None), None)


def champion_release(store: ApplicationStore) -> Release | None:
    """The release that serves the published table, from its stored content; None before the first promotion."""
    champion = store.rollout.champion()
    return store.releases.get(champion.release_id) if champion else None


def requesting(release: Release) -> Release:
    """The release whose stored answers `release` is derived from; itself unless it is calibrated."""
    return release.model_copy(update={"calibration": None})
