"""What operations are handed, made of `Settings`: operations and stages read none themselves.

So each says in its arguments what it depends on, and a test hands it three values instead of a deployment.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from llm_platform.application.model import Application
from llm_platform.application.publish_rules import POSTGRES
from llm_platform.errors import SpecificationError
from llm_platform.nim.manifests.names import owner_label
from llm_platform.nim.manifests.pods import Autoscaling, PodSettings
from llm_platform.operations.adapters.adapters import AdapterFolders
from llm_platform.operations.adapters.finetuning import TrainingPlace
from llm_platform.operations.adapters.training_pod import TrainingImage
from llm_platform.operations.release.attestation import Attested, read_keys
from llm_platform.operations.release.cluster_branches import Production
from llm_platform.operations.release.rollouts import RolloutLook
from llm_platform.operations.release.underneath import AdapterBytes
from llm_platform.operations.serving.local_nim import LocalNim
from llm_platform.operations.serving.serving import Serving
from llm_platform.records import Release
from llm_platform.resources.identity import role_now
from llm_platform.settings.settings import Settings
from llm_platform.warehouse.copies import CopyPlace, FolderPlace, S3Place
from llm_platform.warehouse.copies_postgres import PostgresPlace, schema_name
from llm_platform.warehouse.engine import redacted
from llm_platform.warehouse.object_store import S3Access
from llm_platform.warehouse.object_versions import bucket_encrypts


def places_of(application: Application, namespace: str) -> list[CopyPlace]:
    """Where copies of an application's published tables are: apart for every namespace, so no branch writes others'."""
    publish = application.publish
    found: list[CopyPlace] = []
    for full, address in [*((False, one) for one in publish.copies), *((True, one) for one in publish.full_copies)]:
        inside = f"{namespace}/{application.name}"
        if address.startswith(POSTGRES):
            dsn = address.removeprefix(POSTGRES)
            schema = schema_name(namespace, application.name, full=full)
            found.append(PostgresPlace(dsn, schema, full=full))
        elif address.startswith("s3://"):
            found.append(S3Place(f"{address.rstrip('/')}/{inside}", full=full))
        else:
            folder = application.folder / Path(address).expanduser() / inside
            found.append(FolderPlace(folder, shared=True, full=full))
    return found


def places_written(application: Application, settings: Settings) -> list[CopyPlace]:
    """The same, to be written.

    Raises:
        SpecificationError: everything is to be encrypted, and one of them is not.
    """
    for address in (*application.publish.copies, *application.publish.full_copies):
        require_encrypted(settings, address, application.folder, of=f"copies of {application.name}")
    return places_of(application, settings.namespace)


def require_encrypted(settings: Settings, address: str, folder: Path, *, of: str) -> None:
    """Refuse to write text to a place outside of the state folder that nothing encrypts, if it is to be encrypted.

    Args:
        folder: What a relative path is relative to.

    Raises:
        SpecificationError: nothing does, or it cannot be seen.
    """
    if not settings.encrypted or settings.encrypted_disk:
        return
    if address.startswith("s3://"):
        if bucket_encrypts(object_store(settings), address):
            return
        found = f"{address}, whose bucket encrypts nothing by itself: give it a rule (SSE-KMS or SSE-S3)"
    elif address.startswith(POSTGRES):
        found = f"{redacted(address)}, whose disk cannot be seen from here"
    else:
        settings.require_encrypted(folder / Path(address).expanduser(), of=of)
        return
    raise SpecificationError(
        f"LLM_PLATFORM_ENCRYPTED is set, and {of} would be written to {found}. Where it is encrypted by what cannot be "
        "seen here, say so: LLM_PLATFORM_ENCRYPTED_DISK=true"
    )


def local_nim(settings: Settings) -> LocalNim:
    """How the embedded NIM runs here."""
    return LocalNim(
        settings.state,
        slots=settings.nim_slots,
        threads=settings.nim_threads,
        idle_seconds=settings.nim_idle_minutes * 60,
    )


def serving_of(settings: Settings) -> Serving:
    """How this deployment serves models."""
    return Serving(
        local=local_nim(settings),
        inside=settings.connection(external=False),
        outside=settings.connection(external=True),
        cluster_namespace=settings.nim_cluster_namespace,
        kubeconfig=settings.nim_kubeconfig,
        context=settings.nim_kube_context,
        pods=pod_settings(settings, settings.nim_cluster_namespace) if settings.nim_cluster_namespace else None,
        adapter_models=settings.nim_adapter_models,
        gateway=settings.nim_gateway,
        peft_source=settings.nim_peft_source,
        peft_mount=settings.nim_peft_mount,
        deadline_minutes=settings.nim_deadline_minutes,
        idle_down_minutes=settings.nim_idle_down_minutes,
    )


def pod_settings(settings: Settings, namespace: str) -> PodSettings:
    """How pods of models run, in a Kubernetes namespace."""
    clients = settings.nim_client_namespaces or (namespace,)
    gateway = (settings.nim_gateway.split("/")[0],) if settings.nim_gateway else ()
    return PodSettings(
        namespace=namespace,
        owner=owner_label(settings.deployment, settings.namespace),
        claim=settings.nim_claim,
        claim_size=settings.nim_claim_size,
        storage_class=settings.nim_storage_class or None,
        pull_secret=settings.nim_pull_secret or None,
        ngc_secret=settings.nim_ngc_secret or None,
        priority_class=settings.nim_priority_class or None,
        autoscaling=autoscaling(settings),
        gpu_resource=settings.nim_gpu_resource,
        cpu=settings.nim_cpu,
        memory=settings.nim_memory,
        shared_memory=settings.nim_shared_memory,
        node_labels=dict(label.split("=", 1) for label in settings.nim_node_labels),
        tolerated_taints=settings.nim_tolerated_taints,
        client_namespaces=(*clients, *gateway),
        monitoring_namespace=settings.nim_monitoring_namespace,
        operator_namespace=settings.nim_operator_namespace,
        start_seconds=round(settings.nim_start_minutes * 60),
        verifier_image=settings.nim_verifier_image,
        adapter_keys=_keys_of_adapters(settings),
    )


def _keys_of_adapters(settings: Settings) -> str:
    """Public keys in PEM that adapters are signed with, for pods that verify them; empty where none are named."""
    if settings.adapter_keys is None:
        return ""
    return "\n".join(one.decode() for one in read_keys(settings.adapter_keys))


def autoscaling(settings: Settings) -> Autoscaling:
    """How many replicas a model of this deployment has."""
    return Autoscaling(
        kind=settings.nim_autoscaling,
        replicas=settings.nim_replicas,
        minimum=settings.nim_min_replicas,
        maximum=settings.nim_max_replicas,
        requests_per_replica=settings.nim_requests_per_replica,
        idle_seconds=round(settings.nim_idle_minutes * 60),
        prometheus_url=settings.nim_prometheus_url,
        demand_query=settings.nim_demand_query or None,
    )


def adapter_folders(settings: Settings) -> AdapterFolders:
    """Where adapters are kept."""

    def may_store() -> None:
        if settings.data_root is not None:
            require_encrypted(settings, settings.data_root, Path(), of="adapters, from which texts may be drawn,")

    return AdapterFolders(
        settings.state / "namespaces",
        settings.namespace,
        upstream=settings.upstream_namespace,
        signing_key=settings.signing_key_file,
        trusted=settings.adapter_keys,
        data_root=settings.data_root,
        s3=object_store(settings),
        may_store=may_store,
    )


def object_store(settings: Settings) -> S3Access:
    """How the object store of this deployment is reached."""
    return S3Access(
        key_id=settings.s3_key_id or "",
        secret=settings.s3_secret.get_secret_value() if settings.s3_secret else "",
        region=settings.s3_region,
        endpoint=settings.s3_endpoint,
        url_style=settings.s3_url_style,
        use_ssl=settings.s3_use_ssl,
    )


def production_of(settings: Settings) -> Production:
    """What a branch in a cluster is made beside."""
    return Production(
        settings.namespace,
        settings.catalog,
        settings.dagster_storage,
        settings.data_root,
        object_store(settings),
        models=settings.nim_cluster_namespace,
    )


def rollout_look(settings: Settings, *, now: datetime | None = None) -> RolloutLook:
    """A look at rollouts, at this moment where no other is given."""
    return RolloutLook(now or datetime.now(UTC), settings.git_commit, adapter_bytes(settings), role_now(settings))


def adapter_bytes(settings: Settings) -> AdapterBytes:
    """Holds the files of a release's adapter against their manifest and signature, where they are kept."""
    folders = adapter_folders(settings)

    def whole(release: Release) -> None:
        if release.adapter is not None:
            folders.find(release.adapter, release.model)

    return whole


def attested_by(settings: Settings) -> Attested | None:
    """What a publication has to show in this deployment besides its evidence; None where nothing is asked for.

    Raises:
        SpecificationError: keys are named, and which image runs is not.
    """
    if settings.attestation_keys is None:
        return None
    if settings.image_digest is None:
        raise SpecificationError(
            "LLM_PLATFORM_ATTESTATION_KEYS is set, and an attestation names the image that runs: set "
            "LLM_PLATFORM_IMAGE_DIGEST, as the chart does."
        )
    return Attested(settings.attestation_keys, settings.attestation_approvers, settings.image_digest)


def training_place(settings: Settings) -> TrainingPlace:
    """Where adapters are trained."""
    return TrainingPlace(
        settings.namespace_folder / "training",
        adapter_folders(settings),
        local_nim(settings),
        base_models=settings.base_models,
        gpus=settings.training_gpus,
    )


def training_image(settings: Settings) -> TrainingImage:
    """What adapters are trained in, in a cluster."""
    return TrainingImage(
        settings.training_image,
        settings.training_claim,
        settings.state,
        account=settings.training_account,
        gpus=settings.training_gpus,
        gpu_resource=settings.nim_gpu_resource,
        tolerated_taints=settings.nim_tolerated_taints,
    )
