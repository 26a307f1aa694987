"""`models.lock.yaml`: read, checked, and turned into pins.

Every mistake of the file is reported at once, one a line, as `file:line: found …; allowed: …`. A mistake in one entry
is that of the applications that name it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

from llm_platform.application.names import broken_names
from llm_platform.application.yaml.mistakes import Mistake, listed, raise_all, read_text, wording
from llm_platform.application.yaml.read import LocatedYaml, read_yaml
from llm_platform.application.yaml.validate import validated
from llm_platform.errors import SpecificationError
from llm_platform.models.entries import LockEntry, LockModel
from llm_platform.records import ModelPin, content_hash


class LockFile(LockModel):
    """The whole file: the name of a model → its entry."""

    models: dict[str, LockEntry]


class Lock(dict[str, LockEntry]):
    """Entries of a lock file by name: those that can be used.

    Attributes:
        broken: Name of an entry → its mistakes, one a line; whoever names none of these goes on without them.
    """

    def __init__(self, entries: Mapping[str, LockEntry], broken: Mapping[str, str]) -> None:
        super().__init__(entries)
        self.broken = dict(broken)

    def require_whole(self) -> Lock:
        """The same.

        Raises:
            SpecificationError: an entry has mistakes; lists all of them.
        """
        if self.broken:
            raise SpecificationError("\n".join(self.broken.values()))
        return self


def load_lock(path: Path) -> Lock:
    """Entries of a lock file by name; an entry with mistakes is kept apart from the others.

    Raises:
        SpecificationError: the file as a whole cannot be read; lists why, with file and line.
    """
    mistakes: list[Mistake] = []
    text = read_text(path, mistakes)
    raise_all(mistakes)
    return _lock(path, text or "")


def parse_lock(text: str, name: str) -> dict[str, LockEntry]:
    """Entries of a lock file that is not on disk, e.g. of an earlier commit; `name` stands for its path in messages.

    Raises:
        SpecificationError: lists every mistake with file and line.
    """
    return _lock(Path(name), text).require_whole()


def pin(entry: LockEntry) -> ModelPin:
    """What of an entry decides an answer: not its price, its GPU, its licence, or where it is served."""
    return ModelPin(
        entry=entry.name,
        served_name=entry.served_name,
        dialect=entry.dialect,
        image=entry.image.reference if entry.image else None,
        profile=entry.profile,
        weights_sha256=entry.weights.sha256 if entry.weights else None,
        context_length=entry.context_length,
        model=entry.model,
        revision=entry.revision,
        release=entry.release,
        engine=entry.engine,
        tokenizer_sha256=entry.tokenizer_sha256,
        chat_template_sha256=entry.chat_template_sha256,
        fingerprint=content_hash(list(entry.fingerprint)) if entry.fingerprint else None,
    )


def lock_hash(entry: LockEntry) -> str:
    """Hash of everything an entry says, name included."""
    return content_hash([entry.name, entry.model_dump(mode="json")])


def _lock(path: Path, text: str) -> Lock:
    mistakes: list[Mistake] = []
    yaml = read_yaml(path, text, mistakes)
    if yaml is None:
        raise_all(mistakes)
        return Lock({}, {})
    validated(LockFile, yaml, mistakes)
    mistakes += [*_named_twice(yaml), *_misnamed(yaml)]
    models = yaml.data.get("models")
    named = models if isinstance(models, dict) else {}
    of_entries: dict[str, list[Mistake]] = {}
    for mistake in sorted(set(mistakes)):
        of_entries.setdefault(_entry_at(yaml, named, mistake.line), []).append(mistake)
    raise_all(of_entries.pop("", []))
    whole = {name: entry for name, entry in named.items() if name not in of_entries}
    file = validated(LockFile, replace(yaml, data={"models": whole}), []) if whole else None
    entries = {} if file is None else file.models
    return Lock(
        {name: entry.model_copy(update={"name": name}) for name, entry in entries.items()},
        {name: "\n".join(map(str, found)) for name, found in of_entries.items()},
    )


def _entry_at(yaml: LocatedYaml, named: Collection[str], line: int) -> str:
    """The entry that a line of the file is in; an empty name for one that is in none."""
    begins = {yaml.lines[("models", name)]: name for name in named}
    begins |= {yaml.lines[(key,)]: "" for key in yaml.data}
    return next((begins[start] for start in sorted(begins, reverse=True) if start <= line), "")


def _misnamed(yaml: LocatedYaml) -> list[Mistake]:
    models = yaml.data.get("models")
    names = models if isinstance(models, dict) else {}
    return [yaml.mistake(("models", name), text) for name, text in broken_names(names)]


def _named_twice(yaml: LocatedYaml) -> list[Mistake]:
    """Entries that hold their own name, which the key gives already."""
    models = yaml.data.get("models")
    allowed = listed(field for field in LockEntry.model_fields if field != "name")
    return [
        yaml.mistake(("models", key, "name"), wording("key 'name'", allowed))
        for key, entry in (models.items() if isinstance(models, dict) else ())
        if isinstance(entry, dict) and "name" in entry
    ]
