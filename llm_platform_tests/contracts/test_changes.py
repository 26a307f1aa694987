"""A promise may become stronger within a major version, and never weaker."""

from __future__ import annotations

from typing import Any

import pytest

from llm_platform.application.publish import ContractBeside
from llm_platform.contracts.changes import changes, next_version
from llm_platform.contracts.shape import contract_of, filled_from, why_not_filled
from llm_platform_tests.contracts.builders import INVOICE, application, contract, release


def other(**fields: Any) -> dict[str, Any]:
    """The invoice with some fields changed; None takes one away."""
    return {name: one for name, one in {**INVOICE, **fields}.items() if one is not None}


CHANGES = [
    pytest.param(other(), {}, "1.0.0", [], id="nothing"),
    pytest.param(other(region={"type": "string"}), {}, "1.1.0", ["region is new, a string"], id="new-column"),
    pytest.param(other(vendor=None), {}, "2.0.0", ["vendor is gone"], id="column-gone"),
    pytest.param(
        other(due={"type": "string", "required": False}),
        {},
        "2.0.0",
        ["due is a string, and was a date"],
        id="other-type",
    ),
    pytest.param(
        other(total={"type": "number", "required": False}),
        {},
        "2.0.0",
        ["total is a number, and was a money", "total_currency is gone"],
        id="money-has-a-currency",
    ),
    pytest.param(
        other(vendor={**INVOICE["vendor"], "required": False}),
        {},
        "2.0.0",
        ["vendor may be NULL beside a valid answer, which it never was"],
        id="may-be-null",
    ),
    pytest.param(
        other(note={"type": "string"}), {}, "1.1.0", ["note is never NULL beside a valid answer"], id="never-null"
    ),
    pytest.param(
        other(kind={"type": "enum", "values": ["invoice", "reminder", "offer"]}),
        {},
        "2.0.0",
        ["kind may have the values 'offer', which it never had"],
        id="value-added",
    ),
    pytest.param(
        other(kind={"type": "enum", "values": ["invoice"]}),
        {},
        "1.1.0",
        ["kind has only the values invoice"],
        id="value-taken-away",
    ),
    pytest.param(
        other(kind={"type": "string"}),
        {},
        "2.0.0",
        ["kind may have any value, and had invoice, reminder"],
        id="values-opened",
    ),
    pytest.param(
        other(vendor={**INVOICE["vendor"], "max_length": 80}),
        {},
        "2.0.0",
        ["vendor max_length is 80, and was 40"],
        id="longer",
    ),
    pytest.param(
        other(vendor={**INVOICE["vendor"], "max_length": 20}),
        {},
        "1.1.0",
        ["vendor max_length is 20, and was 40"],
        id="shorter",
    ),
    pytest.param(
        other(vendor={**INVOICE["vendor"], "description": "The creditor"}),
        {},
        "1.0.1",
        ["vendor is described in other words"],
        id="words",
    ),
    pytest.param(other(), {"owner": "team:sales"}, "1.0.1", ["None owner is another one"], id="owner"),
    pytest.param(other(), {"freshness_hours": 12.0}, "1.1.0", ["None freshness_hours is 12, and was 24"], id="fresher"),
    pytest.param(
        other(), {"freshness_hours": 48.0}, "2.0.0", ["None freshness_hours is 48, and was 24"], id="less-fresh"
    ),
    pytest.param(
        other(), {"freshness_hours": None}, "2.0.0", ["None freshness_hours 24 is promised no more"], id="no-promise"
    ),
    pytest.param(other(), {"completeness": 0.9}, "1.1.0", ["None completeness is promised: 0.9"], id="a-new-promise"),
    pytest.param(
        other(), {"columns": {"note": {"deprecated": True}}}, "1.1.0", ["note is deprecated"], id="deprecated"
    ),
    pytest.param(
        other(vendor=None, creditor=INVOICE["vendor"]),
        {"columns": {"vendor": {"field": "creditor"}}},
        "1.0.0",
        [],
        id="a-field-renamed-under-its-column",
    ),
]


@pytest.mark.parametrize(("fields", "publish", "version", "said"), CHANGES)
def test_what_a_change_is_to_readers(
    fields: dict[str, Any], publish: dict[str, Any], version: str, said: list[str]
) -> None:
    """Whoever edits a file learns from this which number is due, so each kind of change has to be known."""
    before = contract(INVOICE, freshness_hours=24.0)
    after = contract(fields, **{"freshness_hours": 24.0, **publish})

    found = changes(before, after)

    assert [f"{one.column} {one.text}" for one in found] == said
    assert next_version(before, found) == version


