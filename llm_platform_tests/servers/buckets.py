"""An object store on this machine."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from llm_platform.warehouse.object_store import S3Access


@contextmanager
def bucket_named(name: str, *, versioned: bool = False) -> Iterator[tuple[S3Access, Any]]:
    """How to reach an empty bucket, and a client for it."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    client = boto3.client(
        "s3",
        endpoint_url=f"http://{host}:{port}",
        region_name="us-east-1",
        aws_access_key_id="key",
        aws_secret_access_key="s3cret",
    )
    access = S3Access("key", "s3cret", region="us-east-1", endpoint=f"{host}:{port}", url_style="path", use_ssl=False)
    try:
        client.create_bucket(Bucket=name)
        _empty(client, name)
        if versioned:
            client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        yield access, client
    finally:
        client.close()
        server.stop()


def _empty(client: Any, bucket: str) -> None:
    """Take out what another test of this process has left: all servers in it share their buckets."""
    for page in client.get_paginator("list_object_versions").paginate(Bucket=bucket):
        for found in (*page.get("Versions", ()), *page.get("DeleteMarkers", ())):
            client.delete_object(Bucket=bucket, Key=found["Key"], VersionId=found["VersionId"])


class Identities(BaseHTTPRequestHandler):
    """What a pod's identity is asked of in a cluster: short-lived keys for whoever has the pod's token."""

    asked = 0

    def do_GET(self) -> None:
        Identities.asked += self.headers["Authorization"] == "pod-token"
        keys = {"AccessKeyId": "pod", "SecretAccessKey": "s3cret", "Token": "t", "Expiration": "2100-01-01T00:00:00Z"}
        body = json.dumps(keys).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing: what is asked is counted."""


@contextmanager
def pod_identity(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[Callable[[], int]]:
    """A pod without keys of its own, in a cloud that gives it some; how often it was asked for them since."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Identities)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"http://127.0.0.1:{server.server_port}/keys")
    monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "pod-token")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(folder / "none"))
    before = Identities.asked
    try:
        yield lambda: Identities.asked - before
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
