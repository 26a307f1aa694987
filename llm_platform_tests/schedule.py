"""Which tests run on one worker, because they share something that takes long to make.

`xdist_group` would say the same beside the tests, but pytest-xdist 3.8 ignores it under pytest 9.2: it writes the group
into a name of the test that pytest no longer reads.
"""

from __future__ import annotations

from xdist.scheduler import LoadScopeScheduling

TOGETHER = {
    "cli/test_commands.py": "a team at a terminal that has run",
    "cli/test_models.py": "a team at a terminal that has run",
    "defs/test_definitions.py": "a team whose job has run",
    "defs/test_graph_runs.py": "a team whose job has run",
    "defs/test_finetuning_graph.py": "a trained adapter",
    "deployments/test_branches.py": "production on each kind of catalog",
    "online/test_service.py": "a service at work",
    "operations/evidence/test_evidence.py": "an evaluated team",
}


class Together(LoadScopeScheduling):
    """Tests that share something are one piece of work; every other test is one by itself. Large pieces come first."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return TOGETHER.get(file.removeprefix("llm_platform_tests/"), nodeid)
