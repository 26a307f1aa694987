"""Where a server says that it is there: a lock it holds while it lives, and a file with its address."""

from __future__ import annotations

import os
import re
import secrets
import time
from pathlib import Path

from pydantic import BaseModel, ValidationError

from llm_platform.errors import LeaseHeld
from llm_platform.files import write_text
from llm_platform.nim_local.config import EmbeddedConfig
from llm_platform.nim_local.locking import make_folder, try_lock, wait_lock

_GLANCE_SECONDS = 1.0


class Announcement(BaseModel):
    """The content of `endpoint.json`, which only its owner may read.

    Attributes:
        token: What a request that changes what is served has to carry.
    """

    base_url: str
    pid: int
    model_id: str
    weights_sha256: str
    profile_id: str
    dialect: str = "nim-2.x"
    peft_source: str | None = None
    started_at: float
    token: str | None = None


def server_folder(state: Path, model_id: str, dialect: str = "nim-2.x") -> Path:
    """The folder of one model's server inside a state folder; each dialect has a server of its own."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "--", model_id).strip(".")
    return state / "nim" / (name if dialect == "nim-2.x" else f"{name}@{dialect}")


def read_announcement(folder: Path) -> Announcement | None:
    """What the folder's server last announced; None when there is nothing that can be read."""
    try:
        return Announcement.model_validate_json((folder / "endpoint.json").read_bytes())
    except (OSError, ValidationError):
        return None


def is_served(folder: Path) -> bool:
    """Whether a living process is registered: the kernel frees its lock when it dies, however it dies."""
    if not (folder / "server.lock").exists():
        return False
    descriptor = try_lock(folder / "server.lock")
    if descriptor is None:
        return True
    os.close(descriptor)
    return False


class Registration:
    """The hold of one server on its folder; `token` is for those who may read that."""

    def __init__(self, folder: Path, config: EmbeddedConfig, descriptor: int) -> None:
        self.folder = folder
        self.token = secrets.token_urlsafe(32)
        self._config = config
        self._descriptor = descriptor

    @classmethod
    def take(cls, state: Path, config: EmbeddedConfig) -> Registration:
        """Become the server of this model in this state folder.

        Raises:
            LeaseHeld: there is one already.
            StorageError: the folder cannot be written.
        """
        folder = make_folder(server_folder(state, config.model_id, config.dialect))
        # Who only looks whether a server lives holds this lock for an instant.
        descriptor = wait_lock(folder / "server.lock", timeout_seconds=_GLANCE_SECONDS)
        if descriptor is None:
            raise LeaseHeld(
                f"Could not start a server for {config.model_id!r}: one is registered in {str(folder)!r}. "
                "Use that one, or stop it."
            )
        (folder / "endpoint.json").unlink(missing_ok=True)
        return cls(folder, config, descriptor)

    def announce(self, base_url: str) -> None:
        """Publish the address.

        Raises:
            StorageError: it cannot be written.
        """
        announcement = Announcement(
            base_url=base_url,
            pid=os.getpid(),
            model_id=self._config.model_id,
            weights_sha256=self._config.weights_sha256,
            profile_id=self._config.profile,
            dialect=self._config.dialect,
            peft_source=str(self._config.peft_source) if self._config.peft_source else None,
            started_at=time.time(),
            token=self.token,
        )
        write_text(self.folder / "endpoint.json", announcement.model_dump_json(indent=2) + "\n")

    def release(self) -> None:
        """Withdraw the address and the hold."""
        (self.folder / "endpoint.json").unlink(missing_ok=True)
        os.close(self._descriptor)
