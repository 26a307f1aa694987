"""One server per state folder: started once, joined by everyone, left alone by those who die."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path

import pytest

from llm_platform.errors import EndpointUnavailable, LeaseHeld, StorageError
from llm_platform.files import file_sha256
from llm_platform.nim_local.config import EmbeddedConfig
from llm_platform.nim_local.locking import exclusive
from llm_platform.nim_local.process import RunningNim, connect, status, stop
from llm_platform.nim_local.registration import is_served, read_announcement, server_folder

from .conftest import MODEL_ID
from .http_calls import call, eventually, get, metric

# A run that finds or starts the server, says which, and waits to be killed.
CLIENT = """
import sys
from pathlib import Path
from llm_platform.nim_local.config import EmbeddedConfig
from llm_platform.nim_local.process import connect
found = connect(EmbeddedConfig.model_validate_json(sys.argv[1]), state=Path(sys.argv[2]))
print(found.pid, found.started, found.base_url, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def state(tmp_path: Path, config: EmbeddedConfig) -> Iterator[Path]:
    """A state folder whose server is ended with the test."""
    yield tmp_path
    stop(config, state=tmp_path)


def run_client(config: EmbeddedConfig, state: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CLIENT, config.model_dump_json(), str(state)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def first_line(process: subprocess.Popen[str]) -> list[str]:
    assert process.stdout is not None
    return process.stdout.readline().split()


def finish(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def run_server(config: EmbeddedConfig, *options: str) -> subprocess.Popen[str]:
    """A server as a child of this process, whose end can be waited for."""
    readable, writable = os.pipe()
    command = [sys.executable, "-m", "llm_platform.nim_local", "--config", config.model_dump_json(), "--port", "0"]
    process = subprocess.Popen(
        [*command, "--ready-fd", str(writable), *options], pass_fds=(writable,), stderr=subprocess.PIPE, text=True
    )
    os.close(writable)
    process.args = os.read(readable, 200).decode().strip()
    os.close(readable)
    return process


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has used: on a busy machine, too, and on one that stands still."""
    user, system = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def test_a_server_is_ready_within_five_seconds_and_is_what_was_asked_for(config: EmbeddedConfig, state: Path) -> None:
    """A demo may not hang at its first step; who joins must get the pinned weights."""
    started = connect(config, state=state)

    assert cpu_seconds(started.pid) < 5
    assert started.started
    assert (started.model_id, started.weights_sha256, started.profile_id) == (
        MODEL_ID,
        config.weights_sha256,
        config.profile,
    )
    assert get(started.base_url, "/v1/health/ready")["status"] == "ready"
    joined = connect(config, state=state)
    assert (joined.pid, joined.started) == (started.pid, False)
    assert status(config, state=state) == joined


def test_two_processes_that_start_at_once_get_one_server(config: EmbeddedConfig, state: Path) -> None:
    """Concurrent runs share the memory and the slots of one engine."""
    clients = [run_client(config, state) for _ in range(2)]
    found = [first_line(client) for client in clients]
    for client in clients:
        finish(client)

    assert found[0][0] == found[1][0]
    assert sorted(line[1] for line in found) == ["False", "True"]


def test_a_killed_client_leaves_its_server_to_others(config: EmbeddedConfig, state: Path) -> None:
    """`kill -9` of a run must cost other runs nothing, and its counters live on."""
    client = run_client(config, state)
    pid, _, base_url = first_line(client)
    call(base_url, "POST", "/v1/completions", {"prompt": "a", "max_tokens": 1})

    os.killpg(os.getpgid(client.pid), 0)
    finish(client)

    joined = connect(config, state=state, start=False)
    assert joined.pid == int(pid)
    assert os.getsid(joined.pid) != os.getsid(0)
    assert metric(base_url, "vllm:generation_tokens_total") == 1


def test_a_server_that_was_killed_is_replaced(config: EmbeddedConfig, state: Path) -> None:
    """Its address and pid are still written down; both may belong to something else by now."""
    first = connect(config, state=state)
    os.kill(first.pid, signal.SIGKILL)
    assert eventually(lambda: not is_served(server_folder(state, MODEL_ID)))

    assert status(config, state=state) is None
    second = connect(config, state=state)

    assert second.started
    assert second.pid != first.pid


def test_a_foreign_server_at_the_written_address_is_not_taken(
    config: EmbeddedConfig, state: Path, nim: RunningNim
) -> None:
    """A free port is given to the next who asks; and the living must not be ended for a dead one's file."""
    folder = server_folder(state, MODEL_ID)
    folder.mkdir(parents=True)
    lie = {**read_json(config, nim), "pid": os.getpid()}
    (folder / "endpoint.json").write_text(json.dumps(lie))

    found = connect(config, state=state)

    assert found.started
    assert found.base_url != nim.base_url
    assert get(nim.base_url, "/v1/health/live")["status"] == "live"


def read_json(config: EmbeddedConfig, nim: RunningNim) -> dict[str, object]:
    return {
        "base_url": nim.base_url,
        "pid": nim.pid,
        "model_id": MODEL_ID,
        "weights_sha256": config.weights_sha256,
        "profile_id": config.profile,
        "started_at": 0.0,
    }


def test_another_configuration_replaces_the_server(config: EmbeddedConfig, state: Path) -> None:
    """A changed lock entry must not be answered by the old one."""
    first = connect(config, state=state)
    changed = config.model_copy(update={"profile_id": "f" * 64})
    changed = EmbeddedConfig.model_validate(changed.model_dump())

    second = connect(changed, state=state)

    assert second.started
    assert get(second.base_url, "/v1/metadata")["selectedModelProfileId"] == "f" * 64
    assert second.pid != first.pid


def test_connect_can_refuse_to_start(config: EmbeddedConfig, state: Path) -> None:
    """A status command must not bring up what it asks about."""
    with pytest.raises(EndpointUnavailable, match="nim up"):
        connect(config, state=state, start=False)


def test_a_server_that_dies_at_its_start_names_its_log(state: Path, tmp_path: Path) -> None:
    """The reason stands in a file that nobody knows of; what else stands there is for nobody's error."""
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + b"\0" * 200)
    config = EmbeddedConfig(model_id="broken", weights=broken, weights_sha256=file_sha256(broken))

    with pytest.raises(EndpointUnavailable, match=r"ended while it started\. Its log, .*server\.log., says why"):
        connect(config, state=state)


def test_changed_weights_are_not_served(config: EmbeddedConfig, state: Path, tmp_path: Path) -> None:
    """The hash is the pin; a file that was exchanged is another model."""
    other = tmp_path / "other.gguf"
    other.write_bytes(b"GGUF")

    with pytest.raises(StorageError, match="expected"):
        connect(config.model_copy(update={"weights": other}), state=state)


def test_missing_weights_name_the_command(config: EmbeddedConfig, state: Path, tmp_path: Path) -> None:
    """The first thing a new machine lacks."""
    with pytest.raises(StorageError, match="model fetch"):
        connect(config.model_copy(update={"weights": tmp_path / "none.gguf"}), state=state)


def test_a_stuck_start_of_another_ends_in_an_error(config: EmbeddedConfig, state: Path) -> None:
    """Waiting has a deadline, and its error names the lock."""
    folder = server_folder(state, MODEL_ID)
    folder.mkdir(parents=True)

    with exclusive(folder / "connect.lock", timeout_seconds=0), pytest.raises(LeaseHeld, match=r"connect\.lock"):
        connect(config, state=state, timeout_seconds=0.1)


def test_stop_ends_the_server_once(config: EmbeddedConfig, state: Path) -> None:
    """`state reset` may not leave a process behind."""
    started = connect(config, state=state)

    assert stop(config, state=state)
    assert not stop(config, state=state)
    assert read_announcement(server_folder(state, MODEL_ID)) is None
    with pytest.raises(OSError, match="refused"):
        call(started.base_url, "GET", "/v1/health/live")


def test_an_idle_server_ends_by_itself(config: EmbeddedConfig, state: Path) -> None:
    """A forgotten server keeps half a gigabyte; probes and scrapes do not count as use."""
    process = run_server(config.model_copy(update={"idle_exit_seconds": 2.0}), "--state", str(state))
    base_url = str(process.args)

    def has_ended() -> bool:
        with suppress(OSError, HTTPException):
            assert get(base_url, "/v1/health/live")["status"] == "live"
        return process.poll() is not None

    assert eventually(has_ended)
    _, log = process.communicate()

    assert process.returncode == 0
    assert "nobody asked for 2 s" in log
    assert read_announcement(server_folder(state, MODEL_ID)) is None


def test_sigterm_lets_running_answers_finish(config: EmbeddedConfig) -> None:
    """An upgrade of the machine must not turn answers into errors."""
    process = run_server(config)
    base_url = str(process.args)
    body = {"prompt": "Count:", "max_tokens": 40, "ignore_eos": True}

    with ThreadPoolExecutor(1) as thread:
        answer = thread.submit(call, base_url, "POST", "/v1/completions", body)
        # It may be whole before anybody has seen that it ran.
        assert eventually(lambda: metric(base_url, "vllm:num_requests_running") == 1 or answer.done())
        process.send_signal(signal.SIGTERM)
        status_code, _, raw = answer.result()
    process.communicate(timeout=30)

    assert (status_code, json.loads(raw)["usage"]["completion_tokens"]) == (200, 40)
    assert process.returncode == 0


def test_a_second_server_for_a_state_folder_is_refused(
    config: EmbeddedConfig, nim: RunningNim, nim_state: Path
) -> None:
    """Two engines would fight for the processors, and only one would be found."""
    process = run_server(config, "--state", str(nim_state))

    _, log = process.communicate(timeout=30)

    assert process.returncode == 1
    assert "one is registered" in log
    assert get(nim.base_url, "/v1/health/live")["status"] == "live"


def test_the_log_holds_no_prompts_and_no_answers(nim: RunningNim, nim_state: Path) -> None:
    """Documents may be secret; logs are read by many."""
    secret = "xyzzy-the-secret"
    for body in ({"prompt": secret, "max_tokens": 2}, {"prompt": secret, "max_tokens": -1}, {"prompt": [secret, 1]}):
        call(nim.base_url, "POST", "/v1/completions", body)
    call(nim.base_url, "POST", "/v1/completions", f'{{"prompt": "{secret}'.encode())

    assert secret not in (server_folder(nim_state, MODEL_ID) / "server.log").read_text()
