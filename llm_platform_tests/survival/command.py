"""The `llm-platform` command in processes of their own, so that a kill is a real kill.

Most are forked from a server that has imported the platform once (`preloaded`): Dagster and pandas take two seconds to
import. What runs in the fork is what the installed script runs. `script` is that script itself.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from llm_platform.cli.main import main
from llm_platform_tests.servers.scripted import Counts, ScriptedServer, Seen
from llm_platform_tests.team import Team

PATIENCE_SECONDS = 90.0
SCRIPT = str(Path(sys.executable).with_name("llm-platform"))
_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(["llm_platform_tests.survival.preloaded"])


@dataclass(frozen=True)
class Finished:
    """A command that has ended."""

    status: int | None
    out: str
    err: str

    @property
    def said(self) -> str:
        """Everything that it printed."""
        return self.out + self.err

    @property
    def failed_plainly(self) -> bool:
        """Whether it ended as an error raised on purpose ends: its message, status 1, no traceback."""
        return self.status == 1 and self.err.startswith("error:") and "Traceback" not in self.said


class Running:
    """A command at work."""

    def __init__(self, process: ForkServerProcess, said: Path) -> None:
        self._process, self._said = process, said

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process.is_alive()

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    @property
    def said(self) -> str:
        """What it has printed until now."""
        return "".join(path.read_text(encoding="utf-8") for path in self._said.iterdir())

    def finished(self) -> Finished:
        """Wait for its end."""
        self._process.join(PATIENCE_SECONDS)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        return _finished(self._process.exitcode, self._said)


class Terminal:
    """Runs commands on the files and the state of one team."""

    def __init__(self, team: Team, **variables: str) -> None:
        self.team = team
        self.variables = {
            "LLM_PLATFORM_STATE": str(team.root / "state"),
            "LLM_PLATFORM_APPLICATIONS": str(team.root / "applications"),
            "LLM_PLATFORM_MODELS_LOCK": str(team.lock_file),
            "LLM_PLATFORM_NAMESPACE": "test",
            **variables,
        }

    def start(self, *arguments: str) -> Running:
        """Begin a command."""
        said = self._folder()
        process = _forks.Process(target=_command, args=(arguments, self.variables, str(said)))
        process.start()
        return Running(process, said)

    def run(self, *arguments: str) -> Finished:
        """Run a command to its end."""
        return self.start(*arguments).finished()

    def script(self, *arguments: str, before: Sequence[str] = ()) -> Finished:
        """Run the installed script to its end, behind the program and arguments `before` if given."""
        said = self._folder()
        with (said / "out").open("wb") as out, (said / "err").open("wb") as err:
            done = subprocess.run(
                [*before, SCRIPT, *arguments],
                env={**os.environ, **self.variables},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                timeout=PATIENCE_SECONDS,
                check=False,
            )
        return _finished(done.returncode, said)

    def _folder(self) -> Path:
        folder = Path(tempfile.mkdtemp(prefix="said-", dir=self.team.root))
        # Here and not by the command alone: a kill may come before its first line.
        for name in ("out", "err"):
            (folder / name).touch()
        return folder


def _command(arguments: Sequence[str], variables: Mapping[str, str], said: str) -> None:
    for descriptor, name in ((1, "out"), (2, "err")):
        target = os.open(Path(said) / name, os.O_CREAT | os.O_WRONLY)
        os.dup2(target, descriptor)
    os.environ.update(variables)
    sys.argv = ["llm-platform", *arguments]
    main()


def _finished(status: int | None, said: Path) -> Finished:
    return Finished(status, *((said / name).read_text(encoding="utf-8") for name in ("out", "err")))


class Moment:
    """The moment at which the endpoint is asked for the n-th time; what is to happen then may be given."""

    def __init__(self, server: ScriptedServer, requests: int, then: Callable[[], None] | None = None) -> None:
        self._reached = threading.Event()
        script = server.script

        def watching(seen: Seen) -> object:
            if server.counts.requests >= requests and not self._reached.is_set():
                self._reached.set()
                if then is not None:
                    then()
            return script(seen)

        server.script = watching  # type: ignore[assignment]

    @property
    def is_reached(self) -> bool:
        return self._reached.is_set()

    def wait(self, run: Running) -> None:
        """Wait for it, for as long as `run` is at work."""
        while not self._reached.wait(0.1):
            assert run.is_alive, f"the endpoint was not asked that often: {run.finished().said}"


def asked_more_than(counts: Counts, times: int) -> set[str]:
    """Documents that the endpoint was asked for more often than that."""
    return {document for document, asked in counts.asked.items() if asked > times}
