"""Evidence that travels: what was approved is what is published, or nothing is."""

from __future__ import annotations

import base64
import json
import shutil
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from llm_platform.errors import EvidenceMissing, SpecificationError
from llm_platform.evaluation.report import Report
from llm_platform.operations.release.attestation import (
    FILE,
    Attested,
    contradictions,
    facts_of,
    report_hash,
    sign,
    statement,
    verify,
)
from llm_platform.operations.release.publishing import publish
from llm_platform.records import AdapterManifest
from llm_platform.resources.handed import attested_by
from llm_platform.settings.settings import Settings
from llm_platform.warehouse.engine import connect, load
from llm_platform_tests.deployments.test_branches import run
from llm_platform_tests.servers.scripted import ScriptedServer
from llm_platform_tests.team import ENTRY, NAME, Team, answer

IMAGE = "sha256:" + "a" * 64
# Every one of them needs an application that was run; test_envelopes.py holds the rest in no time.
pytestmark = pytest.mark.slow
NOW = datetime(2027, 1, 1, tzinfo=UTC)


def key_pair() -> tuple[bytes, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return private, public


class Release:
    """An application that was run, promoted and attested."""

    def __init__(self, team: Team) -> None:
        self.team = team
        self.private, self.public = key_pair()
        self.envelope = sign(statement(self.facts(), at=NOW), self.private)

    def facts(self, image: str = IMAGE) -> dict[str, Any]:
        with self.team.warehouse.open(read_only=True) as lake:
            return facts_of(lake.application(NAME), self.team.loaded, image_digest=image)

    def verified(self, *, image: str = IMAGE, now: datetime = NOW, approvers: tuple[str, ...] = ()) -> dict[str, Any]:
        return verify(self.envelope, [self.public], self.facts(image), approvers=approvers, now=now)

    def by_sql(self, statement: str) -> None:
        """What somebody does who has the lake and a DuckDB."""
        catalog, data, _ = self.team.settings.location("test")
        with closing(connect()) as lake:
            load(lake, "ducklake", "sqlite_scanner")
            lake.execute(f"ATTACH 'ducklake:{catalog}' AS lake (DATA_PATH '{data}')")
            lake.execute(statement)

    def serve(self, variant: str, release: Any, report: Report) -> None:
        """Let a release serve on a report, as somebody does who writes the table of decisions."""
        with self.team.warehouse.open() as lake:
            store = lake.application(NAME)
            before = store.rollout.champion()
            assert before is not None
            store.releases.put(release)
            named = report.model_copy(update={"report_id": report_hash(report)})
            store.reports.append(
                report_id=named.report_id, release_id=release.release_id, variant=variant,
                evaluation_id=report.evaluation_id, measured_on=report.measured_on, passed=True,
                report=named.model_dump_json(), created_at=NOW,
            )  # fmt: skip
            values = {"event_id": "forged", "variant": variant, "release_id": release.release_id}
            store.rollout.append(
                before.model_copy(update={**values, "report_id": named.report_id}), expected_previous=before.event_id
            )

    def report_of(self, variant: str) -> tuple[Any, Report]:
        with self.team.warehouse.open(read_only=True) as lake:
            store = lake.application(NAME)
            release = self.team.loaded.release(variant, store)
            assert release is not None
            row = store.reports.latest(release.release_id)
            assert row is not None
            return release, Report.model_validate_json(row.report)


@pytest.fixture(scope="module")
def attested(tmp_path_factory: pytest.TempPathFactory) -> tuple[Release, Path, Path]:
    root, kept = tmp_path_factory.mktemp("company"), tmp_path_factory.mktemp("kept") / "company"
    with ScriptedServer(answer=answer) as model:
        team = Team(root, model.url)
        assert run(team.settings).success
    found = Release(team)
    shutil.copytree(root, kept)
    return found, root, kept


@pytest.fixture
def released(attested: tuple[Release, Path, Path]) -> Release:
    """As it was attested, whatever the test before has altered."""
    found, root, kept = attested
    shutil.rmtree(root)
    shutil.copytree(kept, root)
    found.team.specification = yaml.safe_load((found.team.folder / "application.yaml").read_text())
    found.team.lock = yaml.safe_load(found.team.lock_file.read_text())["models"][ENTRY]
    return found


def test_what_was_attested_and_is_unchanged_is_verified_at_once_and_offline(released: Release) -> None:
    """A deployment that waits for a network to start is one that does not start."""
    facts = released.facts()
    before = time.process_time()

    said = verify(released.envelope, [key_pair()[1], released.public], facts, now=NOW)

    assert time.process_time() - before < 1.0
    assert said["release"]["stored"] == facts["release"]["content"]
    assert said["approver"].startswith("rollout")
    assert contradictions(facts) == []
    payload = json.loads(base64.b64decode(json.loads(released.envelope)["payload"]))
    assert payload["_type"] == "https://in-toto.io/Statement/v1"
    assert {"name": "image", "digest": {"sha256": "a" * 64}} in payload["subject"]


def refused(released: Release, said: str, **how: Any) -> None:
    with pytest.raises(EvidenceMissing, match=said):
        released.verified(**how)


def test_other_weights_are_refused(released: Release) -> None:
    """An answer of other weights was approved by nobody."""
    released.team.lock["model"] = "test/another-model"
    released.team.write_lock()

    refused(released, "weights: the lock file pins others than those that answered")


def test_an_altered_adapter_is_refused(released: Release) -> None:
    """A file of twenty megabytes decides the answers as much as the model does."""
    release, report = released.report_of("clear")
    manifest = AdapterManifest(
        application=NAME, name="mood", base=release.model, base_sha256="0" * 64,
        files={"adapter_model.safetensors": "1" * 64}, imported_from="a test", created_at=NOW,
    )  # fmt: skip
    with_adapter = release.model_copy(update={"adapter": manifest.adapter_id})
    with released.team.warehouse.open() as lake:
        lake.application(NAME).adapters.append(manifest, inputs_hash="")
    released.serve("clear", with_adapter, report.model_copy(update={"release_id": with_adapter.release_id}))
    envelope = sign(statement(released.facts(), at=NOW), released.private)
    assert verify(envelope, [released.public], released.facts(), now=NOW)["adapter"]["named"] == manifest.adapter_id

    released.by_sql(f"UPDATE lake.{NAME}.adapters SET manifest = replace(manifest, repeat('1', 64), repeat('2', 64))")

    with pytest.raises(EvidenceMissing, match="adapter: its manifest or its files are not those"):
        verify(envelope, [released.public], released.facts(), now=NOW)


def test_an_altered_prompt_is_refused(released: Release) -> None:
    """What serves is read from the stored release, so that is where it would be altered."""
    released.by_sql(f"UPDATE lake.{NAME}.releases SET content = replace(content, 'Say clearly', 'Always say HAPPY')")

    refused(released, "release: the stored release has another content than its id says")


def test_an_altered_label_is_refused(released: Release) -> None:
    """Known answers that agree with the model afterwards make any model right."""
    released.by_sql(f"UPDATE lake.{NAME}.references SET answer = 'SAD' WHERE split = 'evaluation' AND answer = 'HAPPY'")

    refused(released, "labels: attested is")


def test_another_scorer_is_refused(released: Release) -> None:
    """A kinder grader is the cheapest way to a better grade."""
    released.team.specification["evaluation"]["scorers"] = ["normalized"]
    released.team.write_specification()

    refused(released, "scorer: attested is")


def test_a_lowered_bound_is_refused(released: Release) -> None:
    """Lowered in the file after the approval, it would let the next one pass, too."""
    released.team.specification["evaluation"]["gates"]["accuracy"]["minimum"] = 0.1
    released.team.write_specification()

    refused(released, "bounds: attested is")


def test_another_image_is_refused(released: Release) -> None:
    """Other code reads the same answer otherwise."""
    refused(released, "image: attested", image="sha256:" + "b" * 64)


def test_another_approver_is_refused(released: Release) -> None:
    """Who approved is written beside the decision; it must be who signed for it, and somebody who may."""
    refused(released, "is none of those who may approve", approvers=("ada@example.org",))

    released.by_sql(f"UPDATE lake.{NAME}.rollout SET \"by\" = 'ada@example.org'")

    refused(
        released,
        r"approver: attested is .*first_champion.*, there is 'ada@example.org'",
        approvers=("ada@example.org",),
    )


@pytest.mark.parametrize(
    ("publish", "said"),
    [
        pytest.param({"contract": 2}, r"contract: attested is '1\.0\.0 .*there is '2\.0\.0 ", id="number"),
        pytest.param({"owner": "team:others"}, r"contract: attested is '1\.0\.0 .*there is '1\.", id="promise"),
    ],
)
def test_another_contract_is_refused(released: Release, publish: dict[str, Any], said: str) -> None:
    """What readers are promised is part of what was approved, its number and all that stands under it."""
    released.team.specification["publish"] = publish
    released.team.write_specification()

    refused(released, said)


def test_an_old_attestation_is_refused_after_the_next_decision(released: Release) -> None:
    """It was true of what served then, signature and all."""
    release, report = released.report_of("clear")
    released.serve("clear", release, report)

    refused(released, "decision: it is of another decision than the one that serves")


@pytest.mark.parametrize(
    ("now", "said"),
    [
        pytest.param(NOW - timedelta(minutes=6), "which is still to come", id="issued-in-the-future"),
        pytest.param(NOW + timedelta(days=366), "more than 365 days ago", id="too-old"),
    ],
)
def test_a_wrong_clock_is_refused(released: Release, now: datetime, said: str) -> None:
    """One that is made in advance waits for its day; one that never ends is never looked at again."""
    refused(released, f"clock: it was issued at .*{said}", now=now)


def test_a_forged_check_of_dagsters_changes_nothing(released: Release) -> None:
    """Whoever reaches Dagster's port can report a check as passed; nothing here reads checks."""
    release, report = released.report_of("vague")
    assert report.standing != "approved"
    released.serve("vague", release, report)
    with dg.DagsterInstance.ephemeral() as instance:
        instance.report_runless_asset_event(
            dg.AssetCheckEvaluation(
                asset_key=dg.AssetKey([NAME, "report"]), check_name="vague_accuracy_at_least_minimum", passed=True,
                metadata={},
            )
        )  # fmt: skip
    envelope = sign(statement(released.facts(), at=NOW), released.private)

    with pytest.raises(EvidenceMissing, match="gates: the report did not pass, whatever a check says"):
        verify(envelope, [released.public], released.facts(), now=NOW)


def edited(envelope: str, change: Callable[[dict[str, Any]], None]) -> str:
    outer = json.loads(envelope)
    payload = json.loads(base64.b64decode(outer["payload"]))
    change(payload["predicate"])
    outer["payload"] = base64.b64encode(json.dumps(payload).encode()).decode()
    return json.dumps(outer)


def test_what_is_edited_or_signed_by_another_is_refused(released: Release) -> None:
    """The statement says everything that is wanted; only its signature says that it is true."""
    facts, (other, _) = released.facts(), key_pair()
    forged = [
        edited(released.envelope, lambda predicate: predicate.update(approver="ada@example.org")),
        sign(statement(facts, at=NOW), other),
        json.dumps({**json.loads(released.envelope), "payloadType": "application/json"}),
        json.dumps({**json.loads(released.envelope), "signatures": []}),
        "{}",
    ]

    for one in forged:
        with pytest.raises(EvidenceMissing, match=r"no trusted key has signed|cannot be read"):
            verify(one, [released.public], facts, now=NOW)


def test_a_deployment_that_asks_for_attestations_publishes_nothing_without(released: Release, tmp_path: Path) -> None:
    """The gate stands where readers are: whoever started the run, and however."""
    keys = tmp_path / "keys"
    keys.mkdir()
    (keys / "release.pem").write_bytes(released.public)
    settings = Settings(state=tmp_path, namespace="test", attestation_keys=keys, image_digest=IMAGE)
    wanted = attested_by(settings)
    assert wanted == Attested(keys, (), IMAGE)
    with pytest.raises(SpecificationError, match="LLM_PLATFORM_IMAGE_DIGEST"):
        attested_by(Settings(state=tmp_path, namespace="test", attestation_keys=keys))

    with released.team.warehouse.open() as lake:
        store = lake.application(NAME)
        with pytest.raises(EvidenceMissing, match=r"no attestation can be read at .*attestation\.json"):
            publish(store, released.team.loaded, export_folder=tmp_path, attested=wanted)
        text = sign(statement(released.facts(), at=datetime.now(UTC)), released.private)
        (released.team.folder / FILE).write_text(text)
        assert publish(store, released.team.loaded, export_folder=tmp_path, attested=wanted).change.unchanged
