"""How endpoints are reached; the same for single requests, bulk runs and the typed clients."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from llm_platform.errors import SpecificationError


@dataclass(frozen=True)
class Connection:
    """How to reach endpoints.

    Attributes:
        bearer_token: As it was given, without white space around it: secrets of Kubernetes end in a new line.
        ca_file: PEM file of a private certificate authority, trusted beside the public ones.
        environment_proxies: Whether `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` count. They are meant for
            what is outside, and a bulk run through a proxy costs more than twice the CPU a request.
        connect_timeout_seconds: For a connection, TLS included.
        reply_timeout_seconds: For the reply to a single request; bulk runs have a deadline of their own. A one-token
            answer of a loaded 70B model that queues behind others takes tens of seconds.
        keep_alive_seconds: Idle connections are dropped after this; below uvicorn's and vLLM's own five seconds, so
            that a request never meets a connection that the server is just closing.
        max_reply_bytes: A longer reply is given up, of a single request and of a bulk run: a peer that never stops must
            not fill the memory.
    """

    bearer_token: str | None = field(default=None, repr=False)
    ca_file: Path | None = None
    environment_proxies: bool = False
    connect_timeout_seconds: float = 10.0
    reply_timeout_seconds: float = 60.0
    keep_alive_seconds: float = 4.0
    max_reply_bytes: int = 256 * 1024 * 1024

    def __post_init__(self) -> None:
        if self.bearer_token is not None:
            object.__setattr__(self, "bearer_token", header_value(self.bearer_token))


def header_value(secret: str) -> str | None:
    """A secret as a header can carry it; None for one that is empty.

    Raises:
        SpecificationError: it holds what no header may; says where, and never what it is.
    """
    plain = secret.strip()
    for position, character in enumerate(plain, start=1):
        if not (character.isascii() and character.isprintable()) or character == " ":
            raise SpecificationError(
                f"The API key holds a character that no HTTP header can carry, at position {position} of {len(plain)}. "
                "Give LLM_PLATFORM_NIM_API_KEY the key alone, without quotes, names or line ends."
            )
    return plain or None


def secrets_in(url: str) -> str | None:
    """What an address holds that does not belong there, in words; None where it holds nothing.

    Addresses are shown, and stored in tables; secrets are not.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    if "@" in parts.netloc:
        return "a user or a password"
    return "a query, where keys are given" if parts.query or parts.fragment else None


def trusted(connection: Connection) -> ssl.SSLContext:
    """The public authorities, and the one of `ca_file`, which may be the endpoint's own self-signed certificate.

    Raises:
        SpecificationError: the file cannot be read.
    """
    context = ssl.create_default_context()
    if connection.ca_file is None:
        return context
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(cadata=connection.ca_file.read_bytes().decode("ascii"))
    except OSError as error:
        # An `ssl.SSLError` is one, and has no errno of the system.
        if isinstance(error, ssl.SSLError):
            raise SpecificationError(f"{connection.ca_file}: not a certificate in PEM form.") from None
        raise SpecificationError(f"{connection.ca_file}: the CA file cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise SpecificationError(f"{connection.ca_file}: not a certificate in PEM form.") from error
    return context


def endpoint_root(base_url: str) -> str:
    """The address that paths such as `/v1/models` are appended to; other tools write it with `/v1` at its end."""
    return base_url.rstrip("/").removesuffix("/v1")
