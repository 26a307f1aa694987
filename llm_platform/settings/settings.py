"""Typed settings of one deployment: the only reader of the environment.

Local, branch and production differ in these values and in nothing else. Names are `LLM_PLATFORM_<FIELD>`; where
Dagster+ sets a variable of its own with the same meaning, that is the fallback.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from llm_platform.application.cron import cron_mistake
from llm_platform.errors import SpecificationError
from llm_platform.files import close_to_others, disk_of, keep_to_owner, noted_upstream
from llm_platform.settings.connection import Connection, header_value
from llm_platform.settings.login import login
from llm_platform.settings.settings_pods import PodFields
from llm_platform.warehouse.passwords import with_password_file

PACKAGE_FOLDER = Path(__file__).resolve().parents[1]
CHECKOUT = PACKAGE_FOLDER.parent
SHIPPED = PACKAGE_FOLDER / "shipped"
SAMPLE_APPLICATIONS = PACKAGE_FOLDER / "applications"
"""Files of a deployment that an installed package brings; in a checkout they are links to those at its top."""
NO_MODELS = "none.lock.yaml"
"""The lock file of a deployment without samples that names none: no model, and it says what to do."""
MAX_NAMESPACE_LENGTH = 40
HASH_LENGTH = 8
EVENT_DAYS = 90.0
"""Of Dagster's history, where nothing is said: it grows with every run."""


def namespace_name(text: str) -> str:
    """A name that serves as folder, Postgres schema and label: `[a-z][a-z0-9_]*`, at most 40 characters.

    A text that is no such name gets a hash of itself at the end: `main-` and `MAIN` are not `main`, and two branches
    that differ in letters which no schema can have are not one namespace.
    """
    readable = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")
    readable = readable if re.match("[a-z]", readable) else f"n_{readable}"
    if readable == text and len(text) <= MAX_NAMESPACE_LENGTH:
        return text
    distinct = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:HASH_LENGTH]
    return f"{readable[: MAX_NAMESPACE_LENGTH - HASH_LENGTH - 1].rstrip('_')}_{distinct}"


def _in_checkout() -> bool:
    return (CHECKOUT / "workspace.yaml").is_file()


def _state_folder() -> Path:
    if _in_checkout():
        return CHECKOUT / ".llm_platform"
    return Path(os.environ.get("XDG_DATA_HOME", "~/.local/share")).expanduser() / "llm_platform"


def _samples() -> bool:
    # A pod serves documents of a company, beside which sample applications and a toy model have no place.
    return "KUBERNETES_SERVICE_HOST" not in os.environ


def _models_lock(values: dict[str, Any]) -> Path:
    if not values.get("samples", True):
        return SHIPPED / NO_MODELS
    return (CHECKOUT if _in_checkout() else SHIPPED) / "models.lock.yaml"


def _git_folder() -> Path | None:
    folder = CHECKOUT / ".git"
    if folder.is_file():  # a worktree: the file says where its folder is
        return CHECKOUT / folder.read_text(encoding="utf-8").removeprefix("gitdir:").strip()
    return folder if folder.is_dir() else None


def _git_head() -> str:
    folder = _git_folder()
    head = folder / "HEAD" if folder else None
    return head.read_text(encoding="utf-8").strip() if head and head.is_file() else ""


def _namespace() -> str:
    head = _git_head()
    if head.startswith("ref: refs/heads/"):
        return head.removeprefix("ref: refs/heads/")
    return login(otherwise="local")


def _git_commit() -> str:
    head, folder = _git_head(), _git_folder()
    if folder is None:
        return f"version {version('llm-platform')}"
    if not head.startswith("ref: ") or folder is None:
        return head or "unknown"
    reference = head.removeprefix("ref: ")
    common = folder / "commondir"
    root = (folder / common.read_text(encoding="utf-8").strip()) if common.is_file() else folder
    loose, packed = root / reference, root / "packed-refs"
    if loose.is_file():
        return loose.read_text(encoding="utf-8").strip()
    lines = packed.read_text(encoding="utf-8").splitlines() if packed.is_file() else []
    return next((line.split()[0] for line in lines if line.endswith(f" {reference}")), "unknown")


