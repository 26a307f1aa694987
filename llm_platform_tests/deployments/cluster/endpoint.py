"""The scripted model on an address that pods reach; what it was asked, in a file that is written anew all the time.

python -m llm_platform_tests.deployments.cluster.endpoint HOST PORT FILE LATENCY_SECONDS
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from pathlib import Path

from llm_platform_tests.servers.scripted import ScriptedServer
from llm_platform_tests.team import answer


def main() -> None:
    # As the first process of a container it would not end otherwise.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    host, port, path, latency = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), float(sys.argv[4])

    with ScriptedServer(answer=answer, slots=4, latency_seconds=latency) as model:
        model.version = "0.23.0"

        async def pipe(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                while data := await source.read(65536):
                    sink.write(data)
                    await sink.drain()
            sink.close()

        async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            inner, outer = await asyncio.open_connection("127.0.0.1", model.port)
            await asyncio.gather(pipe(reader, outer), pipe(inner, writer))

        async def serve() -> None:
            await asyncio.start_server(forward, host, port)
            while True:
                aside = path.with_suffix(".new")
                aside.write_text(json.dumps({"asked": model.counts.asked, "answered": model.counts.answered}))
                aside.rename(path)
                await asyncio.sleep(0.2)

        asyncio.run(serve())


if __name__ == "__main__":
    main()
