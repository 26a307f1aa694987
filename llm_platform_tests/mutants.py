"""Faults that somebody might make, each with the tests that have to see it: `make mutants`.

A mutant is one replaced text in one file of a copy of the package. One that survives shows a line that no test decides
about.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Mutant:
    """What is replaced by what, and who must notice; `text` stands in the file exactly once."""

    name: str
    file: str
    text: str
    becomes: str
    test: str


MUTANTS = (
    Mutant(
        "error rate by its point estimate",
        "operations/serving/monitoring.py",
        "Held(lower <= MAX_ERROR_RATE",
        "Held(errors / total <= MAX_ERROR_RATE",
        "operations/serving/test_monitoring.py -k error_rate",
    ),
    Mutant(
        "error rate by its upper bound",
        "operations/serving/monitoring.py",
        "lower, _ = wilson_bounds",
        "_, lower = wilson_bounds",
        "operations/serving/test_monitoring.py -k error_rate",
    ),
    Mutant(
        "a run asks what a caller waits for",
        "operations/answering/sending.py",
        "[row for row in rows if row.fingerprint not in others]",
        "rows",
        "online/test_service.py -k once_is_paid",
    ),
    Mutant(
        "a run asks about a part that a caller waits for",
        "operations/answering/sending.py",
        "lease.watch = self._store.completions.watch(release.release_id)",
        "pass",
        "online/test_desk.py -k part_that_a_caller",
    ),
    Mutant(
        "callers wait for a look at what the service itself commits",
        "warehouse/own_commits.py",
        "self._next[before] = after, commit.answers_of",
        "pass",
        "warehouse/test_answered.py -k itself",
    ),
    Mutant(
        "threads of a service meet at the lock of the catalog",
        "operations/online/open_lake.py",
        'self._turn if lake.location.kind == "sqlite" else nullcontext()',
        "nullcontext()",
        "online/test_server.py -k turns",
    ),
    Mutant(
        "a caller asks what a run is asking",
        "operations/online/ledger.py",
        "return not self._noting().take([fingerprint], seconds=ASKED_SECONDS)",
        "return True",
        "online/test_service.py -k once_is_paid",
    ),
    Mutant(
        "who has died is waited for",
        "inference/asked.py",
        "elif not self._lives(holder)",
        "elif False",
        "inference/test_asked.py -k died",
    ),
    Mutant(
        "sensor without a cap of its pause",
        "defs/sensors.py",
        "min(interval * 2**past.failed, LONGEST_PAUSE_SECONDS)",
        "interval * 2**past.failed",
        "defs/test_sensor_pauses.py",
    ),
    Mutant(
        "sensor whose pause does not grow",
        "defs/sensors.py",
        "interval * 2**past.failed",
        "interval * 2",
        "defs/test_sensor_pauses.py",
    ),
    Mutant(
        "sensor that never asks a person",
        "defs/sensors.py",
        "if past.failed >= most:",
        "if past.failed > most:",
        "defs/test_sensor_pauses.py",
    ),
    Mutant(
        "joined runs lose failures",
        "operations/answering/account.py",
        '    "failed",\n',
        "",
        "operations/answering/test_account.py",
    ),
    Mutant(
        "joined runs lose tokens",
        "operations/answering/account.py",
        "usage = {name: sum(getattr(run.usage, name) for run in runs)",
        "usage = {name: max(getattr(run.usage, name) for run in runs)",
        "operations/answering/test_account.py",
    ),
    Mutant(
        "joined runs lose causes",
        "operations/answering/account.py",
        '"causes": dict(causes),',
        "",
        "operations/answering/test_account.py",
    ),
    Mutant(
        "joined runs take the latency of the smaller one",
        "operations/answering/account.py",
        "max(runs, key=lambda run: run.sent)",
        "min(runs, key=lambda run: run.sent)",
        "operations/answering/test_account.py",
    ),
    Mutant(
        "failures of parts counted as documents",
        "operations/answering/account.py",
        'update={"stored": 0, "reused": 0, "failed": 0, "causes": causes}',
        'update={"stored": 0, "reused": 0, "causes": causes}',
        "operations/answering/test_account.py",
    ),
    Mutant(
        "a sample starts by itself",
        "defs/sensors.py",
        "if graph.is_sample and",
        "if False and",
        "samples/test_repair_reports.py",
    ),
    Mutant(
        "no cap of a reply",
        "inference/wire_http.py",
        "if self._size > self._max_bytes:",
        "if False:",
        "inference/test_wires.py -k without_end",
    ),
    Mutant(
        "no cap of a reply through a proxy",
        "inference/wire_rust.py",
        "if size > self._max_bytes:",
        "if False:",
        "inference/test_wires.py -k without_end",
    ),
    Mutant(
        "no cap of Retry-After",
        "inference/retries.py",
        "return min(max(0.0, seconds), LONGEST_WAIT_SECONDS)",
        "return max(0.0, seconds)",
        "inference/test_retries.py",
    ),
    Mutant(
        "Retry-After that is no number",
        "inference/retries.py",
        "max(0.0, seconds)",
        "max(seconds, 0.0)",
        "inference/test_retries.py",
    ),
    Mutant(
        "Retry-After ignored",
        "inference/retries.py",
        "max(asked_seconds, self.backoff_seconds(failures))",
        "self.backoff_seconds(failures)",
        "inference/test_retries.py",
    ),
    Mutant(
        "better by the measured difference",
        "evaluation/pairing.py",
        "return self.difference.lower > 0.0",
        "return self.difference.value > 0.0",
        "operations/evidence/test_one_comparison.py -k only_looks",
    ),
    Mutant(
        "worse by the measured difference",
        "evaluation/pairing.py",
        "return self.difference.upper < 0.0",
        "return self.difference.value < 0.0",
        "evaluation/test_pairing.py -k decide_alike",
    ),
    Mutant(
        "adapter let through on the measured difference",
        "operations/evidence/adapter_evidence.py",
        "rival is not None and rival.is_better",
        "rival is not None and rival.difference.value > 0",
        "operations/evidence/test_one_comparison.py -k only_looks",
    ),
    Mutant(
        "adapter compared at 0.5",
        "operations/adapters/adapter_reports.py",
        "single = Rules.of(application)",
        "single = Rules(0.5)",
        "operations/evidence/test_one_comparison.py -k same_rules",
    ),
    Mutant(
        "adapter without clusters",
        "operations/adapters/adapter_reports.py",
        "clusters=yardstick.clusters,",
        "clusters={},",
        "operations/evidence/test_one_comparison.py -k same_rules",
    ),
    Mutant(
        "compare at 0.5",
        "operations/evidence/comparing.py",
        "rules=Rules.of(loaded.application)",
        "rules=Rules(0.5)",
        "operations/evidence/test_one_comparison.py -k everywhere",
    ),
    Mutant(
        "compare without clusters",
        "operations/evidence/comparing.py",
        "PairedScore(key, after.cluster,",
        "PairedScore(key, key,",
        "operations/evidence/test_one_comparison.py -k everywhere",
    ),
    Mutant(
        "card at 0.5",
        "operations/evidence/cards.py",
        "rules=Rules.of(application)",
        "rules=Rules(0.5)",
        "operations/evidence/test_one_comparison.py -k everywhere",
    ),
    Mutant(
        "regression gate by the measured difference",
        "evaluation/gate_floors.py",
        "passed = difference.lower >= minimum",
        "passed = difference.value >= minimum",
        "evaluation/test_further_gates.py",
    ),
    Mutant(
        "several comparisons as if each were alone",
        "evaluation/pairing.py",
        "return 1.0 - (1.0 - self.confidence) / self.comparisons",
        "return self.confidence",
        "evaluation/test_pairing.py -k beside_others",
    ),
    Mutant(
        "looks ignored",
        "evaluation/pairing.py",
        '    if rules.looks == "any":\n        lower, upper',
        "    if False:\n        lower, upper",
        "evaluation/test_pairing.py -k every_look",
    ),
    Mutant(
        "labels beyond one that waits are counted",
        "evaluation/deciding_labels.py",
        "itertools.takewhile(",
        "filter(",
        "evaluation/test_deciding_labels.py -k beyond",
    ),
    Mutant(
        "challenger promoted on the measured difference",
        "rollout/decision.py",
        "seen.difference.lower < -stage.margin",
        "seen.difference.value < -stage.margin",
        "rollout/test_decision.py",
    ),
    Mutant(
        "challenger withdrawn on the measured difference",
        "rollout/decision.py",
        "seen.difference.upper < -stage.margin",
        "seen.difference.value < -stage.margin",
        "rollout/test_decision.py",
    ),
    Mutant(
        "one person approves twice",
        "rollout/decision.py",
        "{one.by for one in",
        "{(one.by, one.role) for one in",
        "rollout/test_decision.py",
    ),
)


def survives(mutant: Mutant, folder: Path) -> bool:
    """Whether its tests pass in spite of it."""
    shutil.copytree(HERE / "llm_platform", folder / "llm_platform", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("llm_platform_tests", "pyproject.toml", "workspace.yaml", "models.lock.yaml"):
        (folder / name).symlink_to(HERE / name)
    path = folder / "llm_platform" / mutant.file
    before = path.read_text(encoding="utf-8")
    if before.count(mutant.text) != 1:
        raise SystemExit(
            f"{mutant.name}: {mutant.file} has {mutant.text!r} {before.count(mutant.text)} times, not once."
        )
    path.write_text(before.replace(mutant.text, mutant.becomes), encoding="utf-8")
    file, *options = mutant.test.split()
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-n0", "-p", "no:cacheprovider", "--durations=0"]
    done = subprocess.run(
        [*command, f"llm_platform_tests/{file}", *options],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in (0, 1):
        raise SystemExit(f"{mutant.name}: the tests did not run.\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.returncode == 0


def main(names: list[str]) -> int:
    """Try those whose name holds one of these words, or all; how many survived."""
    survived = 0
    for mutant in MUTANTS:
        if names and not any(name in mutant.name for name in names):
            continue
        with tempfile.TemporaryDirectory() as folder:
            lives = survives(mutant, Path(folder))
        survived += lives
        sys.stdout.write(f"{'SURVIVES' if lives else 'killed  '}  {mutant.name}  ({mutant.test})\n")
        sys.stdout.flush()
    return survived


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
