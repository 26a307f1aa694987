"""The API's side of a port that is forwarded: frames of a websocket to and from a connection on this machine.

Source: Kubernetes, `v4.channel.k8s.io`: channel 0 is data, 1 is errors; each begins with the number of the port.
"""

from __future__ import annotations

import base64
import hashlib
import select
import socket
import struct
from urllib.parse import parse_qs, urlsplit

from llm_platform_tests.servers.local import QuietHandler

_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_CLOSE = 8


def forward(handler: QuietHandler, port: int | None) -> None:
    """Speak the websocket until either side closes; without a port the pod refuses connections."""
    key = hashlib.sha1(f"{handler.headers['Sec-WebSocket-Key']}{_GUID}".encode()).digest()
    handler.protocol_version = "HTTP/1.1"
    handler.send_response(101)
    handler.send_header("Upgrade", "websocket")
    handler.send_header("Connection", "Upgrade")
    handler.send_header("Sec-WebSocket-Accept", base64.b64encode(key).decode())
    handler.send_header("Sec-WebSocket-Protocol", "v4.channel.k8s.io")
    handler.end_headers()
    asked = int(parse_qs(urlsplit(handler.path).query)["ports"][0])
    for channel in (0, 1):
        handler.wfile.write(_frame(channel, struct.pack("<H", asked)))
    handler.close_connection = True
    if port is None:
        handler.wfile.write(_frame(1, b"connection refused"))
        handler.wfile.flush()
        handler.connection.recv(1)  # until the other side has gone
        return
    with socket.create_connection(("127.0.0.1", port)) as pod:
        _bridge(handler, pod)


def _bridge(handler: QuietHandler, pod: socket.socket) -> None:
    while True:
        readable, _, _ = select.select([handler.connection, pod], [], [], 10)
        if not readable:
            return
        if handler.connection in readable:
            frame = _read(handler.connection)
            if frame is None:
                return
            pod.sendall(frame[1:])
        if pod in readable:
            data = pod.recv(65536)
            if not data:
                return
            handler.wfile.write(_frame(0, data))


def _frame(channel: int, data: bytes) -> bytes:
    content = bytes([channel]) + data
    if len(content) < 126:
        return bytes([0x82, len(content)]) + content
    if len(content) < 1 << 16:
        return bytes([0x82, 126]) + struct.pack(">H", len(content)) + content
    return bytes([0x82, 127]) + struct.pack(">Q", len(content)) + content


def _read(connection: socket.socket) -> bytes | None:
    """The content of the next frame; None at the end. Without a buffer: what is left in one, `select` cannot see."""
    head = connection.recv(2, socket.MSG_WAITALL)
    if len(head) < 2 or head[0] & 0x0F == _CLOSE:
        return None
    length = head[1] & 0x7F
    if length >= 126:
        size, kind = (2, ">H") if length == 126 else (8, ">Q")
        length = struct.unpack(kind, connection.recv(size, socket.MSG_WAITALL))[0]
    mask = connection.recv(4, socket.MSG_WAITALL)
    content = connection.recv(length, socket.MSG_WAITALL)
    return bytes(byte ^ mask[index % 4] for index, byte in enumerate(content))
