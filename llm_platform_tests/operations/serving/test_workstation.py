"""A model on this machine's own GPUs: started, found by runs, looked at, and ended, by programs that stand in."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from llm_platform.errors import EndpointMismatch, EndpointUnavailable, PodsFailed, SpecificationError
from llm_platform.models.entries import LockEntry
from llm_platform.models.lock import load_lock
from llm_platform.nim.containers import LocalModel, run_command
from llm_platform.nim.engine_process import free_port
from llm_platform.operations.serving.bringing_up import bring_model_up, take_model_down
from llm_platform.operations.serving.endpoints import base_urls
from llm_platform.operations.serving.model_states import model_states
from llm_platform.operations.serving.workstation import listens, local_folder, read_run
from llm_platform.resources.handed import local_nim, serving_of
from llm_platform.resources.nim import NIMResource
from llm_platform_tests.servers.workstation import ENDED, HANG, install
from llm_platform_tests.team import ENTRY, Team

IMAGE = {"repository": "nvcr.io/nim/meta/llama", "tag": "2.1.5", "digest": f"sha256:{'ab' * 32}"}
KEY = "nvapi-secret-of-tests"


class Workstation(Team):
    """A team at a machine with these programs."""

    def __init__(self, root: Path, *programs: str, **lock: Any) -> None:
        super().__init__(root, "http://127.0.0.1:9", documents=10)
        self.bin = install(root / "engine", *programs)
        self.lock |= lock
        self.write_lock()

    @property
    def entry(self) -> LockEntry:
        return load_lock(self.lock_file)[ENTRY]

    @property
    def commands(self) -> list[list[str]]:
        """What the programs were asked."""
        text = (self.bin.parent / "kept" / "commands").read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]

    @property
    def containers(self) -> list[Path]:
        return [path for path in (self.bin.parent / "kept").iterdir() if path.is_dir()]

    def behave(self, how: str) -> None:
        """What engines do at their start instead of serving."""
        (self.bin.parent / "kept" / "behaviour").write_text(how, encoding="utf-8")

    def up(self, **options: Any) -> str:
        quick = {"report": lambda _: None, "sleep": sleep_briefly, "deadline_minutes": 0.5}
        return bring_model_up(self.entry, serving_of(self.settings), local=True, **{**quick, **options}).endpoint

    def down(self) -> str:
        return take_model_down(self.entry, serving_of(self.settings), report=lambda _: None, local=True)

    def urls(self) -> tuple[str, ...]:
        return base_urls(self.entry, local_nim(self.settings))


def sleep_briefly(_: float) -> None:
    time.sleep(0.02)


@pytest.fixture(params=["docker", "vllm"])
def workstation(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    lock = {"image": IMAGE} if request.param == "docker" else {"dialect": "vllm", "revision": "a1"}
    yield from at_work(Workstation(tmp_path, request.param, **lock), monkeypatch)


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    yield from at_work(Workstation(tmp_path, "docker", image=IMAGE), monkeypatch)


def at_work(workstation: Workstation, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("PATH", f"{workstation.bin}{os.pathsep}/usr/bin:/bin")
    monkeypatch.setenv("NGC_API_KEY", KEY)
    yield workstation
    workstation.down()


def test_a_local_model_is_what_runs_use_until_it_is_down(workstation: Workstation) -> None:
    """Who has a GPU under the desk works on the same graph, with the same pins."""
    up = workstation.up()
    seen = NIMResource.of(workstation.settings, ENTRY).identity()
    states = [one.state for one in model_states([workstation.entry], serving_of(workstation.settings))]
    again = workstation.up()
    down = workstation.down()

    assert workstation.settings.models_lock.is_file()
    assert up == again == seen.base_url
    assert states[0].startswith(f"{up}, ")
    assert down == "stopped"
    assert workstation.urls() == ("http://127.0.0.1:9",)
    assert workstation.down() == "was not running on this machine"


def test_a_model_that_does_not_come_up_names_its_log_and_is_gone(workstation: Workstation) -> None:
    """Only the engine's log says why, and it may hold prompts: it stays a file, after the container is gone as well."""
    workstation.behave("CUDA out of memory")

    with pytest.raises(PodsFailed, match=r"(?s)does not come up.*It was ended\..*log.*engine\.log") as caught:
        workstation.up()
    log = local_folder(workstation.settings.state, ENTRY) / "engine.log"

    assert not workstation.containers
    assert read_run(workstation.settings.state, ENTRY) is None
    assert workstation.urls() == ("http://127.0.0.1:9",)
    assert "CUDA out of memory" in log.read_text(encoding="utf-8")
    assert log.stat().st_mode & 0o077 == 0
    assert "CUDA" not in str(caught.value)


def test_one_that_is_another_model_is_ended(workstation: Workstation) -> None:
    """An endpoint that generates may be the wrong one."""
    workstation.lock["context_length"] = 9999
    workstation.write_lock()

    with pytest.raises(EndpointMismatch, match="context length is 4096, locked 9999"):
        workstation.up()

    assert read_run(workstation.settings.state, ENTRY) is None
    assert not workstation.containers


