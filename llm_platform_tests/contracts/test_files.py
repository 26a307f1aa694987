"""What stands beside a table is read by the tools of others."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.resources import files

import jsonschema
import pytest
import yaml
from jsonschema import Draft202012Validator
from open_data_contract_standard.model import OpenDataContractStandard

from llm_platform.contracts.files import contract_files, json_schema, odcs_text
from llm_platform.records.contracts import Contract
from llm_platform_tests.contracts.builders import INVOICE, contract

ROW = {
    "document_id": "a",
    "vendor": "Acme",
    "total": "12.50",
    "total_currency": "EUR",
    "due": "2026-03-01",
    "kind": "invoice",
    "note": None,
    "confidence": None,
    "release_id": "r",
    "variant": "plain",
    "answered_at": "2026-03-01T12:00:00Z",
    "status": "valid",
    "reason": None,
    "fingerprint": "f",
    "source_snapshot": None,
    "documents_snapshot": 3,
    "published_at": "2026-03-01T12:00:00Z",
}
PROMISED = contract(INVOICE, freshness_hours=24.0, completeness=0.98, columns={"note": {"deprecated": True}})


@pytest.mark.parametrize(
    "found",
    [
        pytest.param(PROMISED, id="extract"),
        pytest.param(contract(labels=("HAPPY", "SAD")), id="classify"),
        pytest.param(contract(), id="generate"),
        pytest.param(contract({"parts": {"type": "list"}}), id="a-list"),
    ],
)
def test_the_standards_own_schema_takes_the_file(found: Contract) -> None:
    """A file that says it is of a standard, and is not, breaks the catalogue that reads it."""
    read = yaml.safe_load(odcs_text(found))
    schema = json.loads((files("open_data_contract_standard") / "schema.json").read_text(encoding="utf-8"))

    jsonschema.validators.validator_for(schema)(schema).validate(read)
    Draft202012Validator.check_schema(json_schema(found))


def test_the_file_of_the_standard_says_what_is_promised() -> None:
    """Columns with their types and meanings, the key, the owner, and how fresh and complete it is."""
    read = OpenDataContractStandard.from_string(odcs_text(PROMISED))

    assert read.schema_ is not None
    assert read.schema_[0].properties is not None
    columns = {one.name: one for one in read.schema_[0].properties}
    assert (read.version, read.team.name) == ("1.0.0", "team:books")  # type: ignore[union-attr]
    assert columns["document_id"].primaryKey
    assert (columns["due"].logicalType, columns["due"].physicalType) == ("date", "DATE")
    assert columns["vendor"].description == "Who wants the money"
    assert [one.value for one in columns["kind"].enum or []] == ["invoice", "reminder"]
    assert columns["note"].deprecated
    assert {one.property: one.value for one in read.slaProperties or []} == {"latency": 24.0, "completeness": 0.98}


@pytest.mark.parametrize(
    ("changed", "fits"),
    [
        pytest.param({}, True, id="a-valid-row"),
        pytest.param({"vendor": None, "kind": None, "status": "invalid", "reason": "cut off"}, True, id="no-answer"),
        pytest.param({"one_more": 1}, True, id="a-column-of-a-later-minor-version"),
        pytest.param({"vendor": None}, False, id="a-hole-beside-a-valid-answer"),
        pytest.param({"kind": "offer"}, False, id="a-value-that-there-is-not"),
        pytest.param({"vendor": "x" * 41}, False, id="too-long"),
        pytest.param({"confidence": 1.5}, False, id="a-confidence-above-1"),
        pytest.param({"document_id": None}, False, id="no-key"),
    ],
)
def test_a_row_is_held_against_the_json_schema(changed: dict[str, object], fits: bool) -> None:
    """It is what a consumer's own test takes, so it has to refuse what was never promised."""
    assert Draft202012Validator(json_schema(PROMISED)).is_valid({**ROW, **changed}) is fits


def test_files_are_named_like_the_table() -> None:
    """Whoever finds the table finds its contract."""
    assert list(contract_files(contract(INVOICE, contract=3))) == ["published_v3.odcs.yaml", "published_v3.schema.json"]


def test_a_bulk_run_loads_neither_library() -> None:
    """Each costs every process 0.15 s and some MiB; only a contract that changed is worth that."""
    said = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, llm_platform.defs.rollout, llm_platform.cli.contract; "
            "print(sorted({'sqlglot', 'open_data_contract_standard'} & set(sys.modules)))",
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    assert said.splitlines()[-1] == "[]"
