"""The process that reads files of others: no secrets in its environment, little memory, little time, no file to write.

It is asked on its standard input and answers on its standard output: a length of eight bytes, then JSON, and after a
question the bytes of the file.
"""

from __future__ import annotations

import json
import resource
import sys
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import IO

from llm_platform.extraction.readers import RefusedError, read

LENGTH = 8
OPEN_FILES = 32


def send(to: IO[bytes], said: dict[str, object], data: bytes = b"") -> None:
    """One message."""
    head = json.dumps({**said, "bytes": len(data)}).encode()
    to.write(len(head).to_bytes(LENGTH) + head + data)
    to.flush()


def main() -> None:
    """Answer until nobody asks any more. Arguments: bytes of memory, seconds of CPU for a file."""
    memory, seconds = int(sys.argv[1]), int(sys.argv[2])
    asked, answer = sys.stdin.buffer, sys.stdout.buffer
    try:
        pdf = version("pypdfium2")
        import pypdfium2  # noqa: F401
    except (ImportError, PackageNotFoundError):
        pdf = ""
    for limit, most in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
    ):
        resource.setrlimit(limit, (most, most))
    send(answer, {"pdf": pdf})
    while length := asked.read(LENGTH):
        question = json.loads(asked.read(int.from_bytes(length)))
        data = asked.read(question["bytes"])
        used = resource.getrusage(resource.RUSAGE_SELF)
        hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
        # Killed by the kernel: also where nobody is there any more to do it.
        resource.setrlimit(resource.RLIMIT_CPU, (round(used.ru_utime + used.ru_stime) + seconds, hard))
        try:
            found = asdict(read(data, question["kind"]))
        except RefusedError as error:
            found = {"refused": str(error)}
        except (MemoryError, RecursionError):
            found = {"refused": f"reading it takes more than {memory // 1_000_000} MB of memory"}
        text = found.pop("text", None)
        send(answer, {**found, "has_text": text is not None}, text or b"")


if __name__ == "__main__":
    main()
