"""What neither DuckDB nor pyarrow asks of a bucket: versions of objects that are no longer the present ones, since a
delete hides what it deletes in a bucket that keeps them; and whether it encrypts what is put into it.

An SDK for three requests would be a large dependency, so they are signed here. Source of the signature: AWS Signature
Version 4, "Create a signed AWS API request" of the IAM user guide.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import os
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from xml.etree import ElementTree

from llm_platform.errors import StorageError, TransientError
from llm_platform.warehouse.object_store import S3Access, with_keys

TIMEOUT_SECONDS = 60.0
EMPTY = hashlib.sha256(b"").hexdigest()
GONE = (200, 204, 404)
NOT_KEPT = (501,)
NOT_ENCRYPTED = (404, 501)
"""No rule is set, or the store knows of none."""
REFUSED = (400, 403, 405)


@dataclass(frozen=True)
class Version:
    """One version of an object, or the mark of its deletion."""

    key: str
    version_id: str


def purge_versions(access: S3Access, data_path: str) -> tuple[int, int]:
    """Delete every version below a prefix that is not the present one, and every mark of a deletion.

    Returns:
        (deleted, refused): refused are those that the store does not let go of, such as those under an object lock.

    Raises:
        TransientError: the store does not answer.
        StorageError: it does not let us list versions.
    """
    bucket, _, prefix = data_path.removeprefix("s3://").partition("/")
    deleted = refused = 0
    with closing(_Store(access, bucket)) as store:
        for version in list(store.past(f"{prefix.rstrip('/')}/" if prefix else "")):
            if store.delete(version):
                deleted += 1
            else:
                refused += 1
    return deleted, refused


def bucket_encrypts(access: S3Access, address: str) -> bool:
    """Whether a bucket encrypts what is put into it, by its own word.

    Raises:
        TransientError: the store does not answer.
        StorageError: we may not ask.
    """
    bucket = address.removeprefix("s3://").partition("/")[0]
    with closing(_Store(access, bucket)) as store:
        return store.encrypts()


class _Store:
    """One bucket, by signed requests over one connection."""

    def __init__(self, access: S3Access, bucket: str) -> None:
        self._region = access.region or os.environ.get("AWS_REGION") or "us-east-1"
        self._access = with_keys(access)
        endpoint = access.endpoint or f"s3.{self._region}.amazonaws.com"
        in_host = access.url_style == "vhost" or not access.endpoint
        self._host = f"{bucket}.{endpoint}" if in_host else endpoint
        self._base = "" if in_host else f"/{urllib.parse.quote(bucket)}"
        kind = http.client.HTTPSConnection if access.use_ssl else http.client.HTTPConnection
        self._connection = kind(self._host, timeout=TIMEOUT_SECONDS)

    def close(self) -> None:
        self._connection.close()

    def past(self, prefix: str) -> Iterator[Version]:
        """Versions that are not the present ones.

        Raises:
            StorageError: we may not list them.
        """
        marks: dict[str, str] = {}
        while True:
            status, body = self._send("GET", "/", {"versions": "", "prefix": prefix, **marks})
            if status in NOT_KEPT:
                return
            if status != 200:
                raise StorageError(
                    f"Cannot list the versions of objects at {self._host!r}: HTTP {status}. Allow "
                    "s3:ListBucketVersions and s3:DeleteObjectVersion to this identity."
                )
            root = ElementTree.fromstring(body)
            space = root.tag.partition("}")[0] + "}" if root.tag.startswith("{") else ""
            for one in root:
                kind = one.tag.removeprefix(space)
                latest = one.findtext(f"{space}IsLatest") == "true"
                if kind == "DeleteMarker" or (kind == "Version" and not latest):
                    yield Version(one.findtext(f"{space}Key") or "", one.findtext(f"{space}VersionId") or "")
            if root.findtext(f"{space}IsTruncated") != "true":
                return
            marks = {
                "key-marker": root.findtext(f"{space}NextKeyMarker") or "",
                "version-id-marker": root.findtext(f"{space}NextVersionIdMarker") or "",
            }

    def encrypts(self) -> bool:
        """Whether a rule of encryption is set.

        Raises:
            StorageError: we may not ask.
        """
        status, _ = self._send("GET", "/", {"encryption": ""})
        if status not in (200, *NOT_ENCRYPTED):
            raise StorageError(
                f"Cannot ask the bucket at {self._host!r} whether it encrypts: HTTP {status}. Allow "
                "s3:GetEncryptionConfiguration, or say that it does: LLM_PLATFORM_ENCRYPTED_DISK=true"
            )
        return status == 200

    def delete(self, version: Version) -> bool:
        """Delete one version; whether the store let it go.

        Raises:
            TransientError: the store did not do it, and does not say that we may not.
        """
        status, _ = self._send("DELETE", f"/{version.key}", {"versionId": version.version_id})
        if status in REFUSED:
            return False
        if status not in GONE:
            raise TransientError(f"Cannot delete a version of an object at {self._host!r}: HTTP {status}. Run again.")
        return True

    def _send(self, method: str, path: str, query: Mapping[str, str]) -> tuple[int, bytes]:
        target = self._base + urllib.parse.quote(path)
        target = target if target.startswith("/") else f"/{target}"
        asked = "&".join(
            f"{urllib.parse.quote(name, safe='')}={urllib.parse.quote(value, safe='')}"
            for name, value in sorted(query.items())
        )
        headers = self._signed(method, target, asked)
        try:
            self._connection.request(method, f"{target}?{asked}", headers=headers)
            reply = self._connection.getresponse()
            return reply.status, reply.read()
        except (OSError, http.client.HTTPException) as error:
            raise TransientError(
                f"The object store at {self._host!r} does not answer ({type(error).__name__}). Run again."
            ) from error

    def _signed(self, method: str, target: str, query: str) -> dict[str, str]:
        now = datetime.now(UTC)
        stamp, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
        headers = {"host": self._host, "x-amz-content-sha256": EMPTY, "x-amz-date": stamp}
        if self._access.session_token:
            headers["x-amz-security-token"] = self._access.session_token
        names = ";".join(sorted(headers))
        listed = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
        scope = f"{day}/{self._region}/s3/aws4_request"
        canonical = "\n".join([method, target, query, listed, names, EMPTY])
        to_sign = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
        key = f"AWS4{self._access.secret}".encode()
        for part in (day, self._region, "s3", "aws4_request"):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        signature = hmac.new(key, to_sign.encode(), hashlib.sha256).hexdigest()
        headers["Authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={self._access.key_id}/{scope}, SignedHeaders={names}, Signature={signature}"
        )
        return headers
