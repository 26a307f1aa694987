"""Plain single requests to an endpoint: discovery, identity, probes. Bulk requests go through `inference`."""

from __future__ import annotations

import http.client
import json
import ssl
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from pyreqwest.client import SyncClient, SyncClientBuilder
from pyreqwest.exceptions import RequestError, RequestTimeoutError
from pyreqwest.request import SyncRequestBuilder

from llm_platform.errors import EndpointUnavailable, SpecificationError
from llm_platform.settings.causes import CERTIFICATE, failure_of, too_long
from llm_platform.settings.connection import Connection, trusted


class EndpointClient:
    """A client for GET and POST; use it as a context manager."""

    def __init__(
        self,
        connection: Connection | None = None,
        *,
        timeout_seconds: float | None = None,
    ) -> None:
        how = connection or Connection()
        timeout_seconds = timeout_seconds or how.reply_timeout_seconds
        self._max_bytes = how.max_reply_bytes
        builder = SyncClientBuilder().follow_redirects(False).timeout(timedelta(seconds=timeout_seconds))
        builder = builder.connect_timeout(timedelta(seconds=min(how.connect_timeout_seconds, timeout_seconds)))
        if not how.environment_proxies:
            builder = builder.no_proxy()
        if how.bearer_token:
            builder = builder.default_headers({"Authorization": f"Bearer {how.bearer_token}"})
        self._own = _OwnTls(how, timeout_seconds) if how.ca_file is not None and not how.environment_proxies else None
        if how.ca_file is not None:
            builder = builder.add_root_certificate_pem(_read(how.ca_file))
        self._client: SyncClient = builder.build()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def get(self, url: str) -> tuple[int, bytes]:
        """Status and body.

        Raises:
            EndpointUnavailable: nothing answers, or more than a reply may be.
        """
        if self._own is not None:
            return self._own.send("GET", url)
        return self._sent("GET", url, self._client.get(url))

    def post(self, url: str, payload: dict[str, Any]) -> tuple[int, bytes]:
        """Status and body of a JSON request.

        Raises:
            EndpointUnavailable: nothing answers, or more than a reply may be.
        """
        body = json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode()
        if self._own is not None:
            return self._own.send("POST", url, body)
        request = self._client.post(url).body_bytes(body).header("Content-Type", "application/json")
        return self._sent("POST", url, request)

    def _sent(self, method: str, url: str, request: SyncRequestBuilder) -> tuple[int, bytes]:
        try:
            with request.build_streamed() as response:
                pieces, size = [], 0
                while (piece := response.body_reader.read_chunk()) is not None:
                    size += len(piece)
                    if size > self._max_bytes:
                        raise _too_long(method, url, self._max_bytes)
                    pieces.append(piece.to_bytes())
                return response.status, b"".join(pieces)
        except RequestError as error:
            causes = [cause["message"] for cause in error.details["causes"] or []]
            _, why = failure_of(causes, timed_out=isinstance(error, RequestTimeoutError))
            raise _unreachable(method, url, why) from None


class _OwnTls:
    """The same by OpenSSL, for a private authority: Rust's TLS takes no certificate that is its own authority."""

    def __init__(self, how: Connection, timeout_seconds: float) -> None:
        self._tls, self._timeout = trusted(how), timeout_seconds
        self._max_bytes = how.max_reply_bytes
        self._headers = {"Authorization": f"Bearer {how.bearer_token}"} if how.bearer_token else {}

    def send(self, method: str, url: str, body: bytes | None = None) -> tuple[int, bytes]:
        parts = urlsplit(url)
        host = parts.hostname or ""
        connection = (
            http.client.HTTPSConnection(host, parts.port, timeout=self._timeout, context=self._tls)
            if parts.scheme == "https"
            else http.client.HTTPConnection(host, parts.port, timeout=self._timeout)
        )
        try:
            with closing(connection):
                headers = self._headers | ({"Content-Type": "application/json"} if body is not None else {})
                connection.request(method, parts.path or "/", body, headers)
                response = connection.getresponse()
                content = response.read(self._max_bytes + 1)
            if len(content) > self._max_bytes:
                raise _too_long(method, url, self._max_bytes)
            return response.status, content
        except ssl.SSLCertVerificationError as error:
            why = f"{CERTIFICATE}: {error.verify_message}"
        except OSError as error:
            why = error.strerror or type(error).__name__
        except http.client.HTTPException as error:
            why = type(error).__name__
        raise _unreachable(method, url, why)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SpecificationError(f"{path}: the CA file cannot be read ({error.strerror}).") from error


def _unreachable(method: str, url: str, why: str) -> EndpointUnavailable:
    return EndpointUnavailable(f"{method} {url}: {why}. Is the endpoint running and reachable?")


def _too_long(method: str, url: str, max_bytes: int) -> EndpointUnavailable:
    return EndpointUnavailable(f"{method} {url}: {too_long(max_bytes)}. Is this the address of an endpoint?")
