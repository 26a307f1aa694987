"""Which release a variant points at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import pyarrow.compute as pc

from llm_platform.application.load import BrokenApplication, find_applications, load_application
from llm_platform.application.model import Application
from llm_platform.application.variants import Finetuning, Variant
from llm_platform.errors import SpecificationError
from llm_platform.files import file_sha256
from llm_platform.finetuning.adapter import base_identity
from llm_platform.models.entries import LockEntry
from llm_platform.models.lock import Lock, load_lock, pin
from llm_platform.prompts.judge_file import load_judges
from llm_platform.prompts.load import load_prompts
from llm_platform.records import (
    AdapterManifest,
    Judge,
    LongDocuments,
    ModelPin,
    Prices,
    Prompt,
    Recorded,
    RedactionRule,
    Release,
    Sampling,
    content_hash,
)
from llm_platform.warehouse.store import ApplicationStore

CHAMPION = "champion"
RECORDED = "recorded predictions"
"""In place of the names of a prompt and a model that there are none of."""
Content = TypeVar("Content", Prompt, Judge, Release)


@dataclass(frozen=True)
class LoadedApplication:
    """The files of one application, read: what each variant would send.

    Attributes:
        application: The specification.
        prompts: Prompt name → prompt, for every prompt that a variant, an adapter or `long_documents` names.
        lock: Lock entry name → entry, for every entry that a variant or a judge names.
        judges: Judge → its rubric.
        recorded: Variant → release, of those that were recorded.
    """

    application: Application
    prompts: Mapping[str, Prompt]
    lock: Mapping[str, LockEntry]
    judges: Mapping[str, Judge] = field(default_factory=dict)
    recorded: Mapping[str, Release] = field(default_factory=dict)

    def prices(self, entry: str) -> Prices:
        """What asking a lock entry costs; nothing is known of one that the files no longer name."""
        return self.lock[entry].prices if entry in self.lock else Prices()

    def requesting(self, variant_name: str, store: ApplicationStore) -> Release | None:
        """The release that sends the requests of a variant: everything but what is applied to the answers.

        None while its adapter is not trained yet.
        """
        wanted = self.application.variants[variant_name].adapter
        release = self.without_adapter(variant_name)
        if wanted is None:
            return release
        adapter = self.adapter(wanted, store)
        return release.model_copy(update={"adapter": adapter.adapter_id}) if adapter is not None else None

    def without_adapter(self, variant_name: str) -> Release:
        """What a variant sends to its base model."""
        variant = self.application.variants[variant_name]
        return Release(
            application=self.application.name,
            task=self.application.task,
            model=pin(self.lock[variant.model]),
            prompt=self.prompts[variant.prompt],
            sampling=variant.sampling,
            decision=variant.decision,
            output_schema=self.application.output_schema(),
            long_documents=self._long_documents(),
            redaction=_redaction(self.application),
        )

    def _long_documents(self) -> LongDocuments | None:
        rules = self.application.long_documents
        if rules.policy == "reject":
            return None
        if rules.policy == "truncate":
            return LongDocuments(policy="truncate")
        return LongDocuments(
            policy="split",
            overlap_tokens=rules.overlap_tokens,
            priority=rules.priority,
            fields=rules.fields,
            prompt=None if rules.prompt is None else self.prompts[rules.prompt],
        )

    def release(self, variant_name: str, store: ApplicationStore) -> Release | None:
        """The release that a variant points at, or None while it is `pending`.

        A calibration is frozen once fitted: the newest release with the same requests is taken, so new labels change
        nothing until somebody asks for a new fit. The same holds for an adapter.
        """
        if variant_name in self.recorded:
            return self.recorded[variant_name]
        requesting = self.requesting(variant_name, store)
        if requesting is None or not self.application.variants[variant_name].calibrate:
            return requesting
        return latest_calibrated(store, requesting.request_id)

    def pending(self, variant_name: str, store: ApplicationStore) -> str | None:
        """Why a variant points at no release yet, in words; None when it does."""
        if variant_name in self.recorded:
            return None
        if self.requesting(variant_name, store) is None:
            return f"its adapter {self.application.variants[variant_name].adapter!r} is not trained yet"
        return None if self.release(variant_name, store) else "its calibration is not fitted yet"

    def adapter(self, name: str, store: ApplicationStore) -> AdapterManifest | None:
        """The adapter that a name of `finetuning` points at: the newest that fits what the files say.

        It fits when it was made for the present pin and, unless it was trained elsewhere, for the present prompt by the
        present recipe. New labels change nothing until somebody trains again.
        """
        spec = self.application.finetuning[name]
        wanted = (self.prompts[spec.prompt].version, base_identity(pin(self.lock[spec.model])))
        for manifest in store.adapters.named(name):
            imported = manifest.imported_from is not None
            made_for = wanted[0] if imported else manifest.prompt_version
            fits = imported or manifest.recipe == spec.recipe()
            if fits and (made_for, base_identity(manifest.base)) == wanted:
                return manifest
        return None


class Applications(dict[str, LoadedApplication]):
    """Applications by name: those that can be used.

    Attributes:
        broken: Those that cannot, and why.
    """

    def __init__(self, loaded: Mapping[str, LoadedApplication], broken: Sequence[BrokenApplication]) -> None:
        super().__init__(loaded)
        self.broken = tuple(broken)

    def named(self, name: str) -> LoadedApplication:
        """One of them.

        Raises:
            SpecificationError: there is none of this name, or its files have mistakes.
        """
        if name in self:
            return self[name]
        mistakes = [one.mistakes for one in self.broken if one.name == name]
        if mistakes:
            raise SpecificationError("\n".join(mistakes))
        raise unknown_application(name, self)


def load_applications(folders: Sequence[Path], lock_file: Path, month_tokens: int | None = None) -> Applications:
    """Every application in `folders` by name, with its prompts and the entries of the lock file.

    What is wrong with one of them, or with a lock entry that it names, is no matter of the others.

    Args:
        month_tokens: What each may use a month here at most, also where its own budget allows more.
    """
    try:
        lock = load_lock(lock_file)
    except SpecificationError as error:
        found = find_applications(folders)
        unlocked = [BrokenApplication(name, folder, str(error)) for name, folder in found.folders.items()]
        return Applications({}, [*found.broken, *unlocked])
    loaded = load_folders(folders, lock)
    if month_tokens is None:
        return loaded
    return Applications({name: _within(one, month_tokens) for name, one in loaded.items()}, loaded.broken)


def _within(loaded: LoadedApplication, month_tokens: int) -> LoadedApplication:
    """An application whose month has no more tokens than that."""
    application = loaded.application
    month = application.budget.month
    least = month.model_copy(update={"tokens": min(month.tokens or month_tokens, month_tokens)})
    budget = application.budget.model_copy(update={"month": least})
    return replace(loaded, application=application.model_copy(update={"budget": budget}))


def loaded_application(
    folders: Sequence[Path], lock_file: Path, month_tokens: int | None, name: str
) -> LoadedApplication:
    """One application in `folders`.

    Args:
        month_tokens: As in `load_applications`.

    Raises:
        SpecificationError: there is none of this name, or its files have mistakes.
    """
    return load_applications(folders, lock_file, month_tokens).named(name)


def load_folders(folders: Sequence[Path], lock: Lock) -> Applications:
    """Every application in `folders` by name."""
    found = find_applications(folders)
    loaded: dict[str, LoadedApplication] = {}
    broken = list(found.broken)
    for name, folder in found.folders.items():
        try:
            loaded[name] = _load(folder, lock)
        except SpecificationError as error:
            broken.append(BrokenApplication(name, folder, str(error)))
        except (OSError, ValueError, RecursionError) as error:
            broken.append(
                BrokenApplication(name, folder, f"{folder}:1: cannot be read ({type(error).__name__}: {error})")
            )
    return Applications(loaded, broken)


def _load(folder: Path, lock: Lock) -> LoadedApplication:
    known = [*lock, *lock.broken]
    unpriced = [name for name, entry in lock.items() if not entry.prices.are_known]
    application = load_application(folder, models=known, unpriced=unpriced)
    mistakes: list[str] = []
    prompts = _read(lambda: load_prompts(application), mistakes)
    judges = _read(lambda: load_judges(application, models=known), mistakes)
    recordings = application.recordings
    recorded = _read(lambda: {name: recorded_release(application, name) for name in recordings}, mistakes)
    named: list[Variant | Finetuning] = [*application.variants.values(), *application.finetuning.values()]
    models = dict.fromkeys(one.model for one in (*named, *judges.values()))
    mistakes += [lock.broken[model] for model in models if model in lock.broken]
    if mistakes:
        raise SpecificationError("\n".join(mistakes))
    used = {one.prompt for one in named}
    if application.long_documents.prompt is not None:
        used.add(application.long_documents.prompt)
    entries = {model: lock[model] for model in models}
    return LoadedApplication(application, {key: prompts[key] for key in sorted(used)}, entries, judges, recorded)


def _read(read: Callable[[], dict[str, Content]], mistakes: list[str]) -> dict[str, Content]:
    """What is read, so that all mistakes of an application are said at once."""
    try:
        return read()
    except SpecificationError as error:
        mistakes.append(str(error))
        return {}


def recorded_release(application: Application, variant: str) -> Release:
    """The release of recorded predictions, by the content of their file and how it is read.

    Raises:
        SpecificationError: the file cannot be read.
    """
    predictions = application.recordings[variant].predictions
    path = application.folder / predictions.url
    try:
        content = file_sha256(path)
    except OSError as error:
        raise SpecificationError(
            f"{application.name}/{variant}: the predictions {str(path)!r} cannot be read: {error.strerror}."
        ) from error
    mapping = predictions.model_dump(mode="json", exclude={"url"})
    return Release(
        application=application.name,
        task=application.task,
        model=ModelPin(entry=RECORDED, served_name=RECORDED, dialect="hosted", context_length=0),
        # With these its answers are read by the reader that reads all others.
        prompt=Prompt(name=RECORDED, api="completion", messages=(), answers={one: one for one in application.labels}),
        sampling=Sampling(),
        decision="text",
        output_schema=application.output_schema(),
        redaction=None if application.task == "classify" else _redaction(application),
        recorded=Recorded(
            address=predictions.url,
            content=content,
            mapping=content_hash([mapping, path.suffix.lower()]),
        ),
    )


def _redaction(application: Application) -> RedactionRule | None:
    return None if application.redaction is None else application.redaction.rule()


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


def unknown_application(name: str, known: Iterable[str]) -> SpecificationError:
    """What is said where nothing has this name."""
    there = ", ".join(sorted(known)) or "none"
    return SpecificationError(
        f"There is no application {name!r}. There are: {there}. Others are found in the folders that "
        "LLM_PLATFORM_APPLICATIONS names; a new one is made by: llm-platform application new NAME --source FILE"
    )


def senders(store: ApplicationStore, loaded: LoadedApplication, variant: str | None = None) -> dict[str, Release]:
    """Variant → the release that sends its requests, the champion's too; each once, and only those that there are.

    Raises:
        SpecificationError: there is no such variant.
    """
    names = [*loaded.application.variants, CHAMPION]
    if variant is not None and variant not in names:
        raise SpecificationError(
            f"{loaded.application.name} has no variant {variant!r}. There are: {', '.join(names)}."
        )
    found: dict[str, Release] = {}
    for name in names if variant is None else [variant]:
        release = champion_release(store) if name == CHAMPION else loaded.requesting(name, store)
        sender = release and requesting(release)
        if sender and sender.release_id not in {one.release_id for one in found.values()}:
            found[name] = sender
    return found