def test_an_answer_that_becomes_another_one_is_a_break() -> None:
    """Readers of a label branch on its values, and readers of a text on none."""
    labels = contract(labels=("HAPPY", "SAD"))

    assert next_version(labels, changes(labels, contract(labels=("HAPPY", "SAD", "MIXED")))) == "2.0.0"
    assert next_version(labels, changes(labels, contract(INVOICE))) == "2.0.0"
    assert next_version(contract(), changes(contract(), labels)) == "1.1.0"


def test_another_key_of_the_source_is_a_break() -> None:
    """Readers join on it: with other values under the same name every join finds nothing, and nobody is told."""
    before = contract(INVOICE)
    after = before.model_copy(update={"source_key": "number"})
    of_older_versions = before.model_copy(update={"source_key": None})

    assert [one.text for one in changes(before, after)] == ["is 'number' of the source, and was 'id'"]
    assert next_version(before, changes(before, after)) == "2.0.0"
    assert changes(of_older_versions, after) == ()
    assert before.content_id == of_older_versions.content_id


def test_names_that_every_row_has_are_not_taken_by_fields() -> None:
    """A field called `status` is as likely as any; it must not hide why a row has no answer."""
    found = contract({"status": {"type": "string"}, "Answer": {"type": "string"}, "Reason": {"type": "money"}})

    assert [one.name for one in found.answers] == [
        "answer_status",
        "answer_Answer",
        "answer_Reason",
        "answer_Reason_currency",
    ]


def test_readers_learn_no_secret_of_the_source() -> None:
    """The contract is handed to everybody; the address of a source may hold a password and a token."""
    found = contract(INVOICE)

    assert found.source == "https://host/invoices.csv"
    assert "s3cret" not in found.model_dump_json()
    assert "sig=" not in found.model_dump_json()


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        pytest.param(other(), None, id="the-same"),
        pytest.param(other(region={"type": "string"}), None, id="more-than-is-promised"),
        pytest.param(
            other(vendor=None), "column 'vendor' is filled from a field 'vendor', which is not answered", id="gone"
        ),
        pytest.param(
            other(due={"type": "string"}), "column 'due' is a date, and field 'due' a string", id="other-type"
        ),
        pytest.param(
            other(kind={"type": "enum", "values": ["invoice", "offer"]}),
            "column 'kind' has the values 'invoice', 'reminder', and not 'offer'",
            id="other-values",
        ),
        pytest.param(
            other(kind={"type": "string"}),
            "column 'kind' has the values 'invoice', 'reminder', and field 'kind' any",
            id="any-value",
        ),
        pytest.param(
            other(vendor={**INVOICE["vendor"], "required": False}),
            "column 'vendor' is never NULL beside an answer, and field 'vendor' may be",
            id="may-be-null",
        ),
        pytest.param(
            other(vendor={"type": "string"}),
            "column 'vendor' has at most 40 characters, and field 'vendor' more",
            id="longer",
        ),
    ],
)
def test_a_release_says_what_it_cannot_fill(fields: dict[str, Any], why: str | None) -> None:
    """It is read from what the release was asked for, whatever the files say by now."""
    assert why_not_filled(contract(INVOICE), release(fields)) == ([] if why is None else [why])


def test_another_table_is_filled_from_what_it_says() -> None:
    """A renamed field and a finer label need no second release for those who stay."""
    old = contract({"supplier": {"type": "string"}})
    renamed = filled_from(old, ContractBeside(fields={"supplier": "vendor"}))
    labels = contract(labels=("HAPPY", "SAD"))
    mapped = filled_from(labels, ContractBeside(labels={"MIXED": "SAD"}))
    finer = release(labels=("HAPPY", "SAD", "MIXED"))

    assert why_not_filled(old, release({"vendor": {"type": "string"}})) != []
    assert why_not_filled(renamed, release({"vendor": {"type": "string"}})) == []
    assert why_not_filled(labels, finer) == ["column 'answer' has the values 'HAPPY', 'SAD', and not 'MIXED'"]
    assert why_not_filled(mapped, finer) == []


def test_words_of_columns_are_the_applications() -> None:
    """A description is stated once, beside the field or under `publish`."""
    found = contract_of(application(INVOICE, columns={"due": {"description": "Last day", "type": "date"}}))

    assert {one.name: one.description for one in found.columns if one.name in ("vendor", "due")} == {
        "vendor": "Who wants the money",
        "due": "Last day",
    }