def test_an_interrupted_up_leaves_nothing(workstation: Workstation) -> None:
    """Ctrl-C while forty gigabytes load."""

    workstation.behave(HANG)

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        workstation.up(sleep=interrupt)

    assert not workstation.containers
    assert workstation.down() == "was not running on this machine"


def test_an_engine_ends_kindly_where_its_starter_ignores_signals(workstation: Workstation) -> None:
    """What a process ignores, its children do: a run under `nohup`, or in a container's first process."""
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        workstation.up()
        workstation.down()
    finally:
        signal.signal(signal.SIGTERM, before)

    assert (workstation.bin.parent / "kept" / ENDED).is_file()


def test_a_port_that_was_found_is_kept_for_the_program_that_is_told_of_it() -> None:
    """Loading takes minutes, and whoever asks the kernel for any port meanwhile might be given this one."""
    port = free_port()

    with socket.socket() as somebody, pytest.raises(OSError, match="in use"):
        somebody.bind(("127.0.0.1", port))
    with socket.create_server(("127.0.0.1", port)) as engine:
        assert engine.getsockname()[1] == port


def test_one_that_has_died_is_told_from_one_that_was_never_there(workstation: Workstation) -> None:
    """Runs must not quietly go to other endpoints than those that were asked for."""
    workstation.up()
    kill(workstation)

    with pytest.raises(EndpointUnavailable, match=r"was started on this machine and does not answer.*nim up scripted"):
        workstation.urls()
    states = [one.state for one in model_states([workstation.entry], serving_of(workstation.settings))]
    workstation.up()

    assert states[0].endswith("was started and has ended")
    assert workstation.urls()


def kill(workstation: Workstation) -> None:
    """End the engine behind the platform's back."""
    run = read_run(workstation.settings.state, ENTRY)
    assert run is not None
    pid = run.handle
    if run.kind == "container":
        pid = (workstation.bin.parent / "kept" / run.handle / "process").read_text(encoding="utf-8").split()[0]
    os.kill(int(pid), 9)
    for _ in range(200):
        if not listens(run.base_url):
            return
        sleep_briefly(0)


def test_another_pin_than_the_one_that_runs_is_refused(docker: Workstation) -> None:
    """A container's digest cannot be asked for over HTTP; what was started is written down."""
    docker.up()
    docker.lock["image"] = {**IMAGE, "digest": f"sha256:{'cd' * 32}"}
    docker.write_lock()

    with pytest.raises(EndpointMismatch, match=r"sha256:abab.*lock file pins .*sha256:cdcd"):
        docker.urls()
    with pytest.raises(EndpointMismatch, match="nim down scripted --local"):
        docker.up()

    assert len(docker.containers) == 1


def test_a_key_is_passed_on_and_on_no_command_line(docker: Workstation) -> None:
    """Every user of a machine sees the arguments of every process."""
    docker.up()

    assert docker.containers[0].joinpath("keys").read_text(encoding="utf-8") == KEY
    assert KEY not in json.dumps(docker.commands)
    command = next(one for one in docker.commands if one[1] == "run")
    assert command[-1] == f"{IMAGE['repository']}@{IMAGE['digest']}"
    assert "127.0.0.1::8000" in command


def test_a_container_that_nobody_wrote_down_is_found_again(docker: Workstation) -> None:
    """Killed between the start of a container and its note: it would hold the GPU for ever."""
    docker.up()
    (local_folder(docker.settings.state, ENTRY) / "run.json").unlink()

    docker.up()

    assert len(docker.containers) == 1


def test_an_image_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The registry's own words, not ours."""
    image = {**IMAGE, "repository": "nvcr.io/nim/missing"}
    for workstation in at_work(Workstation(tmp_path, "docker", image=image), monkeypatch):
        with pytest.raises(PodsFailed, match=r"docker pull failed with exit status 1: .*nim/missing.*not found"):
            workstation.up()


@pytest.mark.parametrize(
    ("lock", "said"),
    [
        pytest.param({"image": IMAGE}, "neither `docker` nor `podman`", id="no-engine"),
        pytest.param({"dialect": "vllm"}, "no program `vllm`", id="no-vllm"),
        pytest.param({}, "pins no image, and is no bare vLLM", id="nothing-to-run"),
    ],
)
def test_a_machine_that_cannot_run_it_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lock: dict[str, Any], said: str
) -> None:
    """What to install is a better answer than `No such file or directory`."""
    workstation = Workstation(tmp_path, **lock)
    monkeypatch.setenv("PATH", "/nowhere")

    with pytest.raises(SpecificationError, match=said):
        workstation.up()


def test_podman_is_told_of_gpus_in_its_own_way(tmp_path: Path) -> None:
    """It has no `--gpus`; devices are named by the container device interface."""
    model = LocalModel("a", "nim-2.x", "llama", "meta/llama", 4096, tmp_path, image="x@sha256:1", profile="f" * 64)

    command = run_command("/usr/bin/podman", model, cid_file=tmp_path / "id", labels={}, user=1000)

    assert "nvidia.com/gpu=all" in command
    assert "--gpus" not in command
    assert f"NIM_MODEL_PROFILE={'f' * 64}" in command
