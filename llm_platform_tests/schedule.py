"""Which tests run on one worker, because they share something that takes long to make.

`xdist_group` would say the same beside the tests, but pytest-xdist 3.8 ignores it under pytest 9.2: it writes the group
into a name of the test that pytest no longer reads.
"""

from __future__ import annotations

from xdist.scheduler import LoadScopeScheduling

TOGETHER = {
    "cli/test_adapter.py": "PyTorch",
    "cli/test_commands.py": "a team at a terminal that has run",
    "cli/test_models.py": "a team at a terminal that has run",
    "cli/test_rollout_commands.py": "a team at a terminal that has run",
    "defs/test_contract_runs.py": "a team whose job has run",
    "defs/test_definitions.py": "a team whose job has run",
    "defs/test_finetuning_graph.py": "PyTorch",
    "defs/test_full_run.py": "a team whose job has run",
    "defs/test_graph_runs.py": "a team whose job has run",
    "defs/test_readers.py": "a team whose job has run",
    "deployments/chart/test_chart.py": "Helm",
    "deployments/chart/test_operators.py": "Helm",
    "deployments/test_attestation.py": "a release that is attested",
    "deployments/test_branches.py": "production on each kind of catalog",
    "deployments/test_installed.py": "an installed wheel",
    "documents/test_one_by_one.py": "Presidio",
    "finetuning/test_examples.py": "PyTorch",
    "finetuning/test_training.py": "PyTorch",
    "nim_local/test_adapters.py": "a server with adapters",
    "nim_local/test_agreement.py": "PyTorch",
    "nim_local/test_choices.py": "a server with the real model",
    "nim_local/test_loading.py": "a server with the real model",
    "nim_local/test_peft.py": "PyTorch",
    "nim_local/test_process.py": "a server with the real model",
    "nim_local/test_server.py": "a server with the real model",
    "nim_local/test_structured.py": "a server with the real model",
    "online/test_service.py": "a service at work",
    "operations/adapters/test_adapters.py": "PyTorch",
    "operations/adapters/test_signed_adapters.py": "PyTorch",
    "operations/answering/test_redacting.py": "Presidio",
    "operations/evidence/test_evidence.py": "an evaluated team",
    "operations/evidence/test_failures.py": "documents that failed",
    "operations/evidence/test_judging.py": "prompts that have run",
    "operations/evidence/test_one_comparison.py": "prompts that have run",
    "operations/evidence/test_trial.py": "prompts that have run",
    "operations/privacy/test_forgetting.py": "lakes with a document to forget",
    "operations/release/test_access.py": "tables for readers in a database",
    "operations/release/test_rollouts.py": "a champion and its challengers",
    "redaction/test_redactor.py": "Presidio",
    "resources/test_embedded.py": "the embedded NIM of a deployment",
    "review/test_answers.py": "answers to look through",
    "review/test_browser.py": "a page in a browser",
    "review/test_desk.py": "a desk for verdicts",
    "review/test_page.py": "a page for verdicts",
    "review/test_pages_browser.py": "a page in a browser",
    "review/test_status.py": "an application with a champion",
    "samples/test_samples.py": "all reviews",
    "warehouse/test_copies.py": "copies in a bucket",
    "warehouse/test_encrypting.py": "lakes that are encrypted",
    "warehouse/test_passwords.py": "a database with a password",
    "warehouse/test_source_folders.py": "folders in a bucket",
}


class Together(LoadScopeScheduling):
    """Tests that share something are one piece of work; every other test is one by itself. Large pieces come first."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return TOGETHER.get(file.removeprefix("llm_platform_tests/"), nodeid)
