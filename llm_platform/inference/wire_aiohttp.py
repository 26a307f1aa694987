"""The fallback wire, on aiohttp: twice the CPU of the default, and pure Python where that is what a network needs.

aiohttp is not a dependency of the platform; it usually comes along with the Kubernetes client.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from llm_platform.errors import SpecificationError
from llm_platform.inference.policy import Connection
from llm_platform.inference.wire import NO_HEADERS, Reply, read_ca, request_headers

if TYPE_CHECKING:
    import aiohttp


class AiohttpWire:
    """`aiohttp` behind the same interface. Make it inside a running event loop."""

    def __init__(self, connection: Connection) -> None:
        try:
            import aiohttp
        except ImportError as error:
            raise SpecificationError("The aiohttp wire needs aiohttp: pip install aiohttp.") from error
        tls = ssl.create_default_context()
        if connection.ca_file is not None:
            tls.load_verify_locations(cadata=read_ca(connection).decode())
        self._errors = (aiohttp.ClientError, OSError)
        self._connect_errors = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
        self._timeout = aiohttp.ClientTimeout
        self._connect_seconds = connection.connect_timeout_seconds
        self._session: aiohttp.ClientSession = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0, ssl=tls, keepalive_timeout=connection.keep_alive_seconds, ttl_dns_cache=10
            ),
            headers=request_headers(connection),
            auto_decompress=True,
            trust_env=connection.trust_environment_proxies,
        )

    async def post(self, url: str, body: bytes, *, timeout_seconds: float) -> Reply:
        """Send a JSON body."""
        return await self._request("POST", url, body, timeout_seconds)

    async def get(self, url: str, *, timeout_seconds: float) -> Reply:
        """Read a document."""
        return await self._request("GET", url, None, timeout_seconds)

    async def close(self) -> None:
        """Drop all connections."""
        await self._session.close()

    async def _request(self, method: str, url: str, body: bytes | None, timeout_seconds: float) -> Reply:
        timeout = self._timeout(total=timeout_seconds, sock_connect=self._connect_seconds)
        try:
            async with self._session.request(
                method, url, data=body, timeout=timeout, allow_redirects=False
            ) as response:
                content = await response.read()
                if response.status == 200:
                    return Reply(200, NO_HEADERS, content)
                headers = {name: response.headers.get(name, "") for name in ("retry-after", "location")}
                return Reply(response.status, headers, content)
        except self._connect_errors as error:
            return Reply(0, NO_HEADERS, failure="connect", detail=str(error))
        except TimeoutError:
            return Reply(0, NO_HEADERS, failure="timeout", detail=f"no whole reply within {timeout_seconds:g} s")
        except self._errors as error:
            return Reply(0, NO_HEADERS, failure="reset", detail=str(error) or type(error).__name__)
