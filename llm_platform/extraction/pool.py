"""Processes that read files, their limits, and what becomes of a file that breaks one."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

from llm_platform.errors import PermanentError, SpecificationError
from llm_platform.extraction.kinds import PDF, FileText
from llm_platform.extraction.worker import LENGTH

PROCESSES = 2
AHEAD = 8
"""Files whose bytes are held at once."""
START_SECONDS = 60.0
ENTRY = "from llm_platform.extraction.worker import main; main()"
PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TZ")
"""Of the environment; there are keys and passwords in the rest."""
Item = TypeVar("Item")
Made = TypeVar("Made")


@dataclass(frozen=True)
class ReadingLimits:
    """What reading one file may take.

    Attributes:
        seconds: Of CPU.
        waiting_seconds: Of time, however busy the machine is.
        memory_bytes: Of a process, Python and all libraries included.
        file_bytes: How large a file may be.
    """

    seconds: int = 60
    waiting_seconds: float = 600.0
    memory_bytes: int = 1_500_000_000
    file_bytes: int = 200_000_000


class FileReaders:
    """Reads files in processes of their own; use it as a context manager."""

    def __init__(self, limits: ReadingLimits | None = None, *, processes: int = PROCESSES) -> None:
        self.limits = limits or ReadingLimits()
        self._processes = processes
        self._free: list[_Process] = []
        self._all: list[_Process] = []
        self._lock = threading.Lock()

    def __enter__(self) -> FileReaders:
        return self

    def __exit__(self, *exc_info: object) -> None:
        for process in self._all:
            process.end()

    def read(self, data: bytes, kind: str) -> FileText:
        """What one file says, or why it says nothing.

        Raises:
            SpecificationError: what reads files of this kind is not installed.
            PermanentError: no process that reads files can be started.
        """
        if len(data) > self.limits.file_bytes:
            return FileText(refused=f"it is larger than {self.limits.file_bytes // 1_000_000} MB")
        try:
            return self._read(data, kind)
        except _EndedError:
            # Perhaps by the kernel, which looks for memory elsewhere: a file has a second try, in a fresh process.
            with self._lock:
                self._free, ended = [], self._free
                self._all = [process for process in self._all if process not in ended]
            for process in ended:
                process.end()
        try:
            return self._read(data, kind)
        except _EndedError:
            most = self.limits.memory_bytes // 1_000_000
            return FileText(
                refused=f"reading it ends its process: it is broken, or takes more than {most} MB of memory"
            )

    def _read(self, data: bytes, kind: str) -> FileText:
        with self._lock:
            process = self._free.pop() if self._free else None
        if process is None:
            process = _Process(self.limits)
            with self._lock:
                self._all.append(process)
        if kind == PDF and not process.reads_pdf:
            raise SpecificationError(
                "Cannot read PDF files: the package that reads them is not installed. Install llm-platform[files]."
            )
        try:
            return process.read(data, kind)
        finally:
            with self._lock:
                if process.is_alive:
                    self._free.append(process)
                else:
                    self._all.remove(process)

    def each(self, items: Iterable[Item], work: Callable[[Item], Made]) -> Iterator[Made]:
        """What `work` makes of each item, some at once, in their order."""
        todo = iter(items)
        with ThreadPoolExecutor(self._processes) as threads:
            waiting: list[Future[Made]] = []
            try:
                while True:
                    fresh = islice(todo, AHEAD - len(waiting))
                    waiting += [threads.submit(work, item) for item in fresh]
                    if not waiting:
                        return
                    yield waiting.pop(0).result()
            finally:
                for future in waiting:
                    future.cancel()


class _EndedError(Exception):
    """A process that reads files has ended."""


class _Process:
    """One process that reads files."""

    def __init__(self, limits: ReadingLimits) -> None:
        self._limits = limits
        environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", ENTRY, str(limits.memory_bytes), str(limits.seconds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
        )
        started = self._message(START_SECONDS)
        if started is None:
            self.end()
            raise PermanentError(
                f"Cannot start a process that reads files (it ended with {self._process.returncode}). Check that "
                "this Python can be run by this user, and that there is memory left."
            )
        self.reads_pdf = bool(started[0]["pdf"])

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def read(self, data: bytes, kind: str) -> FileText:
        head = json.dumps({"kind": kind, "bytes": len(data)}).encode()
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(len(head).to_bytes(LENGTH) + head + data)
            self._process.stdin.flush()
        except BrokenPipeError:
            return FileText(refused=self._why_it_ended())
        answer = self._message(self._limits.waiting_seconds)
        if answer is None:
            return FileText(refused=self._why_it_ended())
        said, text = answer
        return FileText(
            text=text if said["has_text"] else None,
            title=said.get("title"),
            pages=said.get("pages"),
            refused=said.get("refused"),
            page_starts=None if said.get("page_starts") is None else tuple(said["page_starts"]),
        )

    def end(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    continue

    def _message(self, seconds: float) -> tuple[dict[str, Any], bytes] | None:
        """What the process says next; None where it ends, or says nothing for so long."""
        deadline = time.monotonic() + seconds
        length = self._bytes(LENGTH, deadline)
        head = self._bytes(int.from_bytes(length), deadline) if length is not None else None
        if head is None:
            return None
        said = json.loads(head)
        data = self._bytes(said["bytes"], deadline)
        return None if data is None else (said, data)

    def _bytes(self, count: int, deadline: float) -> bytes | None:
        assert self._process.stdout is not None
        pipe = self._process.stdout.fileno()
        found = bytearray()
        # Not select.select, which knows no file descriptor above 1023.
        waiting = select.poll()
        waiting.register(pipe, select.POLLIN)
        while len(found) < count:
            ready = waiting.poll(1000.0 * max(deadline - time.monotonic(), 0.0))
            chunk = os.read(pipe, min(count - len(found), 1 << 20)) if ready else b""
            if not chunk:
                return None
            found += chunk
        return bytes(found)

    def _why_it_ended(self) -> str:
        silent = False
        try:
            self._process.wait(timeout=5.0)
        except subprocess.TimeoutExpired:
            silent = True
        self.end()
        if silent:
            return f"reading it takes longer than {self._limits.waiting_seconds:.0f} s"
        if self._process.returncode == -signal.SIGXCPU:
            return f"reading it takes more than {self._limits.seconds} s of CPU"
        raise _EndedError
