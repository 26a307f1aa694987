"""The bill of materials: what a deployment is made of, in a form that other tools read."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from llm_platform.errors import ContractBroken
from llm_platform.models.lock import pin
from llm_platform.operations.evidence.evaluation import current_evaluation_id
from llm_platform.operations.release.bom import Deployment, bill_of_materials, require_valid
from llm_platform.records import AdapterManifest, GateResult, Recipe, Release, RolloutEvent, TrainingData
from llm_platform_tests.team import ENTRY, NAME, Team

DIGEST = "sha256:" + "a" * 64


@pytest.fixture
def team(tmp_path: Path) -> Team:
    """A team with an image, a trained adapter and a champion on record."""
    made = Team(tmp_path, "http://127.0.0.1:9", documents=4)
    made.lock |= {"image": {"repository": "nvcr.io/nim/meta/llama", "tag": "2.1.5", "digest": DIGEST}}
    made.write_lock()
    made.specification["finetuning"] = {"mood": {"prompt": "clear", "model": ENTRY}}
    made.specification["variants"]["tuned"] = {"prompt": "clear", "model": ENTRY, "adapter": "mood"}
    made.write_specification()
    loaded = made.loaded
    base = pin(loaded.lock[ENTRY])
    manifest = AdapterManifest(
        application=NAME,
        name="mood",
        base=base,
        base_sha256="b" * 64,
        prompt_version=loaded.prompts["clear"].version,
        files={"adapter_model.safetensors": "c" * 64, "adapter_config.json": "d" * 64},
        data=TrainingData(content_hash="0123456789abcdef", train=40, validation=5, evaluation=15),
        recipe=loaded.application.finetuning["mood"].recipe(),
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    with made.warehouse.open() as lake:
        store = lake.application(NAME)
        store.adapters.append(manifest, inputs_hash="i")
        release = loaded.release("clear", store)
        assert isinstance(release, Release)
        assert isinstance(manifest.recipe, Recipe)
        store.releases.put(release)
        store.rollout.append(promotion(release.release_id), expected_previous=None)
    return made


def promotion(release_id: str) -> RolloutEvent:
    gate = GateResult(name="accuracy", value=0.9, lower=0.85, minimum=0.7, upper=0.95, passed=True, reason="as agreed")
    return RolloutEvent(
        application=NAME,
        event_id="e",
        action="promote",
        variant="clear",
        release_id=release_id,
        report_id="r",
        evaluation_id="v",
        by="test",
        at=datetime(2026, 1, 1, tzinfo=UTC),
        evidence=(gate,),
    )


def document(team: Team) -> dict[str, Any]:
    with team.warehouse.open() as lake:
        text = bill_of_materials(Deployment("local", "main", "c0ffee"), {NAME: team.loaded}, lake)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    found: dict[str, Any] = json.loads(text)
    return found


def test_everything_that_made_an_answer_is_in_it_by_hash(team: Team) -> None:
    """From a published row one must come to every byte that had a part in it."""
    found = document(team)

    parts = {part["bom-ref"]: part for part in found["components"]}
    needs = {one["ref"]: set(one.get("dependsOn", ())) for one in found["dependencies"]}
    with team.warehouse.open() as lake:
        evaluation = current_evaluation_id(lake.application(NAME), team.loaded)
    assert parts[f"evaluation:{NAME}"]["version"] == evaluation
    assert parts[f"prompt:{NAME}/clear"]["version"] == team.loaded.prompts["clear"].version
    assert parts[f"adapter:{NAME}/mood"]["hashes"] == [{"alg": "SHA-256", "content": "c" * 64}]
    assert parts[f"training:{NAME}/mood"]["version"] == "0123456789abcdef"
    image = f"image:nvcr.io/nim/meta/llama:2.1.5@{DIGEST}"
    assert parts[image]["hashes"] == [{"alg": "SHA-256", "content": "a" * 64}]
    assert parts[image]["purl"].startswith("pkg:oci/llama@sha256")
    assert needs[f"model:{ENTRY}"] == {image}
    assert needs[f"adapter:{NAME}/mood"] == {f"model:{ENTRY}", f"training:{NAME}/mood"}
    assert {f"application:{NAME}", "package:llm-platform"} == needs["deployment"]
    assert parts["package:duckdb"]["version"] == "1.5.5"
    assert "package:duckdb" in needs["package:llm-platform"]


def test_models_have_cards_with_what_was_measured_and_trained_on(team: Team) -> None:
    """A model in a list of packages says nothing without what it was approved for."""
    cards = {part["bom-ref"]: part["modelCard"] for part in document(team)["components"] if "modelCard" in part}

    (metric,) = cards[f"model:{ENTRY}"]["quantitativeAnalysis"]["performanceMetrics"]
    assert (metric["type"], metric["value"], metric["slice"]) == ("accuracy", "0.9", f"{NAME}/clear")
    assert metric["confidenceInterval"] == {"lowerBound": "0.85", "upperBound": "0.95"}
    assert cards[f"adapter:{NAME}/mood"]["modelParameters"]["datasets"] == [{"ref": f"training:{NAME}/mood"}]


def test_a_document_that_breaks_the_schema_is_refused(team: Team) -> None:
    """The cards are added to what the library writes, so the whole is checked again."""
    broken = document(team)
    for part in broken["components"]:
        if "modelCard" in part:
            part["modelCard"]["modelParameters"]["approach"] = {"type": "guesswork"}

    with pytest.raises(ContractBroken, match=r"at components/\d+/modelCard/modelParameters/approach/type"):
        require_valid(json.dumps(broken))
