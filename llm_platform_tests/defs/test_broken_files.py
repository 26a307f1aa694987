"""One team's mistake is that team's: the definitions load, and say what is missing from them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest
import yaml

from llm_platform.definitions import build
from llm_platform_tests.defs.conftest import QUIET
from llm_platform_tests.survival.command import Terminal
from llm_platform_tests.team import ENTRY, NAME, Team

OTHER = "letters"


@pytest.fixture
def teams(tmp_path: Path) -> Team:
    """Two applications in one deployment."""
    team = Team(tmp_path, "http://127.0.0.1:9", documents=4)
    other = team.folder.parent / OTHER
    shutil.copytree(team.folder, other)
    specification = {**team.specification, "name": OTHER, "title": "Mood of letters"}
    (other / "application.yaml").write_text(yaml.safe_dump(specification, sort_keys=False), encoding="utf-8")
    return team


def edited(folder: Path, **changes: object) -> None:
    path = folder / "application.yaml"
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    path.write_text(yaml.safe_dump(found | changes, sort_keys=False), encoding="utf-8")


def bad_prompt_name(folder: Path) -> None:
    shutil.copyfile(folder / "prompts" / "clear.md", folder / "prompts" / "first v2.md")


def bad_yaml(folder: Path) -> None:
    (folder / "application.yaml").write_text("name: [", encoding="utf-8")


def no_yaml(folder: Path) -> None:
    (folder / "application.yaml").unlink()


def unreadable(folder: Path) -> None:
    (folder / "application.yaml").unlink()
    (folder / "application.yaml").mkdir()


def bad_owner(folder: Path) -> None:
    edited(folder, owners=["Jane Doe"])


def job_of_another(folder: Path) -> None:
    """Nothing that a rule of ours knows: two jobs by one name."""
    edited(folder, name=f"{NAME}_backfill")
    folder.rename(folder.parent / f"{NAME}_backfill")


def entry_with_a_mistake(folder: Path) -> None:
    lock = folder.parents[1] / "models.lock.yaml"
    text = yaml.safe_load(lock.read_text(encoding="utf-8"))
    text["models"]["meta/llama:8b"] = {**text["models"][ENTRY]}
    lock.write_text(yaml.safe_dump(text), encoding="utf-8")
    edited(folder, variants={"clear": {"prompt": "clear", "model": "meta/llama:8b"}})


BREAKS = [
    bad_prompt_name,
    bad_yaml,
    no_yaml,
    unreadable,
    bad_owner,
    job_of_another,
    entry_with_a_mistake,
]


@pytest.mark.parametrize("break_it", BREAKS)
def test_what_one_team_breaks_is_missing_and_the_others_are_there(
    teams: Team, break_it: Callable[[Path], None]
) -> None:
    """A code location that does not load takes everybody's schedules, sensors and pages with it."""
    break_it(teams.folder.parent / OTHER)

    built = build(teams.settings)

    broken = next(iter(built.broken))
    assert len(built.broken) == 1
    dg.Definitions.validate_loadable(built.definitions)
    graph = built.definitions.resolve_asset_graph()
    assert dg.AssetKey([NAME, "published"]) in graph.get_all_asset_keys()
    assert dg.AssetKey([OTHER, "published"]) not in graph.get_all_asset_keys()
    shown = graph.get(dg.AssetKey([broken, "cannot_be_used"]))
    assert shown.group_name == broken
    assert built.broken[broken] in (shown.description or "")
    (asset,) = (
        one for one in built.definitions.assets or () if isinstance(one, dg.AssetsDefinition) and shown.key in one.keys
    )
    with dg.DagsterInstance.ephemeral() as instance:
        assert not dg.materialize([asset], instance=instance, raise_on_error=False, run_config=QUIET).success


def test_two_applications_may_read_one_table(teams: Team) -> None:
    """A table of tickets is classified by one team and read for dates by another."""
    where = {"warehouse": "upstream", "table": "tickets", "key": "ticket", "text": "body", "attributes": ["team"]}
    for name in (NAME, OTHER):
        edited(teams.folder.parent / name, source=where)

    built = build(teams.settings)

    assert built.broken == {}
    dg.Definitions.validate_loadable(built.definitions)


def test_a_lock_file_that_cannot_be_read_is_said_of_every_application(teams: Team) -> None:
    """The file is everybody's; the page of the deployment still opens, and says what is wrong with it."""
    teams.lock_file.write_text("models: [", encoding="utf-8")

    built = build(teams.settings)

    assert {NAME, OTHER} <= set(built.broken)
    dg.Definitions.validate_loadable(built.definitions)


def test_a_module_of_a_team_that_raises_is_that_team_s(teams: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    """A team's own code may raise anything when it is imported."""
    (teams.root / "their_assets.py").write_text("raise RuntimeError('not today')\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(teams.root))

    built = build(teams.settings.model_copy(update={"modules": ("their_assets",)}))

    assert "RuntimeError" in built.broken["their_assets"]
    dg.Definitions.validate_loadable(built.definitions)
    assert dg.AssetKey([NAME, "published"]) in built.definitions.resolve_asset_graph().get_all_asset_keys()


def test_commands_go_on_with_the_others_and_check_fails(teams: Team) -> None:
    """Whoever checks before merging is told by the exit status; whoever runs another application is not stopped."""
    bad_prompt_name(teams.folder.parent / OTHER)
    terminal = Terminal(teams)

    checked = terminal.run("application", "check")
    listed = terminal.run("application", "list")
    planned = terminal.run("plan", NAME)
    of_other = terminal.run("plan", OTHER)

    assert checked.failed_plainly, checked.said
    assert "first v2.md:1: file name: found name 'first v2'" in checked.err
    assert f"{NAME}: 2 variants, no mistakes" in checked.out
    assert listed.status == 0
    assert "cannot be used: " in listed.out
    assert planned.status == 0, planned.said
    assert "first v2" in of_other.err
