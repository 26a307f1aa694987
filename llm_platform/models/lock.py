"""`models.lock.yaml`: read, checked, and turned into pins.

Every mistake of the file is reported at once, one a line, as `file:line: found …; allowed: …`.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from llm_platform.application.yaml.mistakes import Mistake, listed, raise_all, read_text, wording
from llm_platform.application.yaml.read import LocatedYaml, read_yaml
from llm_platform.application.yaml.validate import validated
from llm_platform.models.entries import LockEntry, LockModel
from llm_platform.records import ModelPin, content_hash


class LockFile(LockModel):
    """The whole file: the name of a model → its entry."""

    models: dict[str, LockEntry] = Field(min_length=1)


def load_lock(path: Path) -> dict[str, LockEntry]:
    """Entries of a lock file by name.

    Raises:
        SpecificationError: lists every mistake with file and line.
    """
    mistakes: list[Mistake] = []
    text = read_text(path, mistakes)
    entries = None if text is None else _entries(path, text, mistakes)
    raise_all(mistakes)
    return entries or {}


def parse_lock(text: str, name: str) -> dict[str, LockEntry]:
    """Entries of a lock file that is not on disk, e.g. of an earlier commit; `name` stands for its path in messages.

    Raises:
        SpecificationError: lists every mistake with file and line.
    """
    mistakes: list[Mistake] = []
    entries = _entries(Path(name), text, mistakes)
    raise_all(mistakes)
    return entries or {}


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


def _entries(path: Path, text: str, mistakes: list[Mistake]) -> dict[str, LockEntry] | None:
    yaml = read_yaml(path, text, mistakes)
    if yaml is None:
        return None
    file = validated(LockFile, yaml, mistakes)
    mistakes += _named_twice(yaml)
    if file is None:
        return None
    return {name: entry.model_copy(update={"name": name}) for name, entry in file.models.items()}


def _named_twice(yaml: LocatedYaml) -> list[Mistake]:
    """Entries that hold their own name, which the key gives already."""
    models = yaml.data.get("models")
    allowed = listed(field for field in LockEntry.model_fields if field != "name")
    return [
        yaml.mistake(("models", key, "name"), wording("key 'name'", allowed))
        for key, entry in (models.items() if isinstance(models, dict) else ())
        if isinstance(entry, dict) and "name" in entry
    ]
