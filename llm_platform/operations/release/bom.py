"""The bill of materials of a deployment: packages, images, models, adapters, prompts and evaluation sets.

CycloneDX, with a model card (`modelCard`) for each model and adapter: the library has no class for it, so it is added
to the JSON that the library writes, and the whole is held against CycloneDX's own schema.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from packageurl import PackageURL

from llm_platform.errors import ContractBroken
from llm_platform.models.entries import Image, LockEntry
from llm_platform.operations.evidence.evaluation import current_evaluation_id
from llm_platform.operations.release.bom_packages import package_components, package_ref
from llm_platform.operations.releases import LoadedApplication
from llm_platform.records import AdapterManifest, GateResult, Prompt, canonical_json
from llm_platform.warehouse.lake import Warehouse
from llm_platform.warehouse.store import ApplicationStore

if TYPE_CHECKING:
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component, ComponentType

NAMESPACE = "llm-platform"


@dataclass
class _Parts:
    """What has been collected: components by reference, what each depends on, and model cards."""

    components: dict[str, Component] = field(default_factory=dict)
    needs: dict[str, list[str]] = field(default_factory=dict)
    cards: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(
        self,
        kind: ComponentType,
        name: str,
        *,
        ref: str,
        needs: list[str] | None = None,
        properties: Mapping[str, object] | None = None,
        **fields: Any,
    ) -> str:
        """Add a component once; its reference."""
        from cyclonedx.model import Property
        from cyclonedx.model.component import Component

        given = {key: str(value) for key, value in (properties or {}).items() if value not in (None, "", [], {})}
        self.components[ref] = Component(
            type=kind,
            name=name,
            bom_ref=ref,
            properties=[Property(name=f"{NAMESPACE}:{key}", value=value) for key, value in given.items()],
            **fields,
        )
        self.needs[ref] = needs or []
        return ref


@dataclass(frozen=True)
class Deployment:
    """Which deployment a bill is of."""

    name: str
    namespace: str
    git_commit: str


def bill_of_materials(deployment: Deployment, loaded: Mapping[str, LoadedApplication], lake: Warehouse) -> str:
    """The bill of materials of what the files name and the lake holds, as CycloneDX 1.6 JSON.

    Raises:
        ContractBroken: the document breaks CycloneDX's schema.
    """
    parts = _Parts()
    applications = [_application(parts, one, lake.application(name)) for name, one in sorted(loaded.items())]
    text = _serialized(_bom(deployment, parts, applications), parts.cards)
    require_valid(text)
    return text


def _application(parts: _Parts, loaded: LoadedApplication, store: ApplicationStore) -> str:
    from cyclonedx.model.component import ComponentType

    application = loaded.application
    prompts = [_prompt(parts, application.name, prompt) for prompt in loaded.prompts.values()]
    models = [_model(parts, entry) for entry in loaded.lock.values()]
    adapters = [_adapter(parts, manifest) for manifest in _adapters(loaded, store)]
    evaluation = parts.add(
        ComponentType.DATA,
        f"{application.name}/evaluation",
        ref=f"evaluation:{application.name}",
        version=current_evaluation_id(store, loaded),
        description="Evaluation documents by fingerprint, their known answers, scorers and gates.",
        properties={"documents": store.references.table().num_rows, "references": store.references.version()},
    )
    champion = store.rollout.champion()
    if champion is not None and (release := store.releases.get(champion.release_id)) is not None:
        _add_metrics(parts, release.model.entry, f"{application.name}/{champion.variant}", champion.evidence)
    return parts.add(
        ComponentType.APPLICATION,
        application.name,
        ref=f"application:{application.name}",
        description=application.title,
        needs=[*prompts, *models, *adapters, evaluation],
        properties={
            "champion-variant": champion.variant if champion else None,
            "champion-release": champion.release_id if champion else None,
            "champion-report": champion.report_id if champion else None,
        },
    )


def _prompt(parts: _Parts, application: str, prompt: Prompt) -> str:
    from cyclonedx.model.component import ComponentType

    content = canonical_json(prompt.model_dump(mode="json"))
    return parts.add(
        ComponentType.DATA,
        f"{application}/prompts/{prompt.name}",
        ref=f"prompt:{application}/{prompt.name}",
        version=prompt.version,
        hashes=_sha256(hashlib.sha256(content.encode()).hexdigest()),
        properties={"api": prompt.api, "examples": len(prompt.examples) or None},
    )


def _model(parts: _Parts, entry: LockEntry) -> str:
    from cyclonedx.contrib.license.factories import LicenseFactory
    from cyclonedx.model.component import ComponentType

    ref = f"model:{entry.name}"
    if ref in parts.components:
        return ref
    needs = [_image(parts, entry.image)] if entry.image else []
    shown = {"mode", "dialect", "served_name", "engine", "profile", "context_length", "gpu"}
    pinned = {"tokenizer_sha256", "chat_template_sha256"}
    fields = {name.replace("_", "-"): value for name, value in entry.model_dump(include=shown | pinned).items()}
    parts.cards[ref] = {"modelParameters": {"task": "text-generation"}}
    return parts.add(
        ComponentType.MACHINE_LEARNING_MODEL,
        entry.model,
        ref=ref,
        version=entry.revision or entry.release,
        licenses=[LicenseFactory().make_from_string(entry.licence)],
        hashes=_sha256(entry.weights.sha256 if entry.weights else None),
        needs=needs,
        properties={
            "lock-entry": entry.name,
            "weights-file": entry.weights.file if entry.weights else None,
            "release": entry.release,
            "parallelism": f"{entry.parallelism.tensor}x{entry.parallelism.pipeline}",
            **fields,
        },
    )


def _image(parts: _Parts, image: Image) -> str:
    from cyclonedx.model.component import ComponentType

    name = image.repository.rpartition("/")[2]
    return parts.add(
        ComponentType.CONTAINER,
        image.repository,
        ref=f"image:{image.reference}",
        version=image.tag,
        hashes=_sha256(image.digest.removeprefix("sha256:")),
        purl=PackageURL(
            "oci", name=name.lower(), version=image.digest,
            qualifiers={"repository_url": image.repository.lower(), "tag": image.tag},
        ),
        properties={"digest-from": image.digest_from},
    )  # fmt: skip


def _adapters(loaded: LoadedApplication, store: ApplicationStore) -> Iterator[AdapterManifest]:
    for name in loaded.application.finetuning:
        if (manifest := loaded.adapter(name, store)) is not None:
            yield manifest


def _adapter(parts: _Parts, manifest: AdapterManifest) -> str:
    from cyclonedx.model.component import ComponentType

    ref = f"adapter:{manifest.application}/{manifest.name}"
    parameters: dict[str, Any] = {"approach": {"type": "supervised"}, "task": "text-generation"}
    needs = [f"model:{manifest.base.entry}"]
    if manifest.data is not None:
        data = parts.add(
            ComponentType.DATA,
            f"{manifest.application}/training_examples/{manifest.name}",
            ref=f"training:{manifest.application}/{manifest.name}",
            version=manifest.data.content_hash,
            properties={**manifest.data.model_dump(exclude={"content_hash", "balance"})},
        )
        parameters["datasets"] = [{"ref": data}]
        needs.append(data)
    parts.cards[ref] = {"modelParameters": parameters}
    return parts.add(
        ComponentType.MACHINE_LEARNING_MODEL,
        f"{manifest.application}/adapters/{manifest.name}",
        ref=ref,
        version=manifest.adapter_id,
        hashes=_sha256(manifest.files.get("adapter_model.safetensors")),
        needs=needs,
        properties={
            "base-weights-sha256": manifest.base_sha256,
            "recipe": canonical_json(manifest.recipe.model_dump(mode="json")) if manifest.recipe else None,
            "imported-from": manifest.imported_from,
        },
    )


def _add_metrics(parts: _Parts, entry: str, where: str, gates: tuple[GateResult, ...]) -> None:
    """What was measured on a model when it was approved, into its card."""
    card = parts.cards.get(f"model:{entry}")
    if card is None:
        return  # the champion's model is no longer in the files
    metrics = card.setdefault("quantitativeAnalysis", {}).setdefault("performanceMetrics", [])
    for gate in gates:
        interval = {"lowerBound": f"{gate.lower:.6g}"}
        if gate.upper is not None:
            interval["upperBound"] = f"{gate.upper:.6g}"
        metrics.append(
            {"type": gate.name, "value": f"{gate.value:.6g}", "slice": where, "confidenceInterval": interval}
        )


def _bom(deployment: Deployment, parts: _Parts, applications: list[str]) -> Bom:
    from cyclonedx.model import Property
    from cyclonedx.model.bom import Bom, BomMetaData
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.model.dependency import Dependency

    packages, package_needs = package_components()
    root = Component(
        type=ComponentType.PLATFORM, name="llm-platform", version=version("llm-platform"), bom_ref="deployment"
    )
    said = {"deployment": deployment.name, "namespace": deployment.namespace, "git-commit": deployment.git_commit}
    needs = {package_ref(name): [package_ref(one) for one in needed] for name, needed in package_needs.items()}
    needs |= parts.needs | {"deployment": [*applications, package_ref("llm-platform")]}
    refs = {one.bom_ref.value: one.bom_ref for one in [root, *packages, *parts.components.values()]}
    return Bom(
        components=[*packages, *parts.components.values()],
        metadata=BomMetaData(
            component=root, properties=[Property(name=f"{NAMESPACE}:{key}", value=text) for key, text in said.items()]
        ),
        dependencies=[
            Dependency(refs[ref], dependencies=[Dependency(refs[one]) for one in needed if one in refs])
            for ref, needed in needs.items()
            if ref in refs
        ],
    )


def _serialized(bom: Bom, cards: Mapping[str, dict[str, Any]]) -> str:
    from cyclonedx.output.json import JsonV1Dot6

    document = json.loads(JsonV1Dot6(bom).output_as_string())
    for component in document["components"]:
        if card := cards.get(component["bom-ref"]):
            component["modelCard"] = card
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def require_valid(text: str) -> None:
    """Hold a document against the schema of CycloneDX 1.6, which comes with the library.

    Raises:
        ContractBroken: it breaks it; says where.
    """
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    broken = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    if broken is not None:
        where = "/".join(map(str, getattr(broken.data, "absolute_path", [])))
        raise ContractBroken(f"The bill of materials breaks the schema of CycloneDX 1.6 at {where or 'its root'}.")


def _sha256(digest: str | None) -> list[Any]:
    from cyclonedx.model import HashAlgorithm, HashType

    return [HashType(alg=HashAlgorithm.SHA_256, content=digest)] if digest else []
