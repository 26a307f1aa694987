"""A lock file without what only a laptop needs: the extra `local`, and what nothing else asks for.

    python requirements.py pyproject.toml requirements.lock > requirements.txt

The lock says below each package who asks for it (`# via`); a package whose askers have all gone goes, too.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

ENTRY = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==", re.MULTILINE)


def normalized(name: str) -> str:
    """A name as package registries compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def needed(project: dict[str, object], lock: str) -> str:
    """The lock's entries that the platform needs in a cluster."""
    details = project["project"]
    assert isinstance(details, dict)
    own = normalized(details["name"])
    only_local = {
        normalized(re.split(r"[ ;<>=!~\[]", one, maxsplit=1)[0]) for one in details["optional-dependencies"]["local"]
    }
    always = {normalized(re.split(r"[ ;<>=!~\[]", one, maxsplit=1)[0]) for one in details["dependencies"]}
    # A package may stand twice, in one version for some Pythons and in another for the rest.
    entries = [(normalized(text.partition("==")[0]), text) for text in _entries(lock)]
    gone: set[str] = set()
    while more := {
        name
        for name, text in entries
        if name not in gone | always and _only(text, by=gone, own=own, local=name in only_local)
    }:
        gone |= more
    return "\n".join(text for name, text in entries if name not in gone) + "\n"


def _only(text: str, *, by: set[str], own: str, local: bool) -> bool:
    """Whether all who ask for an entry are among those that have gone, or ours that asks for it on a laptop only."""
    askers = _askers(text)
    return bool(askers) and askers <= by | ({own} if local else set())


def _entries(lock: str) -> list[str]:
    starts = [found.start() for found in ENTRY.finditer(lock)]
    return [lock[start:end].rstrip() for start, end in zip(starts, [*starts[1:], len(lock)], strict=True)]


def _askers(text: str) -> set[str]:
    found = re.findall(r"^\s+#\s+(?:via\s+)?([A-Za-z0-9._-]+)(?:\s|$)", text, flags=re.MULTILINE)
    return {normalized(name) for name in found if name != "via"}


if __name__ == "__main__":
    pyproject, lock_file = map(Path, sys.argv[1:3])
    sys.stdout.write(
        needed(tomllib.loads(pyproject.read_text(encoding="utf-8")), lock_file.read_text(encoding="utf-8"))
    )
