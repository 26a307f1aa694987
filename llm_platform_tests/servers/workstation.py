"""Programs that stand in for docker, podman and vLLM on a machine that has none of them, and no GPU.

    python -m llm_platform_tests.servers.workstation docker run …
    python -m llm_platform_tests.servers.workstation vllm serve …

They do for real what is asked of them: a process serves the scripted model, is looked at, and is ended. The folder in
`STAND_IN_FOLDER` is what an engine keeps; a file `behaviour` in it makes engines hang or crash at their start.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import TextIO

from llm_platform.nim.engine_process import free_port

HANG = "hang"
ENDED = "ended"
"""The file in which an engine notes that it was asked to end, and did."""
_ENDING = (signal.SIGTERM, signal.SIGINT)
_ENDS = {number for number in _ENDING if signal.getsignal(number) is not signal.SIG_IGN}
"""What ends an engine; what its starter ignored, it ignores."""


def install(folder: Path, *programs: str) -> Path:
    """Write the programs into a folder of their own; that folder, for the path."""
    bin_folder = folder / "bin"
    bin_folder.mkdir(parents=True)
    (folder / "kept").mkdir()
    root = Path(__file__).parents[2]
    for program in programs:
        path = bin_folder / program
        path.write_text(
            f"#!/bin/sh\nexport PYTHONPATH={root} STAND_IN_FOLDER={folder / 'kept'}\n"
            f'exec {sys.executable} -S -m {__name__} {program} "$@"\n',
            encoding="utf-8",
        )
        path.chmod(0o755)
    return bin_folder


def main(program: str, arguments: list[str]) -> int:
    folder = Path(os.environ["STAND_IN_FOLDER"])
    with (folder / "commands").open("a", encoding="utf-8") as commands:
        commands.write(json.dumps([program, *arguments]) + "\n")
    if program == "vllm":
        return serve(folder, int(arguments[arguments.index("--port") + 1]))
    command, *rest = arguments
    return {"pull": pull, "run": run, "port": port, "inspect": inspect, "logs": logs, "stop": stop, "rm": rm}[command](
        folder, rest
    )


def serve(folder: Path, number: int) -> int:
    behaviour = folder / "behaviour"
    say("loading the model")
    if behaviour.is_file():
        said = behaviour.read_text(encoding="utf-8")
        say(said)
        return signal.sigwait(_ENDS) if said == HANG else 1
    from llm_platform_tests.servers.scripted import ScriptedServer

    server = ScriptedServer()
    server.port = number
    with server:
        signal.sigwait(_ENDS)
    (folder / ENDED).touch()
    return 0


def pull(folder: Path, arguments: list[str]) -> int:
    if "missing" in arguments[0]:
        say(f"Error response from daemon: manifest for {arguments[0]} not found", stream=sys.stderr)
        return 1
    return 0


def run(folder: Path, arguments: list[str]) -> int:
    cid_file = Path(arguments[arguments.index("--cidfile") + 1])
    if cid_file.exists():
        say("container ID file found, make sure the other container isn't running", stream=sys.stderr)
        return 125
    container = uuid.uuid4().hex
    cid_file.write_text(container, encoding="utf-8")
    kept = folder / container
    kept.mkdir()
    number = free_port()
    kept.joinpath("keys").write_text(str(os.environ.get("NGC_API_KEY")), encoding="utf-8")
    for ending in _ENDING:  # a container's starter is the daemon, which ignores nothing
        signal.signal(ending, signal.SIG_DFL)
    with (kept / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-S", "-m", __spec__.name, "vllm", "serve", "--port", str(number)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    kept.joinpath("process").write_text(f"{process.pid} {number}", encoding="utf-8")
    say(container)
    process.returncode = 0  # it outlives this program
    return 0


def port(folder: Path, arguments: list[str]) -> int:
    say(f"127.0.0.1:{_process(folder, arguments[0])[1]}")
    return 0


def inspect(folder: Path, arguments: list[str]) -> int:
    container = arguments[-1]
    if not (folder / container).is_dir():
        say(f"Error: No such object: {container}", stream=sys.stderr)
        return 1
    lives = _lives(_process(folder, container)[0])
    say(json.dumps({"Status": "running" if lives else "exited", "ExitCode": 0 if lives else 1, "OOMKilled": False}))
    return 0


def logs(folder: Path, arguments: list[str]) -> int:
    say((folder / arguments[-1] / "log").read_text(encoding="utf-8").rstrip())
    return 0


def stop(folder: Path, arguments: list[str]) -> int:
    pid = _process(folder, arguments[-1])[0]
    if _lives(pid):
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 60
    while _lives(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return 0


def rm(folder: Path, arguments: list[str]) -> int:
    kept = folder / arguments[-1]
    for path in kept.iterdir():
        path.unlink()
    kept.rmdir()
    return 0


def say(text: str, *, stream: TextIO = sys.stdout) -> None:
    stream.write(text + "\n")
    stream.flush()


def _process(folder: Path, container: str) -> tuple[int, int]:
    pid, number = (folder / container / "process").read_text(encoding="utf-8").split()
    return int(pid), int(number)


def _lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDS)
    sys.exit(main(sys.argv[1], sys.argv[2:]))
