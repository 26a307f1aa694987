"""Names that people give: to prompt and rubric files, and to entries of the lock file.

They become names of assets, and Dagster allows letters of ASCII, digits and underscores there. What stands for an
underscore there, a dot or a hyphen, may be written; two names that differ in nothing else may not.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path

from llm_platform.application.yaml.mistakes import Mistake, wording

ALLOWED = "letters from a to z, digits, '.', '_' and '-', beginning with a letter or a digit, at most 80"
_ALLOWED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
_README = "readme"


def broken_names(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Names that cannot be used, each with what is wrong with it."""
    first: dict[str, str] = {}
    for name in names:
        same = first.setdefault(identifier(name), name)
        if not _ALLOWED.fullmatch(name):
            yield name, wording(f"name {name!r}", ALLOWED, suggestion(name))
        elif same != name:
            yield name, wording(f"name {name!r} beside {same!r}", "names that differ in more than punctuation")


def identifier(name: str) -> str:
    """A name as Dagster writes it."""
    return re.sub(r"[^A-Za-z0-9_]", "_", name)


def suggestion(name: str) -> str | None:
    """The allowed name that is nearest."""
    plain = unicodedata.normalize("NFKD", name.replace("ß", "ss")).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9._-]+", "_", plain).strip("._-")[:80] or None


def markdown_files(folder: Path) -> list[Path]:
    """Markdown files of a folder that mean something: no hidden ones, as other systems leave, and no README."""
    try:
        found = sorted(folder.glob("*.md"))
    except OSError:
        # Whoever names a file in it is told that it is not there.
        return []
    return [path for path in found if not path.name.startswith(".") and path.stem.lower() != _README]


def misnamed_files(paths: Iterable[Path]) -> dict[Path, Mistake]:
    """Files whose names cannot be used."""
    by_stem = {path.stem: path for path in paths}
    return {by_stem[stem]: Mistake(str(by_stem[stem]), 1, f"file name: {text}") for stem, text in broken_names(by_stem)}
