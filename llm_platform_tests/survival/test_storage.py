"""State folders that cannot be written."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from llm_platform_tests.survival.command import Moment, asked_more_than
from llm_platform_tests.survival.conftest import MakeDesk
from llm_platform_tests.survival.ledger import ledger
from llm_platform_tests.team import NAME

DISK_BYTES = 24 * 1024 * 1024


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Nothing below `folder` may be written, as far as modes are obeyed."""
    paths = [folder, *folder.rglob("*")]
    modes = {path: path.stat().st_mode for path in paths}
    for path in reversed(paths):
        path.chmod(modes[path] & ~0o222)
    try:
        yield
    finally:
        for path in paths:
            if path.exists():
                path.chmod(modes[path])


def obeying_modes(folder: Path) -> Sequence[str]:
    """What to put before a command so that modes hold for it: root ignores them until it gives that power away."""
    if os.geteuid() != 0:
        return ()
    powers = "-dac_override,-dac_read_search"
    before = ("setpriv", f"--bounding-set={powers}", f"--inh-caps={powers}")
    if shutil.which("setpriv") is None:
        pytest.skip("running as root, and there is no setpriv to give up that power: make tools")
    tried = subprocess.run([*before, "test", "-w", str(folder)], capture_output=True, check=False)
    if tried.returncode != 1:
        pytest.skip(f"running as root, and setpriv cannot give up its power: {tried.stderr.decode().strip()}")
    return before


@pytest.fixture
def small_disk() -> Iterator[Callable[[Path], Path]]:
    """Mounts a file system of 24 MB at a folder."""
    mounted: list[Path] = []

    def mount(folder: Path) -> Path:
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "llm_platform_tests", str(folder)]
        tried = subprocess.run(command, capture_output=True, check=False)
        if tried.returncode:
            pytest.skip(f"mounting a small file system is not permitted here: {tried.stderr.decode().strip()}")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Leave no byte free; returns the file that takes the space."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            with suppress(OSError):
                while file.write(bytes(size)) == size:
                    pass
    assert os.statvfs(folder).f_bavail == 0
    return ballast


@pytest.mark.slow
def test_read_only_state_is_an_error_in_words_and_harms_nothing(desk: MakeDesk) -> None:
    """A wrong mount or owner: the command says which folder it is, asks no model, and what is stored can be read."""
    terminal, model = desk(60)
    state = terminal.team.settings.state
    assert terminal.run("run", NAME).status == 0
    terminal.team.write_documents({str(number): terminal.team.text(number) for number in range(61)})
    asked = model.counts.requests

    with read_only(state):
        before = obeying_modes(state)
        refused = terminal.script("run", NAME, before=before)
        explained = terminal.script("explain", NAME, "7", before=before)
    again = terminal.run("run", NAME)

    assert refused.failed_plainly, refused.said
    assert str(state) in refused.err
    assert explained.status == 0, explained.said
    assert again.status == 0, again.said
    assert model.counts.requests == asked + 2
    assert ledger(terminal.team).is_whole(61)


@pytest.mark.slow
def test_full_disk_before_the_first_run_is_an_error_in_words(
    desk: MakeDesk, small_disk: Callable[[Path], Path]
) -> None:
    """Nothing can be stored, so nothing may be asked."""
    terminal, model = desk(60)
    ballast = fill(small_disk(terminal.team.settings.state))

    refused = terminal.run("run", NAME)
    ballast.unlink()
    again = terminal.run("run", NAME)

    assert refused.failed_plainly, refused.said
    assert str(terminal.team.settings.state) in refused.err
    assert again.status == 0, again.said
    assert set(model.counts.asked.values()) == {2}
    assert ledger(terminal.team).is_whole(60)


@pytest.mark.slow
def test_disk_that_fills_up_while_answers_come_back_loses_only_what_was_not_committed(
    desk: MakeDesk, small_disk: Callable[[Path], Path]
) -> None:
    """The run ends with the reason; once there is space, the next one asks for what was not committed."""
    terminal, model = desk(200, latency_seconds=0.1)
    state = small_disk(terminal.team.settings.state)
    Moment(model, 100, lambda: fill(state) and None)

    refused = terminal.run("run", NAME)
    (state / "ballast").unlink()
    committed = ledger(terminal.team).stored["clear"]
    again = terminal.run("run", NAME)

    # Whether Dagster's own last events find room in some page is luck; it says so on a line of its own, before ours.
    assert (refused.status, "Traceback" in refused.said) == (1, False), refused.said
    assert "\nerror:" in f"\n{refused.err}"
    assert "Free space" in refused.err or "full" in refused.err
    assert again.status == 0, again.said
    assert not committed & asked_more_than(model.counts, 2)
    assert ledger(terminal.team).is_whole(200)
