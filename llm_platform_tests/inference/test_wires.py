"""Both wires, against the same expectations."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import ipaddress
import ssl
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from llm_platform.errors import EndpointUnavailable, SpecificationError
from llm_platform.inference.engine import default_wire
from llm_platform.inference.policy import EnginePolicy
from llm_platform.inference.wire import Reply, Wire
from llm_platform.inference.wire_http import HttpWire
from llm_platform.inference.wire_rust import RustWire
from llm_platform.nim.http import EndpointClient
from llm_platform.settings.connection import Connection
from llm_platform_tests.servers.faults import Fault, Hangup, Held, NeverAnswer, Status
from llm_platform_tests.servers.proxy import Proxy
from llm_platform_tests.servers.scripted import ScriptedServer

BODY = b'{"prompt":"DOC#1#"}'
WIRES = {
    "http": HttpWire,
    "rust": lambda connection: RustWire(connection, timeout_seconds=5.0),
}
MakeWire = Callable[[Connection], Wire]


@pytest.fixture(params=WIRES)
def make_wire(request: pytest.FixtureRequest) -> MakeWire:
    return WIRES[request.param]


def proxied_wire(connection: Connection) -> Wire:
    """What a run takes for such a connection."""
    return default_wire(connection, EnginePolicy())


def talk(make_wire: MakeWire, work: Callable[[Wire], Coroutine[Any, Any, Reply]], **how: Any) -> Reply:
    async def run() -> Reply:
        wire = make_wire(Connection(**how))
        try:
            return await work(wire)
        finally:
            await wire.close()

    return asyncio.run(run())


def post(url: str, timeout_seconds: float = 5.0) -> Callable[[Wire], Coroutine[Any, Any, Reply]]:
    return lambda wire: wire.post(f"{url}/v1/completions", BODY, timeout_seconds=timeout_seconds)


def test_body_and_token_arrive_unchanged(make_wire: MakeWire) -> None:
    """A wire that re-encodes the body would not send what the release's hash promises."""
    with ScriptedServer(keep_bodies=True) as server:
        reply = talk(make_wire, post(server.url), bearer_token="secret")

    assert (reply.status, server.bodies) == (200, [BODY])
    assert server.headers[0]["authorization"] == "Bearer secret"
    assert server.headers[0]["content-type"] == "application/json"


def test_token_is_not_shown() -> None:
    """Policies and connections are printed in logs of failed runs."""
    assert "secret" not in repr(Connection(bearer_token="secret"))


@pytest.mark.parametrize(
    ("fault", "failure"), [(Hangup(), "reset"), (NeverAnswer(), "timeout")], ids=["hang-up", "never-answers"]
)
def test_broken_exchange_is_a_value(make_wire: MakeWire, fault: Fault, failure: str) -> None:
    """The engine decides what a failure means; an exception in a worker would end the run."""
    with ScriptedServer(script=lambda seen: fault) as server:
        reply = talk(make_wire, post(server.url, timeout_seconds=0.3))

    assert (reply.status, reply.failure) == (0, failure)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://nobody.invalid"])
def test_nobody_there_is_a_value(make_wire: MakeWire, url: str) -> None:
    """A refused connection and a name without an address are the same to a run: not there now."""
    reply = talk(make_wire, post(url))

    assert (reply.status, reply.failure) == (0, "connect")
    assert reply.detail


def test_redirect_is_reported_not_followed(make_wire: MakeWire) -> None:
    """A POST that turns into a GET of a login page answers 200 with garbage."""
    fault = Status(307, headers={"Location": "http://127.0.0.1:1/"})

    with ScriptedServer(script=lambda seen: fault) as server:
        reply = talk(make_wire, post(server.url))

    assert (reply.status, reply.headers["location"]) == (307, "http://127.0.0.1:1/")


def test_retry_after_is_read(make_wire: MakeWire) -> None:
    """It is the only thing an overloaded gateway says."""
    with ScriptedServer(script=lambda seen: Status(503, headers={"Retry-After": "7"})) as server:
        assert talk(make_wire, post(server.url)).headers["retry-after"] == "7"


