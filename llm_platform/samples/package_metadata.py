"""The metadata texts of the installed Python packages, with the fields that they declare.

Documents that every installation has, with references that need no labelling: the text is put together from what a
package says of itself, and the answer is what it declares in its core metadata.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata

import pyarrow as pa

from llm_platform.records import canonical_json
from llm_platform.samples.order import paired_split, seeded_rank

DEFAULT_SEED = 7
UPDATED_AT = datetime(2024, 1, 1, tzinfo=UTC)
MAX_PARAGRAPH_CHARACTERS = 300
MAX_LICENSE_CHARACTERS = 60
"""Longer values are whole licence texts, not names."""

_SINGLE = ("Metadata-Version", "Name", "Version", "Summary", "License", "Requires-Python", "Keywords", "Home-page")
_REPEATED = {"Classifier": 2, "Requires-Dist": 2, "Project-URL": 1}


@dataclass(frozen=True)
class _Package:
    name: str
    text: str
    fields: dict[str, str]


def package_metadata(documents: int | None = None, seed: int = DEFAULT_SEED) -> pa.Table:
    """Metadata texts as `package, text, updated_at`, by package.

    A text is header lines in a seeded order, then the first paragraph of the description. Names and addresses of people
    are left out.

    Args:
        documents: How many packages, drawn with `seed`; None takes all.
    """
    chosen = _chosen(seed, documents)
    columns = {
        "package": pa.array([package.name for package in chosen], pa.string()),
        "text": pa.array([package.text for package in chosen], pa.string()),
        "updated_at": pa.array([UPDATED_AT] * len(chosen), pa.timestamp("us", tz="UTC")),
    }
    return pa.table(columns)


def package_fields(documents: int | None = None, seed: int = DEFAULT_SEED) -> pa.Table:
    """References of the same packages as `package, fields, split`.

    `fields` is canonical JSON of name, version, license and requires_python.
    """
    everything = _chosen(seed, None)
    by_rank = sorted((package.name for package in everything), key=lambda name: seeded_rank(seed, name))
    splits = paired_split(seed, [by_rank], {package.name: package.text for package in everything})
    chosen = _chosen(seed, documents)
    columns = {
        "package": pa.array([package.name for package in chosen], pa.string()),
        "fields": pa.array([canonical_json(package.fields) for package in chosen], pa.string()),
        "split": pa.array([splits[package.name] for package in chosen], pa.string()),
    }
    return pa.table(columns)


def _chosen(seed: int, documents: int | None) -> list[_Package]:
    packages = {package.name: package for package in reversed(list(_packages(metadata.distributions(), seed)))}
    ranked = sorted(packages, key=lambda name: seeded_rank(seed, name))
    return [packages[name] for name in sorted(ranked[:documents])]


def _packages(distributions: Iterable[metadata.Distribution], seed: int) -> Iterator[_Package]:
    """Packages that declare every field; others have nothing to be compared with, and half-removed ones no metadata."""
    for distribution in distributions:
        headers = distribution.metadata
        values = {key: [str(value) for value in headers.get_all(key) or ()] for key in headers}
        declared = {
            "name": _first(values, "Name"),
            "version": _first(values, "Version"),
            "license": _license(values),
            "requires_python": _first(values, "Requires-Python"),
        }
        fields = {name: value for name, value in declared.items() if value is not None}
        if len(fields) == len(declared):
            key = re.sub(r"[-_.]+", "-", fields["name"]).lower()
            values["License"] = [fields["license"]]
            yield _Package(key, _text(key, values, distribution, seed), fields)


def _text(key: str, values: dict[str, list[str]], distribution: metadata.Distribution, seed: int) -> str:
    lines = [f"{header}: {_first(values, header)}" for header in _SINGLE if _first(values, header) is not None]
    for header, count in _REPEATED.items():
        kept = [value for value in values.get(header, []) if not value.startswith("License ::")]
        lines += [f"{header}: {value}" for value in kept[:count]]
    random.Random(seeded_rank(seed, f"lines:{key}")).shuffle(lines)
    paragraph = _paragraph(distribution.metadata.get_payload() or _first(values, "Description") or "")  # type: ignore[attr-defined]
    return "\n".join(lines) + (f"\n\n{paragraph}" if paragraph else "")


def _first(values: dict[str, list[str]], header: str) -> str | None:
    found = " ".join(values.get(header, [""])[0].split())
    return found if found and found != "UNKNOWN" else None


def _license(values: dict[str, list[str]]) -> str | None:
    declared = _first(values, "License-Expression") or _first(values, "License")
    return declared if declared is not None and len(declared) <= MAX_LICENSE_CHARACTERS else None


def _paragraph(description: str) -> str:
    """The first paragraph of prose: without headings, badges, markup and addresses of e-mail."""
    for block in re.split(r"\n\s*\n", description.replace("\r\n", "\n")):
        words = " ".join(block.split())
        prose = words[:1].isalpha() and not any(mark in words for mark in ("://", "@", "===", "---", "___", "~~~"))
        if prose and len(words) >= 40:
            return (
                words if len(words) <= MAX_PARAGRAPH_CHARACTERS else words[:MAX_PARAGRAPH_CHARACTERS].rsplit(" ", 1)[0]
            )
    return ""
