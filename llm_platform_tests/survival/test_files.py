"""Files of the platform are its user's: looked at as another user of the machine would, and attacked by one."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from llm_platform.files import close_to_others
from llm_platform.warehouse.lake import LakeLocation, Warehouse
from llm_platform_tests.survival.conftest import MakeDesk
from llm_platform_tests.team import NAME

OTHERS = 0o077


def open_to_others(folder: Path) -> list[str]:
    """What is in a folder, and itself, on which anybody else has any right."""
    found = [folder, *folder.rglob("*")]
    return [
        f"{path} {stat.S_IMODE(path.lstat().st_mode):o}"
        for path in found
        if not path.is_symlink() and not stat.S_ISSOCK(path.lstat().st_mode) and path.lstat().st_mode & OTHERS
    ]


def test_nothing_that_a_run_leaves_is_open_to_others(desk: MakeDesk) -> None:
    """Catalog, tables, journal, Dagster's history, cards and exports, made under a umask that leaves all open."""
    terminal, _ = desk()
    before = os.umask(0)
    try:
        finished = terminal.run("run", NAME)
        exported = terminal.script("review", "export", NAME, str(terminal.team.root / "verdicts.csv"))
    finally:
        os.umask(before)

    state = terminal.team.settings.state
    kept = {path.relative_to(state).parts[2] for path in state.rglob("namespaces/*/*")}
    assert finished.status == exported.status == 0, finished.said + exported.said
    assert {"catalog.sqlite", "data", "dagster", "reports", "leases.sqlite"} <= kept
    assert open_to_others(state) == []
    assert open_to_others(terminal.team.root / "verdicts.csv") == []


@pytest.mark.slow
def test_state_of_an_older_version_is_closed_by_the_next_command(desk: MakeDesk) -> None:
    """It was made readable by everybody, and people upgrade without reading."""
    terminal, _ = desk()
    terminal.run("run", NAME)
    state = terminal.team.settings.state
    for path in [state, *state.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)

    terminal.run("plan", NAME)

    assert open_to_others(state) == []


def test_a_folder_is_closed_without_following_links(tmp_path: Path) -> None:
    """A link in the state folder must not change what it points at."""
    outside = tmp_path / "outside"
    outside.mkdir()
    outside.chmod(0o755)
    state = tmp_path / "state"
    state.mkdir()
    (state / "link").symlink_to(outside)
    state.chmod(0o755)

    close_to_others(state)

    assert stat.S_IMODE(outside.stat().st_mode) == 0o755
    assert stat.S_IMODE(state.stat().st_mode) == 0o700


def test_files_for_a_checkout_keep_the_rights_of_their_person(desk: MakeDesk) -> None:
    """A team's application is read by the service that runs it, as any other file of the repository."""
    terminal, _ = desk()
    table = terminal.team.root / "tickets.csv"
    before = os.umask(0o022)
    try:
        made = terminal.script(
            "application", "new", "fresh", "--source", str(table), "--key", "ticket", "--text", "body",
            "--answer", "team", "--folder", str(terminal.team.root / "applications"),
        )  # fmt: skip
    finally:
        os.umask(before)

    folder = terminal.team.root / "applications" / "fresh"
    assert made.status == 0, made.said
    assert stat.S_IMODE((folder / "application.yaml").stat().st_mode) == 0o644
    assert stat.S_IMODE((folder / "prompts").stat().st_mode) == 0o755


def spilled(lake: Warehouse) -> set[Path]:
    """Where large temporary tables are, while there are some."""
    connection: duckdb.DuckDBPyConnection = lake._connection
    return {Path(row[0]) for row in connection.execute("SELECT path FROM duckdb_temporary_files()").fetchall()}


def test_what_does_not_fit_memory_is_in_the_state_and_gone_afterwards(tmp_path: Path) -> None:
    """It held documents, in a folder of /tmp whose name another user could foresee and make a link of."""
    location = LakeLocation(f"sqlite:{tmp_path / 'lake' / 'catalog.sqlite'}", str(tmp_path / "lake" / "data"))
    with Warehouse.attach(location, threads=1) as lake:
        lake._connection.execute("SET memory_limit = '60MB'")
        lake._connection.execute(
            "CREATE TEMP TABLE large AS SELECT repeat(md5(range::VARCHAR), 20) AS text FROM range(200_000)"
        )
        files = spilled(lake)
        assert files
        assert all(tmp_path / "lake" in path.parents for path in files)
        assert {stat.S_IMODE(path.parent.stat().st_mode) for path in files} == {0o700}

    assert [path.name for path in (tmp_path / "lake").iterdir() if path.name.startswith(".spill")] == []


def test_what_a_killed_process_had_spilled_goes_with_the_next_one(tmp_path: Path) -> None:
    """Nobody else would ever delete it."""
    code = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from llm_platform.warehouse.spilling import SpillFolder\n"
        "print(SpillFolder(Path(sys.argv[1])).path, flush=True)\n"
        "os._exit(9)\n"
    )
    run = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    left = Path(run.stdout.strip())
    assert left.is_dir()
    location = LakeLocation(f"sqlite:{tmp_path / 'catalog.sqlite'}", str(tmp_path / "data"))

    with Warehouse.attach(location, threads=1):
        assert not left.exists()


@pytest.mark.parametrize("name", ["endpoint.json", "server.log", "endpoint.html"])
def test_a_text_that_is_written_whole_is_private_from_its_first_byte(tmp_path: Path, name: str) -> None:
    """A file that is closed after it was written was open while it was; a link in its place is not followed."""
    from llm_platform.files import write_text

    victim = tmp_path / "victim"
    victim.write_text("mine", encoding="utf-8")
    (tmp_path / f".{name}.{os.getpid()}").symlink_to(victim)
    before = os.umask(0)
    try:
        with pytest.raises(Exception, match="Cannot write"):
            write_text(tmp_path / name, "secret")
        write_text(tmp_path / name, "secret")
    finally:
        os.umask(before)

    assert victim.read_text(encoding="utf-8") == "mine"
    assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
