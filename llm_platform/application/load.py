"""Applications read from their folders."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from llm_platform.application.model import Application
from llm_platform.application.rules import PROMPTS_FOLDER, broken_rules
from llm_platform.application.variants import with_recordings_apart
from llm_platform.application.yaml.mistakes import Mistake, nearest, raise_all, read_text, wording
from llm_platform.application.yaml.read import read_yaml
from llm_platform.application.yaml.validate import validated

FILE_NAME = "application.yaml"
HIDDEN = (".", "__")


def load_application(
    folder: Path, *, models: Collection[str] | None = None, unpriced: Collection[str] = ()
) -> Application:
    """The application that a folder describes.

    Args:
        models: Entries of the lock file that variants may name; None leaves the names unchecked.
        unpriced: Those of them that have no price.

    Raises:
        SpecificationError: the file is wrong; every mistake is a line of the message.
    """
    path = folder / FILE_NAME
    mistakes: list[Mistake] = []
    text = read_text(path, mistakes)
    yaml = read_yaml(path, text, mistakes) if text is not None else None
    application = None
    if yaml is not None:
        application = validated(
            Application,
            yaml,
            mistakes,
            data=with_recordings_apart(yaml.data),
            written_as={"recordings": "variants"},
        )
        mistakes.extend(broken_rules(yaml, folder, models=models, unpriced=unpriced))
    raise_all(mistakes)
    assert application is not None  # with no mistake there is an application
    return application.model_copy(update={"folder": folder})


@dataclass(frozen=True)
class BrokenApplication:
    """A folder of an application that cannot be used, and why, one mistake a line."""

    name: str
    folder: Path
    mistakes: str


@dataclass(frozen=True)
class FoundApplications:
    """Folders that hold an `application.yaml` by name, sorted; and what only looks like one."""

    folders: Mapping[str, Path]
    broken: tuple[BrokenApplication, ...] = ()


def find_applications(folders: Sequence[Path]) -> FoundApplications:
    """Every application in these folders. What is wrong with one of them is no matter of the others.

    Args:
        folders: Each an application's folder, or a folder of such folders.
    """
    broken: list[BrokenApplication] = []
    candidates: dict[Path, list[Path]] = {}
    for folder in dict.fromkeys(_resolved(folder) for folder in folders):
        for child in _candidates(folder, broken):
            candidates.setdefault(_resolved(child), []).append(child)
    found: dict[str, Path] = {}
    for real, same in candidates.items():
        # Of several ways to one folder, the one that has its name.
        application, *others = sorted(dict.fromkeys(same), key=lambda one: one.name != real.name)
        first = found.setdefault(application.name, application)
        if first != application:
            others.insert(0, application)
        for other in others:
            what = (
                f"a link to {first}"
                if first == application
                else f"a second application {first.name!r} (first in {first})"
            )
            text = wording(what, "each name once")
            broken.append(BrokenApplication(other.name, other, str(Mistake(str(other / FILE_NAME), 1, text))))
    return FoundApplications(dict(sorted(found.items())), tuple(broken))


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError):
        # A link to itself; it is reported where it is read.
        return path.absolute()


def _candidates(folder: Path, broken: list[BrokenApplication]) -> list[Path]:
    """Folders of applications in a folder, or itself."""
    try:
        if _is_there(folder / FILE_NAME):
            return [folder]
        children = sorted(child for child in folder.iterdir() if child.is_dir() and not child.name.startswith(HIDDEN))
    except OSError as error:
        found = "no such folder" if isinstance(error, FileNotFoundError) else f"no readable folder ({error.strerror})"
        text = wording(found, "a folder with applications")
        broken.append(BrokenApplication(folder.name, folder, str(Mistake(str(folder), 1, text))))
        return []
    inner = []
    for child in children:
        mistake = _why_none(child)
        if mistake is None and _is_there(child / FILE_NAME):
            inner.append(child)
        elif mistake is not None:
            broken.append(BrokenApplication(child.name, child, str(mistake)))
    return inner


def _is_there(path: Path) -> bool:
    """Whether there is something by this name, readable or not."""
    return os.path.lexists(path)


def _why_none(folder: Path) -> Mistake | None:
    """Why a folder is no application although it looks like one; None for an application, and for any other folder."""
    try:
        names = [entry.name for entry in folder.iterdir()]
    except OSError as error:
        return Mistake(str(folder), 1, wording(f"no readable folder ({error.strerror})", "a folder with applications"))
    if FILE_NAME in names:
        return None
    if (close := nearest(FILE_NAME, names, cutoff=0.85)) is not None:
        return Mistake(str(folder / close), 1, wording(f"file {close!r}", repr(FILE_NAME), FILE_NAME))
    if PROMPTS_FOLDER in names:
        return Mistake(str(folder), 1, wording(f"prompts without {FILE_NAME!r}", f"a folder with {FILE_NAME!r}"))
    return None
