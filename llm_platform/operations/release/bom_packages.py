"""The Python packages of this environment, as components of a bill of materials."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from importlib.metadata import Distribution, distributions
from typing import TYPE_CHECKING

from packageurl import PackageURL
from packaging.requirements import InvalidRequirement, Requirement

if TYPE_CHECKING:
    from cyclonedx.model.component import Component
    from cyclonedx.model.license import License

_MOST_LICENCE_CHARACTERS = 100
"""Some packages put the whole text where the name belongs."""


def package_components() -> tuple[list[Component], dict[str, list[str]]]:
    """Every installed distribution, and name → names of those it needs here."""
    found = {_normal(one.metadata["Name"]): one for one in distributions() if one.metadata["Name"]}
    needs = {name: sorted(_needs(one) & found.keys() - {name}) for name, one in found.items()}
    return [_component(name, one) for name, one in sorted(found.items())], needs


def package_ref(name: str) -> str:
    """The reference of a package inside the document."""
    return f"package:{name}"


def _component(name: str, distribution: Distribution) -> Component:
    from cyclonedx.model import Property
    from cyclonedx.model.component import Component, ComponentType

    record = distribution.read_text("RECORD")
    digest = [] if record is None else [("llm-platform:record-sha256", hashlib.sha256(record.encode()).hexdigest())]
    return Component(
        type=ComponentType.LIBRARY,
        name=name,
        version=distribution.version,
        bom_ref=package_ref(name),
        purl=PackageURL("pypi", name=name, version=distribution.version),
        description=str(distribution.metadata.json.get("summary", "")) or None,
        licenses=_licences(distribution),
        # RECORD lists the hash of every installed file: an index's hash is of a wheel, of which there are several.
        properties=[Property(name=key, value=value) for key, value in digest],
    )


def _licences(distribution: Distribution) -> Iterable[License]:
    from cyclonedx.contrib.license.factories import LicenseFactory

    metadata = distribution.metadata.json
    said = metadata.get("license_expression") or metadata.get("license")
    if not isinstance(said, str) or len(said) > _MOST_LICENCE_CHARACTERS or "\n" in said:
        classifiers = [text for text in metadata.get("classifier", []) if text.startswith("License :: ")]
        said = classifiers[0].rpartition(" :: ")[2] if classifiers else None
    return [LicenseFactory().make_from_string(said)] if said else []


def _needs(distribution: Distribution) -> set[str]:
    names = set()
    for text in distribution.requires or []:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue  # of a package older than the rules
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            names.add(_normal(requirement.name))
    return names


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
