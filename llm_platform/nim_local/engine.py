"""llama.cpp in this process: start it, ask it, stop asking.

One call is one sequence in one slot; calls from several threads are batched together by llama.cpp. The engine's own
HTTP listener is on a Unix socket in a private folder and is used for tokenization only, which has no in-process call.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from llm_platform.errors import EndpointUnavailable, RequestRejected
from llm_platform.nim_local.adapters import ServableAdapter
from llm_platform.nim_local.config import EmbeddedConfig
from llm_platform.nim_local.vocabulary import Vocabulary

# Room above the promised context length: llama.cpp stops one token before a slot is full and rounds slots to 256.
_SPARE_TOKENS = 256
# Tokens of several slots that are computed together; measured, see docs.
_BATCH_TOKENS = 2048
_MICRO_BATCH_TOKENS = 512
_SOCKET_TIMEOUT_SECONDS = 30.0

Chunk = dict[str, Any]


class _SocketConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("engine", timeout=_SOCKET_TIMEOUT_SECONDS)
        self._path = path

    def connect(self) -> None:
        """Open the socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Engine:
    """A loaded model. Every method is safe to call from any thread."""

    def __init__(
        self, config: EmbeddedConfig, vocabulary: Vocabulary, adapters: Sequence[ServableAdapter] = ()
    ) -> None:
        """Load the weights; takes a second, and the memory of the file and of `slots` contexts.

        llama.cpp takes adapters only here: another adapter needs another engine.

        Raises:
            EndpointUnavailable: llama.cpp could not load them.
        """
        # Read when OpenMP is loaded: a thread that waits sleeps instead of spinning. Beside other work on the same
        # processors that is 10 to 30 times faster; a machine of one's own may lose a little by it.
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
        try:
            from xllamacpp import Server
        except ImportError as error:
            raise EndpointUnavailable(
                f"Could not load llama.cpp: {error}. Install the extra `llm-platform[local]`, and the system's "
                "OpenMP library (`apt install libgomp1`) where the message names it."
            ) from error

        self.config = config
        self.vocabulary = vocabulary
        self.adapters = {adapter.name: adapter for adapter in adapters}
        self._places = {adapter.name: place for place, adapter in enumerate(adapters)}
        self._folder = Path(tempfile.mkdtemp(prefix="nim-"))
        self._socket = str(self._folder / "engine.sock")
        self._local = threading.local()
        self._connections: list[_SocketConnection] = []
        try:
            self._server = Server(_parameters(config, self._socket, adapters))
        except RuntimeError as error:
            shutil.rmtree(self._folder, ignore_errors=True)
            beside = f" and {len(adapters)} adapters" if adapters else ""
            raise EndpointUnavailable(
                f"Could not load {str(config.weights)!r}{beside} with {config.slots} slots of "
                f"{config.context_length} tokens: "
                f"{error}. Check that the file is whole and that memory is free."
            ) from error

    def close(self) -> None:
        """Release the model's memory and the socket."""
        self._server = None
        for connection in self._connections:
            connection.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def generate(
        self,
        request: dict[str, Any],
        on_chunk: Callable[[Chunk], bool],
        *,
        adapter: str | None = None,
        stream: bool = True,
    ) -> None:
        """Run one completion in llama.cpp's form, calling `on_chunk` per token; true from it stops the generation.

        Without `stream` it is called once, with the whole answer. Without `adapter` the base model answers.

        Raises:
            RequestRejected: llama.cpp refused the request.
            EndpointUnavailable: llama.cpp failed.
        """
        refusal: list[dict[str, Any]] = []

        def receive(raw: bytes) -> bool:
            chunk = json.loads(raw)
            if "error" in chunk:
                refusal.append(chunk["error"])
                return True
            return on_chunk(chunk)

        body = json.dumps({**request, "stream": stream, "timings_per_token": stream, **self._scales(adapter)})
        self._server.handle_completions(body.encode(), receive)
        if refusal:
            _raise_refusal(refusal[0])

    def _scales(self, adapter: str | None) -> dict[str, Any]:
        """Which adapter is on, said in every request.

        One that does not say gets what the server was started with, and what another adapter left in the slot's cache.
        """
        if not self._places:
            return {}
        wanted = None if adapter is None else self._places[adapter]
        return {"lora": [{"id": place, "scale": float(place == wanted)} for place in self._places.values()]}

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool = True) -> list[int]:
        """Token ids of a text; control tokens written in it are recognized, as vLLM does."""
        body = {"content": text, "add_special": add_special, "parse_special": parse_special}
        return [int(token) for token in self._ask("/tokenize", body)["tokens"]]

    def detokenize(self, tokens: list[int]) -> str:
        """Text of token ids."""
        return str(self._ask("/detokenize", {"tokens": tokens})["content"])

    def _ask(self, path: str, body: dict[str, Any]) -> Any:
        connection: _SocketConnection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = _SocketConnection(self._socket)
            self._connections.append(connection)
        payload = json.dumps(body).encode()
        for attempt in (1, 2):
            try:
                connection.request("POST", path, payload, {"Content-Type": "application/json"})
                response = connection.getresponse()
                answer = json.loads(response.read())
                break
            except (http.client.HTTPException, OSError) as error:
                # The listener closes idle connections; one fresh attempt tells that from a dead engine.
                connection.close()
                if attempt == 2:
                    raise EndpointUnavailable(f"The engine did not answer {path}: {error!r}. Restart it.") from error
        if response.status != 200:
            _raise_refusal(answer["error"])
        return answer


def _raise_refusal(error: dict[str, Any]) -> None:
    message = str(error.get("message", "unknown"))
    if 400 <= int(error.get("code", 500)) < 500:
        raise RequestRejected(message)
    raise EndpointUnavailable(message)


def _parameters(config: EmbeddedConfig, socket_path: str, adapters: Sequence[ServableAdapter]) -> Any:
    """llama.cpp's parameters; what is not set here is its default."""
    from xllamacpp import CommonAdapterLoraInfo, CommonParams

    parameters = CommonParams()
    parameters.model.path = str(config.weights)
    parameters.n_parallel = config.slots
    parameters.n_ctx = config.slots * (config.context_length + _SPARE_TOKENS)
    parameters.n_batch = _BATCH_TOKENS
    parameters.n_ubatch = _MICRO_BATCH_TOKENS
    for threads in (parameters.cpuparams, parameters.cpuparams_batch):
        threads.n_threads = config.thread_count
    # The prefix cache inside the slots stays on; the second one in RAM copies every finished prompt and grows to 8 GB.
    parameters.cache_ram_mib = 0
    # Scale 0: an adapter is on only where a request says so.
    parameters.lora_adapters = [CommonAdapterLoraInfo(str(adapter.file), 0.0) for adapter in adapters]
    parameters.lora_init_without_apply = True
    parameters.hostnames = [socket_path]
    parameters.n_threads_http = 2
    parameters.verbosity = 0
    parameters.ui = False
    return parameters
