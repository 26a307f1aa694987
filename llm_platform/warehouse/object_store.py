"""An object store, and how it is reached: once for DuckDB, once for the files that are not tables."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import duckdb

from llm_platform.errors import StorageError
from llm_platform.warehouse.engine import identifier, literal, load

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem


@dataclass(frozen=True)
class S3Access:
    """How to reach an object store; empty values are left to the defaults of the client.

    Attributes:
        endpoint: Host and port without a scheme, for stores other than AWS.
        url_style: `path` or `vhost`.
    """

    key_id: str = ""
    secret: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)
    region: str = ""
    endpoint: str = ""
    url_style: str = ""
    use_ssl: bool = True

    def __post_init__(self) -> None:
        # Resolved from the environment in a run; every second secret of Kubernetes ends in a new line.
        for name in ("key_id", "secret", "session_token"):
            object.__setattr__(self, name, getattr(self, name).strip())

    def file_system(self) -> FileSystem:
        """The store as pyarrow's file system."""
        from pyarrow import fs

        given = {
            "access_key": self.key_id,
            "secret_key": self.secret,
            "session_token": self.session_token,
            "region": self.region,
            "endpoint_override": self.endpoint,
        }
        return fs.S3FileSystem(
            scheme="https" if self.use_ssl else "http",
            force_virtual_addressing=self.url_style == "vhost",
            **{key: value for key, value in given.items() if value},
        )


def with_keys(access: S3Access) -> S3Access:
    """An access with keys: where it has none, those that the pod or the machine has of its cloud, for about an hour.

    Raises:
        StorageError: there are none.
    """
    if access.key_id:
        return access
    # DuckDB asks as the cloud's own tools do, and shows what it got to whoever has said so at the start.
    with closing(duckdb.connect(config={"allow_unredacted_secrets": "true", "threads": "1"})) as connection:
        load(connection, "httpfs", "aws")
        try:
            connection.execute("CREATE SECRET (TYPE s3, PROVIDER credential_chain)")
        except duckdb.Error:
            raise StorageError(
                "The object store cannot be asked: there are no keys for it, and no identity of a cloud. Give the pod "
                "one, or set LLM_PLATFORM_S3_KEY_ID and LLM_PLATFORM_S3_SECRET."
            ) from None
        ((said,),) = connection.execute("SELECT secret_string FROM duckdb_secrets(redact := false)").fetchall()
    found = dict(part.partition("=")[::2] for part in said.split(";"))
    return replace(access, key_id=found["key_id"], secret=found["secret"], session_token=found.get("session_token", ""))


def sizes_of(paths: Sequence[str], access: S3Access) -> dict[str, int]:
    """Path → bytes, of those files on this machine or in the store that are there.

    Raises:
        StorageError: the store does not answer.
    """
    from pyarrow import fs

    inside = [path for path in paths if path.startswith("s3://")]
    local = [path for path in paths if not path.startswith("s3://")]
    found = dict(zip(local, fs.LocalFileSystem().get_file_info(local), strict=True))
    if inside:
        names = [path.removeprefix("s3://") for path in inside]
        try:
            found |= zip(inside, access.file_system().get_file_info(names), strict=True)
        except OSError as error:
            raise StorageError(
                f"Cannot look for {len(names)} files of the lake (first: {inside[0]!r}): the object store does not "
                "answer, or lets nobody in. Check it, then run again."
            ) from error
    return {path: info.size for path, info in found.items() if info.type == fs.FileType.File}


def make_secret(connection: duckdb.DuckDBPyConnection, access: S3Access, *, name: str, scope: str) -> None:
    """Tell DuckDB how a prefix of a store is reached."""
    # Without a key, the pod's or the machine's own identity, found as the cloud's own tools find it.
    cloud = not access.key_id
    if cloud:
        load(connection, "aws")
    values = {
        "PROVIDER": "credential_chain" if cloud else "",
        "KEY_ID": access.key_id,
        "SECRET": access.secret,
        "SESSION_TOKEN": access.session_token,
        "REGION": access.region,
        "ENDPOINT": access.endpoint,
        "URL_STYLE": access.url_style,
    }
    given = "".join(f", {key} {literal(value)}" for key, value in values.items() if value)
    # A cloud's keys live for an hour, a run may take longer.
    given += ", REFRESH auto" if cloud else ""
    connection.execute(
        f"CREATE OR REPLACE SECRET {identifier(name)} "
        f"(TYPE s3, SCOPE {literal(scope)}, USE_SSL {str(access.use_ssl).lower()}{given})"
    )
