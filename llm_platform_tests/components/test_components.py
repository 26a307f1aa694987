"""Applications in a project that is laid out by `dg`: scaffolded, listed, loaded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
import yaml

from llm_platform.components import LlmApplication

TYPE = "llm_platform.components.LlmApplication"
ROWS = "\n".join(f"t{row},The lift on floor {row} is stuck.,{'URGENT' if row % 2 else 'CALM'}" for row in range(20))


class Project:
    """A project of Dagster's present layout, whose `defs` folder holds what people scaffold."""

    def __init__(self, root: Path) -> None:
        self.root, self.defs = root, root / "src" / "desk" / "defs"
        self.defs.mkdir(parents=True)
        (root / "src" / "desk" / "__init__.py").touch()
        (root / "pyproject.toml").write_text(
            '[project]\nname = "desk"\nversion = "1"\n\n[tool.dg]\ndirectory_type = "project"\n\n'
            '[tool.dg.project]\nroot_module = "desk"\n',
            encoding="utf-8",
        )
        self.table = root / "tickets.csv"
        self.table.write_text(f"id,text,label\n{ROWS}\n", encoding="utf-8")

    def dg(self, *arguments: str) -> str:
        """The output of a `dg` command in the project."""
        path = os.pathsep.join(filter(None, [str(self.root / "src"), *sys.path]))
        environment = {**os.environ, "PYTHONPATH": path, "LLM_PLATFORM_STATE": str(self.root / "state")}
        command = [sys.executable, "-m", "dagster_dg_cli.cli", *arguments]
        ran = subprocess.run(
            command, cwd=self.root, env=environment, capture_output=True, text=True, timeout=240, check=False
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    def load(self) -> dg.Definitions:
        """All that the `defs` folder defines."""
        return dg.ComponentTree.for_project(self.root).build_defs()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("LLM_PLATFORM_STATE", str(tmp_path / "state"))
    monkeypatch.syspath_prepend(str(tmp_path / "src"))
    for name in [name for name in sys.modules if name == "desk" or name.startswith("desk.")]:
        monkeypatch.delitem(sys.modules, name)
    return Project(tmp_path)


def scaffold(project: Project, name: str) -> Path:
    """What `dg scaffold defs` does, without starting a process."""
    target = project.defs / name
    target.mkdir()
    scaffolder = LlmApplication.__scaffolder_cls__  # type: ignore[attr-defined]
    parameters = scaffolder.get_scaffold_params()(source=str(project.table), answer="label")
    request = dg.ScaffoldRequest(
        type_name=TYPE, target_path=target, scaffold_format="yaml", project_root=project.root, params=parameters
    )
    scaffolder().scaffold(request)
    return target


def test_a_scaffolded_application_is_one_that_the_command_line_writes(project: Project) -> None:
    """Two ways in, one kind of folder: whoever starts in Dagster is not a second-class user."""
    folder = scaffold(project, "tickets")

    assert yaml.safe_load((folder / "defs.yaml").read_text(encoding="utf-8")) == {
        "type": TYPE,
        "attributes": {"folder": "."},
    }
    assert (folder / "application.yaml").is_file()
    assert list((folder / "prompts").glob("*.md"))


# Dagster's own calls: it reads defs.yaml through a function of pydantic 1, and says where a component's code is.
@pytest.mark.filterwarnings("ignore:`parse_obj_as` is deprecated", "ignore:.* is currently in beta")
def test_two_applications_of_a_project_share_models_and_resources(project: Project) -> None:
    """Each component builds by itself; what is there once must not be there twice."""
    scaffold(project, "tickets")
    scaffold(project, "complaints")

    definitions = project.load()

    dg.Definitions.validate_loadable(definitions)
    keys = {key.to_user_string() for key in definitions.resolve_asset_graph().get_all_asset_keys()}
    assert {"tickets/published", "complaints/published", "models/model_smollm2-135m"} <= keys
    assert {job.name for job in definitions.resolve_all_job_defs()} >= {"tickets", "complaints"}


@pytest.mark.slow
def test_dagsters_own_tool_knows_the_component(project: Project) -> None:
    """`dg` finds it by the package's entry point, which only an installed package has: so through a process."""
    scaffold(project, "tickets")

    listed = json.loads(project.dg("list", "components", "--json"))
    project.dg("check", "yaml")

    assert TYPE in {one["key"] for one in listed["items"]}
