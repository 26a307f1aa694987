"""Applications read from their folders."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from llm_platform.application.model import Application, with_recordings_apart
from llm_platform.application.rules import broken_rules
from llm_platform.application.yaml.mistakes import Mistake, nearest, raise_all, read_text, wording
from llm_platform.application.yaml.read import read_yaml
from llm_platform.application.yaml.validate import validated

FILE_NAME = "application.yaml"


def load_application(folder: Path, *, models: Collection[str] | None = None) -> Application:
    """The application that a folder describes.

    Args:
        models: Entries of the lock file that variants may name; None leaves the names unchecked.

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
        mistakes.extend(broken_rules(yaml, folder, models=models))
    raise_all(mistakes)
    assert application is not None  # with no mistake there is an application
    return application.model_copy(update={"folder": folder})


def find_applications(folders: Sequence[Path]) -> dict[str, Path]:
    """Folders that hold an `application.yaml`, by name, sorted.

    Args:
        folders: Each an application's folder, or a folder of such folders.

    Raises:
        SpecificationError: a folder is missing, a file is misnamed, or two applications have one name.
    """
    mistakes: list[Mistake] = []
    found: dict[str, Path] = {}
    for folder in dict.fromkeys(folder.resolve() for folder in folders):
        inner = [folder] if (folder / FILE_NAME).exists() else _inner_applications(folder, mistakes)
        for application in inner:
            first = found.setdefault(application.name, application)
            if first != application:
                text = wording(f"a second application {application.name!r} (first in {first})", "each name once")
                mistakes.append(Mistake(str(application / FILE_NAME), 1, text))
    raise_all(mistakes)
    return dict(sorted(found.items()))


def _inner_applications(folder: Path, mistakes: list[Mistake]) -> list[Path]:
    if not folder.is_dir():
        mistakes.append(Mistake(str(folder), 1, wording("no such folder", "a folder with applications")))
        return []
    inner = []
    for child in sorted(folder.iterdir()):
        if not child.is_dir() or child.name.startswith((".", "__")):
            continue
        if (child / FILE_NAME).exists():
            inner.append(child)
        elif (close := nearest(FILE_NAME, [entry.name for entry in child.iterdir()], cutoff=0.85)) is not None:
            mistakes.append(Mistake(str(child / close), 1, wording(f"file {close!r}", repr(FILE_NAME), FILE_NAME)))
    return inner
