"""The embedded NIM of this machine: where its weights are, and what it is started with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from llm_platform.errors import SpecificationError
from llm_platform.models.entries import LockEntry
from llm_platform.nim_local.artifacts import Progress, WeightsArtifact, fetch_weights
from llm_platform.nim_local.config import EmbeddedConfig


@dataclass(frozen=True)
class LocalNim:
    """How the embedded NIM runs on this machine; nothing here changes an answer."""

    state: Path
    slots: int | None = None
    threads: int | None = None
    idle_seconds: float = 1800.0

    @property
    def peft_source(self) -> Path:
        """Folder that it watches for adapters."""
        return self.state / "peft"

    @property
    def weights_folder(self) -> Path:
        """Where weights are kept: shared by all namespaces."""
        return self.state / "models"

    def artifact(self, entry: LockEntry) -> WeightsArtifact:
        """The weights of an embedded entry, in the terms of the embedded NIM.

        Raises:
            SpecificationError: the entry names none.
        """
        if entry.weights is None or entry.weights.artifact is None:
            raise SpecificationError(f"Lock entry {entry.name!r} names no weights artifact, so it cannot run here.")
        artifact = entry.weights.artifact
        return WeightsArtifact.model_validate(
            {
                **artifact.model_dump(),
                "quantization": artifact.quantization,
                "sha256": entry.weights.sha256,
                "file_name": entry.weights.file,
            }
        )

    def fetch(self, entry: LockEntry, on_progress: Progress | None = None) -> Path:
        """The weights file of an embedded entry, fetched and verified if need be."""
        artifact = self.artifact(entry)
        if on_progress is None:
            return fetch_weights(artifact, self.weights_folder)
        return fetch_weights(artifact, self.weights_folder, on_progress=on_progress)

    def path(self, entry: LockEntry) -> Path:
        """Where the weights file of an embedded entry is, or will be."""
        return self.weights_folder / self.artifact(entry).file_name

    def config(self, entry: LockEntry, weights: Path) -> EmbeddedConfig:
        """What the embedded NIM of an entry is started with."""
        return EmbeddedConfig(
            model_id=entry.served_name,
            weights=weights,
            weights_sha256=entry.weights.sha256 if entry.weights else "",
            peft_source=self.peft_source,
            context_length=entry.context_length,
            slots=self.slots or entry.slots or 8,
            threads=self.threads,
            release=entry.release,
            dialect="nim-1.x" if entry.dialect == "nim-1.x" else "nim-2.x",
            licence_name=entry.licence,
            idle_exit_seconds=self.idle_seconds,
        )
