"""An object store on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
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
        if versioned:
            client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        yield access, client
    finally:
        client.close()
        server.stop()
