"""Kubernetes objects as text that people review and Git keeps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from llm_platform.errors import SpecificationError
from llm_platform.files import write_text
from llm_platform.nim.manifests.pods import Manifest


def as_yaml(objects: Sequence[Manifest]) -> str:
    """The objects as one YAML stream, fields in the order in which they were rendered."""
    return yaml.dump_all(objects, Dumper=_Dumper, sort_keys=False, explicit_start=True, width=120)


def write_yaml(objects: Sequence[Manifest], path: Path) -> None:
    """Write the objects to a file.

    Raises:
        StorageError: the file cannot be written.
    """
    write_text(path, as_yaml(objects), shared=True)


def write_values(entry: str, objects: Sequence[Manifest], path: Path) -> None:
    """Write the objects of a lock entry into a file of values of the chart, beside those of other entries.

    Raises:
        SpecificationError: what is in the file are no such values.
        StorageError: the file cannot be written.
    """
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else None
        models = {"models": {"objects": {}}} if found is None else found
        models["models"]["objects"][entry] = list(objects)
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError):
        raise SpecificationError(
            f"{path} holds no values of models (models.objects.<entry>): give --values a file of its own."
        ) from None
    head = "# Written by `llm-platform nim render ENTRY --values`: what serves the models of the lock file.\n"
    body = yaml.dump(models, Dumper=_Dumper, sort_keys=False, width=120)
    write_text(path, head + body, shared=True)


class _Dumper(yaml.SafeDumper):
    """YAML that other readers take for what it was: no anchors, and no text that one of them reads as a number."""

    def ignore_aliases(self, _data: Any) -> bool:
        """Whether a value is written out again where it occurs again: always."""
        return True


def _text(dumper: _Dumper, value: str) -> yaml.ScalarNode:
    # `12e3` is text to PyYAML and a number to the parsers of Kubernetes; digests and profiles may look like that.
    style = '"' if value[:1] in "+-.0123456789" else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)