def test_proxies_of_the_environment_are_ignored(make_wire: MakeWire, monkeypatch: pytest.MonkeyPatch) -> None:
    """Company machines have HTTP_PROXY set; documents must not take that way unasked."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")

    with ScriptedServer() as server:
        assert talk(make_wire, post(server.url)).status == 200


def test_proxies_of_the_environment_are_used_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some endpoints are on the other side of one; what NO_PROXY names is not."""
    with ScriptedServer() as server, Proxy(server.url) as proxy:
        proxy.name_in(monkeypatch)
        through = talk(proxied_wire, post("http://models.invalid:8000"), environment_proxies=True)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        past = talk(proxied_wire, post(server.url), environment_proxies=True)

    assert (through.status, past.status) == (200, 200)
    assert proxy.seen == [("POST", "http://models.invalid:8000/v1/completions")]


def test_tls_goes_through_a_proxy_unread(monkeypatch: pytest.MonkeyPatch, certificate: Path, authority: Path) -> None:
    """The proxy sees an address and no document, and the private authority is trusted behind it, too."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)

    with ScriptedServer(tls=tls) as server, Proxy(server.url) as proxy:
        proxy.name_in(monkeypatch)
        reply = talk(proxied_wire, post(server.url), environment_proxies=True, ca_file=authority)

    assert reply.status == 200
    assert proxy.seen == [("CONNECT", f"127.0.0.1:{server.port}")]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for 127.0.0.1, with its key in the same file."""
    return self_signed(tmp_path_factory.mktemp("tls") / "both.pem", ca=False)


def self_signed(path: Path, *, ca: bool) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "private authority")])
    now = dt.datetime.now(dt.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + built.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.fixture(scope="module")
def authority(certificate: Path) -> Path:
    """The certificate alone, as its authority."""
    path = certificate.with_name("ca.pem")
    text = certificate.read_text()
    path.write_text(text[text.index("-----BEGIN CERTIFICATE") :])
    return path


def test_private_authority_is_trusted_only_when_given(make_wire: MakeWire, certificate: Path, authority: Path) -> None:
    """Inside companies endpoints carry certificates of an authority that no public list knows."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)

    with ScriptedServer(tls=tls) as server:
        trusted = talk(make_wire, post(server.url), ca_file=authority)
        refused = talk(make_wire, post(server.url))

    assert trusted.status == 200
    assert (refused.status, refused.failure) == (0, "connect")


@pytest.mark.parametrize("ca", [False, True])
def test_a_certificate_that_is_its_own_authority_is_trusted(tmp_path: Path, *, ca: bool) -> None:
    """What `openssl req -x509` makes is both; teams name it as the authority of their endpoint."""
    both = self_signed(tmp_path / "both.pem", ca=ca)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(both)
    alone = tmp_path / "ca.pem"
    alone.write_text(both.read_text()[both.read_text().index("-----BEGIN CERTIFICATE") :])

    with ScriptedServer(tls=tls) as server:
        with EndpointClient(Connection(ca_file=alone)) as client:
            status, _ = client.get(f"{server.url}/v1/models")
        bulk = talk(HttpWire, post(server.url), ca_file=alone)
        with EndpointClient() as client, pytest.raises(EndpointUnavailable):
            client.get(f"{server.url}/v1/models")

    assert (status, bulk.status) == (200, 200)


def test_missing_authority_file_is_a_specification_error(make_wire: MakeWire, tmp_path: Path) -> None:
    """It must fail before anything is sent, and name the file."""
    with pytest.raises(SpecificationError, match=r"nowhere\.pem"):
        talk(make_wire, post("http://127.0.0.1:1"), ca_file=tmp_path / "nowhere.pem")


def scripted(*pieces: bytes, close: bool = False) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]:
    """What a peer says to each request, piece by piece."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"}"):
                for piece in pieces:
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0.002)
                if close:
                    break
        writer.close()

    return serve


def asked(make_wire: MakeWire, handler: Any, times: int = 2, **how: Any) -> list[Reply]:
    serving: set[asyncio.Task[None]] = set()

    def serve(*streams: Any) -> None:
        serving.add(asyncio.create_task(handler(*streams)))

    async def run() -> list[Reply]:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/completions"
        # The Rust client leaves idle connections to their time.
        wire = make_wire(Connection(keep_alive_seconds=0.2, **how))
        try:
            return [await wire.post(url, BODY, timeout_seconds=60.0) for _ in range(times)]
        finally:
            await wire.close()
            await asyncio.gather(*serving)
            server.close()
            await server.wait_closed()

    return asyncio.run(run())


OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("pieces", "close"),
    [
        pytest.param((OK + b"Content-Length: 4\r\n\r\nbody",), False, id="whole"),
        pytest.param((OK + b"Conte", b"nt-Length: 4\r", b"\n\r\nbo", b"dy"), False, id="in-pieces"),
        pytest.param(
            (OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nbo\r\n", b"2\r\ndy\r\n0\r\n\r\n"), False, id="chunked"
        ),
        pytest.param((OK + b"\r\nbo", b"dy"), True, id="until-the-connection-ends"),
        pytest.param((OK + b"Content-Length: 4\r\nConnection: close\r\n\r\nbody",), True, id="told-to-close"),
        pytest.param((b"HTTP/1.1 100 Continue\r\n\r\n", OK + b"Content-Length: 4\r\n\r\nbody"), False, id="continue"),
        pytest.param((b"HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\nbody",), True, id="http-1.0"),
    ],
)
def test_every_form_of_a_whole_reply_is_read(make_wire: MakeWire, pieces: tuple[bytes, ...], close: bool) -> None:
    """Proxies and servers cut and frame replies as they like."""
    replies = asked(make_wire, scripted(*pieces, close=close))

    assert [(reply.status, reply.body) for reply in replies] == [(200, b"body")] * 2


@pytest.mark.parametrize(
    ("pieces", "close"),
    [
        pytest.param((OK + b"Content-Length: 40\r\n\r\nbody",), True, id="cut-off"),
        pytest.param((OK + b"Transfer-Encoding: chunked\r\n\r\n9\r\nbody",), True, id="cut-off-in-a-chunk"),
        pytest.param((b"SSH-2.0-OpenSSH_9.2\r\n",), True, id="not-http"),
        pytest.param((b"",), True, id="nothing"),
    ],
)
def test_half_a_reply_is_a_failure(make_wire: MakeWire, pieces: tuple[bytes, ...], close: bool) -> None:
    """Half an answer that parses would be stored as a whole one."""
    replies = asked(make_wire, scripted(*pieces, close=close))

    assert {(reply.status, reply.failure) for reply in replies} <= {(0, "reset"), (0, "connect")}


@pytest.mark.parametrize("framing", ["Content-Length: 4096", "Connection: close"])
def test_a_reply_without_end_is_given_up(make_wire: MakeWire, framing: str) -> None:
    """A peer that goes on and on would fill the memory of a run, and end it without a word."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readuntil(b"}")
            writer.write(OK + framing.encode() + b"\r\n\r\n")
            for _ in range(4096 // 64):
                writer.write(b"x" * 64)
                await writer.drain()
        writer.close()

    (long,) = asked(make_wire, serve, times=1, max_reply_bytes=4095)
    (fits,) = asked(make_wire, serve, times=1, max_reply_bytes=4096)

    assert (long.status, long.failure, long.detail) == (0, "reset", "the reply is longer than 4095 bytes")
    assert (fits.status, len(fits.body)) == (200, 4096)


def test_reply_of_a_cancelled_request_is_nobody_elses(make_wire: MakeWire) -> None:
    """A stopped run leaves requests behind; their replies must not answer what is asked next."""

    async def run(server: ScriptedServer) -> Reply:
        url, wire = f"{server.url}/v1/completions", make_wire(Connection())
        try:
            slow = asyncio.create_task(wire.post(url, b'{"prompt":"DOC#slow#"}', timeout_seconds=60))
            while not server.counts.asked["slow"]:
                await asyncio.sleep(0.01)
            slow.cancel()
            with pytest.raises(asyncio.CancelledError):
                await slow
            left.set()
            return await wire.post(url, b'{"prompt":"DOC#next#"}', timeout_seconds=60)
        finally:
            await wire.close()

    left = threading.Event()
    with ScriptedServer(script=lambda seen: Held(left.is_set)) as server:
        reply = asyncio.run(run(server))

    assert b"answer to next" in reply.body


def test_connection_that_idled_too_long_is_not_used_again(make_wire: MakeWire) -> None:
    """A server drops idle connections after seconds; a request on one of them is lost for nothing."""

    async def run(url: str, keep_alive_seconds: float, pause: float) -> None:
        wire = make_wire(Connection(keep_alive_seconds=keep_alive_seconds))
        try:
            await wire.post(f"{url}/v1/completions", BODY, timeout_seconds=60)
            await asyncio.sleep(pause)
            await wire.post(f"{url}/v1/completions", BODY, timeout_seconds=60)
        finally:
            await wire.close()

    with ScriptedServer() as server:
        asyncio.run(run(server.url, 60.0, 0.0))
        in_time = server.counts.connections
        asyncio.run(run(server.url, 0.1, 0.3))

        assert (in_time, server.counts.connections) == (1, 3)