class Settings(PodFields, BaseSettings):
    """Values of one deployment."""

    model_config = SettingsConfigDict(
        env_prefix="LLM_PLATFORM_", frozen=True, extra="ignore", populate_by_name=True, hide_input_in_errors=True
    )

    state: Path = Field(default_factory=_state_folder, description="Folder that holds all local state.")
    namespace: str = Field(
        default_factory=_namespace,
        validation_alias=AliasChoices("LLM_PLATFORM_NAMESPACE", "DAGSTER_CLOUD_GIT_BRANCH"),
        description="Whose tables these are: a catalog and a data prefix of its own.",
    )
    deployment: str = Field(
        default="local",
        validation_alias=AliasChoices("LLM_PLATFORM_DEPLOYMENT", "DAGSTER_CLOUD_DEPLOYMENT_NAME"),
        description="Name of the deployment, shown in run tags.",
    )
    git_commit: str = Field(
        default_factory=_git_commit,
        validation_alias=AliasChoices("LLM_PLATFORM_GIT_COMMIT", "DAGSTER_CLOUD_GIT_SHA"),
        description="Commit of the code that runs.",
    )
    image_digest: str | None = Field(
        default=None, pattern=r"^sha256:[0-9a-f]{64}$", description="Digest of the image that runs, for attestations."
    )
    attestation_keys: Path | None = Field(
        default=None,
        description="Public keys (PEM; a file or a folder): nothing is published without an `attestation.json` beside "
        "`application.yaml` that one of them has signed. Unset: none is asked for.",
    )
    attestation_approvers: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="People whose promotions may be published then, separated by commas; unset: all."
    )
    catalog: str | None = Field(
        default=None, description="`postgres:<libpq dsn>`, one schema a namespace; unset: SQLite in the state folder."
    )
    catalog_password_file: Path | None = Field(
        default=None,
        description="File with the password of `catalog`, such as a mounted Secret, which a group may read.",
    )
    data_root: str | None = Field(
        default=None, description="Folder or `s3://bucket/prefix` for table data; unset: in the state folder."
    )
    retention_days: Annotated[dict[str, float], NoDecode] = Field(
        default_factory=lambda: {"events": EVENT_DAYS},
        description='JSON of `calls`, `endpoint_metrics` or `events` → days after which they go, e.g. {"calls": 30}. '
        "Events are Dagster's runs that have ended: 90 days where nothing is said.",
    )
    retention_schedule: str = Field(
        default="0 2 * * *",
        description="When `llm-platform retention` is done by itself, as cron writes it, in UTC; empty: never.",
    )
    compaction_schedule: str = Field(
        default="30 2 * * 0",
        description="When `llm-platform compact` is done by itself, as cron writes it, in UTC; empty: never.",
    )
    snapshot_days: float = Field(
        default=30.0,
        ge=0,
        description="Age at which a compaction lets go of snapshots of the lake that no decision rests on.",
    )
    signing_key: Path | None = Field(
        default=None,
        description="Ed25519 key (PEM): signs certificates, knows what was forgotten; unset: in the state folder.",
    )
    encrypted: bool = Field(
        default=False,
        description="Files of tables are encrypted, with their keys in the catalog, and all else that holds text has "
        "to be on an encrypted disk; an existing namespace: `llm-platform state encrypt`.",
    )
    encrypted_disk: bool = Field(
        default=False,
        description="The disk of the state folder, and buckets and databases outside the lake, are encrypted by what "
        "cannot be seen here, such as a cloud's volume; unset: LUKS, memory, or a bucket's rule is looked for.",
    )
    adapter_keys: Path | None = Field(
        default=None,
        description="Public keys (PEM; a file or a folder): no adapter is served or promoted that none of them has "
        "signed. Unset: what is signed by `signing_key` has to be whole.",
    )
    upstream: str | None = Field(
        default=None, description="Namespace attached read-only: its answers are reused, its champion is the default."
    )
    upstream_catalog: str | None = Field(
        default=None, description="Catalog of `upstream` where it differs, e.g. with a read-only role's credentials."
    )
    upstream_catalog_password_file: Path | None = Field(
        default=None, description="File with the password of `upstream_catalog`; unset: that of `catalog`."
    )
    dagster_storage: str | None = Field(
        default=None,
        description="`postgresql://user@host:port/database` for Dagster's history; unset: files in the state folder.",
    )
    dagster_storage_password_file: Path | None = Field(
        default=None, description="File with its password; read at every connection, so that a new one is taken up."
    )
    dagster_instance: Path | None = Field(
        default=None,
        description="YAML of Dagster's instance, e.g. its run launcher; its keys replace those of the shipped file.",
    )
    s3_key_id: str | None = Field(
        default=None,
        description="Access key of the object store that `data_root` names; unset: the identity of the pod or machine.",
    )
    s3_secret: SecretStr | None = Field(default=None, description="Its secret.")
    s3_region: str = Field(default="", description="Its region.")
    s3_endpoint: str = Field(default="", description="Host and port of an object store other than AWS.")
    s3_url_style: str = Field(default="", description="`path` or `vhost`.")
    s3_use_ssl: bool = Field(default=True, description="Whether it is reached over TLS.")
    warehouses: Annotated[dict[str, str], NoDecode] = Field(
        default_factory=dict,
        description='JSON of name → URL of the warehouses that applications read, e.g. {"crm": "postgres:dbname=crm '
        'password_file=/run/secrets/crm/password"}.',
    )
    applications: Annotated[tuple[Path, ...], NoDecode] = Field(
        default=(), description="Further folders of applications, separated by the path separator."
    )
    samples: bool = Field(
        default_factory=_samples, description="Whether the shipped applications and their toy model are there."
    )
    models_lock: Path = Field(default_factory=_models_lock, description="The lock file of models.")
    nim_slots: int | None = Field(default=None, ge=1, description="Requests the embedded NIM runs at once.")
    nim_threads: int | None = Field(default=None, ge=1, description="Threads of the embedded NIM; unset: all cores.")
    nim_idle_minutes: float = Field(
        default=30.0, gt=0, description="A model unused for this long ends: the embedded NIM, or the last pod."
    )
    nim_api_key: SecretStr | None = Field(default=None, description="Bearer token of external endpoints.")
    nim_ca_file: Path | None = Field(default=None, description="CA certificate of external endpoints, PEM.")
    nim_environment_proxies: bool = Field(
        default=False, description="Whether external endpoints are reached as HTTPS_PROXY, NO_PROXY and the like say."
    )
    nim_background: bool = Field(
        default=False, description="Whether bulk runs use only what others leave of an endpoint, as development should."
    )
    nim_cluster_namespace: str | None = Field(
        default=None, description="Kubernetes namespace of the NIM services; unset: that of the pod we run in."
    )
    nim_kubeconfig: Path | None = Field(
        default=None, description="Kubeconfig file through which models are brought up; unset: as kubectl finds it."
    )
    nim_kube_context: str | None = Field(
        default=None, description="Context of the kubeconfig file through which models are brought up; unset: its own."
    )
    nim_deadline_minutes: float = Field(
        default=30.0, gt=0, description="How long `nim up` waits for a model that is downloaded and loaded first."
    )
    nim_idle_down_minutes: float | None = Field(
        default=None, gt=0, description="Models that we brought up in a cluster are taken down after this long unused."
    )
    modules: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="Further Python modules with Dagster assets, separated by commas."
    )
    nim_peft_source: Path | None = Field(
        default=None, description="Folder that endpoints other than the embedded NIM watch for adapters."
    )
    nim_peft_mount: Path | None = Field(
        default=None, description="The same folder as those endpoints see it; unset: under the same path."
    )
    nim_verifier_image: str | None = Field(
        default=None,
        description="Image of this platform, by digest: pods that serve adapters verify them with it first, by "
        "`adapter_keys`.",
    )
    base_models: Path | None = Field(
        default=None, description="Folder with base models in Hugging Face layout, each named like its lock entry."
    )
    training_image: str | None = Field(
        default=None, description="Image in which adapters are trained, in a pod with GPUs; unset: a local process."
    )
    training_namespace: str | None = Field(default=None, description="Kubernetes namespace of those pods.")
    training_claim: str = Field(
        default="llm-platform-state", description="Volume claim that holds the state folder, shared with those pods."
    )
    training_account: str = Field(
        default="default", description="Service account of those pods, by whose secrets their image is pulled."
    )
    training_gpus: int = Field(default=1, ge=1, description="GPUs of a training pod.")
    review_people: Path | None = Field(
        default=None, description="File of people at the review page: `name role [sha256 of a token]` a line."
    )
    review_identity_header: str | None = Field(
        default=None, description="Header in which a proxy in front of the review page says who somebody is."
    )
    serve_callers: Path | None = Field(
        default=None,
        description="File of callers of the service: `name applications token-hash [per_minute=N] [at_once=N]` a line.",
    )
    serve_deadline_seconds: float = Field(
        default=30.0, gt=0, le=600, description="How long a caller of the service waits that does not say."
    )
    serve_queue: int = Field(
        default=200, ge=1, description="Documents of one application that may wait in the service to be sent."
    )
    identity_token: SecretStr | None = Field(
        default=None, description="Your token of the people file, which proves who approves, holds or withdraws."
    )
    outage_seconds: float = Field(default=120.0, gt=0, description="How long a run waits for silent endpoints.")
    review_url: str | None = Field(
        default=None, description="Address of the review page, for links on report cards, e.g. http://127.0.0.1:8787."
    )
    nim_pool_limits: Annotated[dict[str, int], NoDecode] = Field(
        default_factory=dict,
        description='JSON of lock entry → Dagster steps that may talk to it at once, e.g. {"llama-8b": 4}; else one.',
    )
    run_priority: int = Field(
        default=10,
        ge=-1000,
        le=1000,
        description="dagster/priority of this deployment's runs; of a backfill's, 20 less.",
    )
    budget_month_tokens: int | None = Field(
        default=None,
        ge=1,
        description="Tokens that an application may use a month (UTC) here, also where its own file allows more.",
    )
    sensors: bool = Field(default=False, description="Whether sensors start switched on.")
    sensor_seconds: int = Field(default=30, ge=1, description="Shortest time between two looks at a source table.")
    ui_url: str | None = Field(default=None, description="Address of Dagster's UI, for links in alerts.")
    alert_quiet_hours: float = Field(default=6.0, ge=0, description="Trouble that goes on is told again after this.")
    alert_slack_token: SecretStr | None = Field(default=None, description="Bot token of a Slack workspace.")
    alert_slack_channel: str = Field(default="", description="Channel that alerts are posted to, e.g. #llm-alerts.")
    alert_slack_url: str | None = Field(default=None, description="Slack's API where it is reached by a gateway.")
    alert_webhook_url: SecretStr | None = Field(default=None, description="URL that alerts are posted to as JSON.")
    alert_smtp_url: str | None = Field(
        default=None, description="Mail server: smtps://user@host, smtp+starttls://user@host or smtp://host."
    )
    alert_smtp_password: SecretStr | None = Field(default=None, description="Password of that user.")
    alert_email_from: str = Field(default="", description="Sender of alert mails.")
    alert_email_to: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="Recipients of alert mails, separated by commas."
    )

    @field_validator("namespace")
    @classmethod
    def _valid_namespace(cls, value: str) -> str:
        return namespace_name(value)

    @field_validator("catalog", "upstream_catalog", "upstream", "dagster_storage", "data_root", mode="before")
    @classmethod
    def _empty_is_unset(cls, value: object) -> object:
        # What a workflow hands on where its repository has no such variable.
        return None if value == "" else value

    @field_validator("catalog", "upstream_catalog", "warehouses")
    @classmethod
    def _no_password(cls, value: str | dict[str, str] | None) -> str | dict[str, str] | None:
        # Resources are shown in the UI, and so is what they hold.
        for text in value.values() if isinstance(value, dict) else [value or ""]:
            if re.search(r"password\s*=|://[^/?#\s]*:[^/?#\s]*@", text, flags=re.IGNORECASE):
                raise ValueError(
                    "holds a password; give it in a file: LLM_PLATFORM_CATALOG_PASSWORD_FILE, or password_file=… in "
                    "the address of a warehouse"
                )
        return value

    @field_validator("dagster_storage")
    @classmethod
    def _dagster_address(cls, value: str | None) -> str | None:
        if value is not None:
            found = urlsplit(value)
            if found.password is not None:
                raise ValueError("holds a password; give it in the file LLM_PLATFORM_DAGSTER_STORAGE_PASSWORD_FILE")
            if found.scheme not in ("postgresql", "postgres") or not found.hostname or len(found.path) < 2:
                raise ValueError("is not postgresql://user@host:port/database")
        return value

    @field_validator(
        "alert_smtp_url", "alert_slack_url", "ui_url", "review_url", "s3_endpoint", "data_root", "nim_prometheus_url"
    )
    @classmethod
    def _no_secret(cls, value: str | None) -> str | None:
        # Shown on cards, in alerts and in the UI; a mail server's user is no secret.
        if value and re.search(r"://[^/?#\s]*:[^/?#\s]*@", value):
            raise ValueError("holds a password; an address is shown, so give it in a setting of its own")
        return value

    @field_validator(
        "nim_api_key", "s3_secret", "alert_slack_token", "alert_webhook_url", "alert_smtp_password", "identity_token"
    )
    @classmethod
    def _stripped(cls, value: SecretStr | None) -> SecretStr | None:
        # Every second secret of Kubernetes ends in a new line.
        return None if value is None else SecretStr(value.get_secret_value().strip())

    @field_validator("nim_api_key")
    @classmethod
    def _fits_a_header(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            try:
                header_value(value.get_secret_value())
            except SpecificationError as error:
                raise ValueError(str(error)) from None
        return value

    @field_validator("applications", mode="before")
    @classmethod
    def _split_folders(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(Path(part).expanduser().resolve() for part in value.split(os.pathsep) if part)
        return value

    @field_validator("modules", "alert_email_to", "attestation_approvers", mode="before")
    @classmethod
    def _split_commas(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("warehouses", "nim_pool_limits", "retention_days", mode="before")
    @classmethod
    def _read_json(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        try:
            return json.loads(value)
        except json.JSONDecodeError as error:
            raise ValueError(f"not JSON, at character {error.pos}") from error

    @field_validator("nim_pool_limits")
    @classmethod
    def _some_slots(cls, value: dict[str, int]) -> dict[str, int]:
        if few := [entry for entry, limit in value.items() if limit < 1]:
            raise ValueError(f"the limits of {', '.join(few)} are below one")
        return value

    @field_validator("retention_days")
    @classmethod
    def _of_known_tables(cls, value: dict[str, float]) -> dict[str, float]:
        if wrong := sorted(set(value) - {"calls", "endpoint_metrics", "events"}):
            raise ValueError(f"there is no {', '.join(wrong)}; allowed: calls, endpoint_metrics, events")
        if any(days <= 0 for days in value.values()):
            raise ValueError("days are more than zero")
        return {"events": EVENT_DAYS, **value}

    @field_validator("retention_schedule", "compaction_schedule")
    @classmethod
    def _is_cron(cls, value: str) -> str:
        if value and (mistake := cron_mistake(value)) is not None:
            raise ValueError(f"found {mistake}")
        return value

    @field_validator("state")
    @classmethod
    def _absolute_state(cls, value: Path) -> Path:
        return value.expanduser().resolve()

    @cached_property
    def namespace_folder(self) -> Path:
        """Folder of this namespace's catalog, data, cards and Dagster history."""
        return self.state / "namespaces" / self.namespace

    def in_namespace(self, name: str) -> Settings:
        """The same settings for another namespace."""
        other = self.model_copy(update={"namespace": namespace_name(name)})
        other.__dict__.pop("namespace_folder", None)  # of the namespace that was copied
        return other

    def require_encrypted(self, place: Path, *, of: str) -> None:
        """Refuse to write text where nothing encrypts it, if it is to be encrypted.

        Raises:
            SpecificationError: nothing does.
        """
        if not self.encrypted or self.encrypted_disk or (found := disk_of(place)).is_encrypted:
            return
        raise SpecificationError(
            f"LLM_PLATFORM_ENCRYPTED is set, and {of} would be written to {place}, which is on {found.kind} and on no "
            "encrypted disk that can be seen. Name a folder on LUKS or in memory; or, where a cloud encrypts the "
            "volume, say so: LLM_PLATFORM_ENCRYPTED_DISK=true"
        )

    @property
    def signing_key_file(self) -> Path:
        """The key that signs; of a deployment on several machines, one that all of them read."""
        return self.signing_key.expanduser() if self.signing_key is not None else self.state / "keys" / "signing.pem"

    @property
    def dagster_home(self) -> Path:
        """DAGSTER_HOME of this namespace."""
        return self.namespace_folder / "dagster"

    @property
    def page_url(self) -> str:
        """Where `llm-platform page` is reached: as configured, else on this machine."""
        return (self.review_url or "http://127.0.0.1:8765").rstrip("/")

    @property
    def progress_folder(self) -> Path:
        """Where runs write down how far they are."""
        return self.namespace_folder / "progress"

    @property
    def cards_folder(self) -> Path:
        """Folder of report cards and exports."""
        return self.namespace_folder / "reports"

    def connection(self, *, external: bool) -> Connection:
        """How endpoints are reached; those on this machine or in its cluster never through a proxy."""
        return Connection(
            bearer_token=self.nim_api_key.get_secret_value() if self.nim_api_key else None,
            ca_file=self.nim_ca_file,
            environment_proxies=external and self.nim_environment_proxies,
        )

    @property
    def upstream_namespace(self) -> str | None:
        """The namespace attached read-only: the setting, else what `branch up` wrote down."""
        if self.upstream is not None:
            return namespace_name(self.upstream)
        found = noted_upstream(self.namespace_folder)
        return None if found is None else namespace_name(found)

    def location(self, namespace: str) -> tuple[str, str, str | None]:
        """(catalog, data path, metadata schema) of a namespace.

        A Postgres catalog holds one schema a namespace; SQLite has one file a namespace.
        """
        folder = self.state / "namespaces" / namespace
        data = f"{self.data_root.rstrip('/')}/{namespace}" if self.data_root else str(folder / "data")
        if self.catalog is None:
            return f"sqlite:{folder / 'catalog.sqlite'}", data, None
        catalog, password = self.catalog, self.catalog_password_file
        if namespace != self.namespace and self.upstream_catalog:
            catalog, password = self.upstream_catalog, self.upstream_catalog_password_file or password
        if password is not None:
            catalog = with_password_file(catalog, password)
        return catalog, data, namespace

    @property
    def source_warehouses(self) -> dict[str, str]:
        """Named warehouses; `upstream` is the local one that the shipped samples are loaded into."""
        if not self.samples:
            return self.warehouses
        folder = self.state / "upstream"
        local = f"ducklake:sqlite:{folder / 'catalog.sqlite'}?data_path={folder / 'data'}"
        return {"upstream": local, **self.warehouses}

    @property
    def application_folders(self) -> tuple[Path, ...]:
        """Where applications are looked for: the shipped ones, if samples are wanted, then the team's."""
        return (*((SAMPLE_APPLICATIONS,) if self.samples else ()), *self.applications)

    @property
    def application_files(self) -> tuple[tuple[Path, ...], Path, int | None]:
        """What applications are read from: their folders, the lock file of models, and what a month may take here."""
        return self.application_folders, self.models_lock, self.budget_month_tokens


def load_settings() -> Settings:
    """Settings from the environment; from now on what is kept in the state folder is its user's alone.

    Raises:
        SpecificationError: a variable has a value that it cannot have; the message names the variable, not the value.
    """
    try:
        settings = Settings()
    except ValidationError as error:
        names = [str(mistake["loc"][0]).removeprefix("LLM_PLATFORM_").upper() for mistake in error.errors()]
        lines = [f"LLM_PLATFORM_{name}: {mistake['msg']}" for name, mistake in zip(names, error.errors(), strict=True)]
        # Without its cause, which holds every value.
        raise SpecificationError("The environment has settings that cannot be read:\n" + "\n".join(lines)) from None
    keep_to_owner()
    close_to_others(settings.state)
    return settings
