"""Published tables have the columns of their contract, each in its own type, and all of them are filled at once."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from llm_platform.application.model import Application
from llm_platform.application.publish import ContractBeside
from llm_platform.contracts.files import contract_files
from llm_platform.contracts.shape import contract_of, filled_from
from llm_platform.errors import ContractBroken
from llm_platform.records import canonical_json
from llm_platform.records.contracts import Contract, text_contract
from llm_platform.warehouse.copies import FolderPlace
from llm_platform.warehouse.lake import Warehouse
from llm_platform_tests.warehouse.builders import (
    NOON,
    RELEASE_ID,
    answer_all,
    batch,
    completion,
    consumed,
    document,
    fill,
)

FIELDS = {
    "number": {"type": "string", "max_length": 20},
    "pages": {"type": "integer"},
    "weight": {"type": "number", "required": False},
    "paid": {"type": "boolean"},
    "due": {"type": "date"},
    "total": {"type": "money"},
    "parts": {"type": "list"},
    "kind": {"type": "enum", "values": ["invoice", "reminder"]},
    "status": {"type": "string"},
    "a/b~c": {"type": "string", "required": False},
}
ANSWER = {
    "number": "R-1",
    "pages": 3,
    "weight": None,
    "paid": True,
    "due": "2026-03-04",
    "total": "1.234,50 €",
    "parts": ["bolt", 'nut, "m6"'],
    "kind": "invoice",
    "status": "new",
    "a/b~c": "slash",
}


def invoices(fields: Mapping[str, Any] = FIELDS, **publish: Any) -> Contract:
    """The contract of an extraction of invoices."""
    return contract_of(
        Application.model_validate(
            {
                "name": "reviews",
                "title": "Invoices",
                "owners": ("team:books",),
                "task": "extract",
                "fields": fields,
                "source": {"url": "invoices.csv", "key": "id", "text": "body"},
                "variants": {"plain": {"prompt": "plain", "model": "tiny"}},
                "evaluation": {"gates": {}},
                "publish": publish,
            }
        )
    )


def answered(lake: Warehouse, answers: Mapping[str, Mapping[str, Any] | None]) -> None:
    """Documents with these answers; None is one that is invalid."""
    fill(lake, list(answers))
    with lake.application("reviews").completions.lease(RELEASE_ID, holder="test") as lease:
        lake.application("reviews").completions.append(
            lease,
            [
                completion(key, answer=None if one is None else canonical_json(dict(one)), confidence=None)
                for key, one in answers.items()
            ],
        )


def test_a_field_is_a_column_of_its_own_type(lake: Warehouse) -> None:
    """A reader who has to take JSON apart writes a parser, and each writes another one."""
    answered(lake, {"a": ANSWER, "b": None})
    published = lake.application("reviews").published
    contract = invoices()

    published.publish(RELEASE_ID, [contract], variant="plain")

    table = published.table(1)
    first, second = table.to_pylist()
    assert {name: str(table.schema.field(name).type) for name in ("pages", "weight", "paid", "due", "total")} == {
        "pages": "int64",
        "weight": "double",
        "paid": "bool",
        "due": "date32[day]",
        "total": "decimal128(18, 4)",
    }
    assert "answer" not in first
    assert first["pages"] == 3
    assert first["weight"] is None
    assert first["paid"] is True
    assert first["due"] == date(2026, 3, 4)
    assert (first["total"], first["total_currency"]) == (Decimal("1234.5000"), "EUR")
    assert first["parts"] == ["bolt", 'nut, "m6"']
    assert (first["kind"], first["answer_status"], first["a/b~c"]) == ("invoice", "new", "slash")
    assert (first["status"], first["variant"], first["release_id"]) == ("valid", "plain", RELEASE_ID)
    assert first["answered_at"] == NOON
    assert second["number"] is None
    assert second["answered_at"] is None
    assert second["reason"] == "the answer is invalid"
    assert published.violations(contract) == []
    assert published.publish(RELEASE_ID, [contract], variant="plain").changed == 0


@pytest.mark.parametrize(
    ("field", "said", "why"),
    [
        ("due", "2026-02-31", "the value of 'due' is no day"),
        ("total", "about twelve", "the value of 'total' is no amount of money"),
        ("total", "9" * 20 + " EUR", "the value of 'total' is no amount of money"),
        ("pages", 10**30, "the value of 'pages' is no number that a column takes"),
    ],
)
def test_a_value_that_no_column_takes_is_null_with_the_reason(
    local_lake: Warehouse, field: str, said: Any, why: str
) -> None:
    """One answer with 31 February must keep no other row from readers, and must not be a silent hole."""
    answered(local_lake, {"a": {**ANSWER, field: said}, "b": ANSWER})
    published = local_lake.application("reviews").published

    published.publish(RELEASE_ID, [invoices()])

    first, second = published.table(1).to_pylist()
    assert (first[field], first["status"], first["reason"]) == (None, "valid", why)
    assert first["number"] == "R-1"
    assert (second["reason"], second[field] is None) == (None, False)
    assert published.publish(RELEASE_ID, [invoices()]).changed == 0


def test_a_column_that_is_new_is_filled_in_every_row(local_lake: Warehouse) -> None:
    """Rows whose answer did not change have the new column all the same."""
    answered(local_lake, {"a": ANSWER, "b": ANSWER})
    published = local_lake.application("reviews").published
    few = {name: FIELDS[name] for name in ("number", "pages")}
    published.publish(RELEASE_ID, [invoices(few)])

    change = published.publish(RELEASE_ID, [invoices({**few, "due": FIELDS["due"]}, version="1.1.0")])

    assert change.updated == 2
    assert published.table(1)["due"].to_pylist() == [date(2026, 3, 4)] * 2


def test_a_column_may_keep_its_name_when_its_field_is_renamed(local_lake: Warehouse) -> None:
    """What a prompt calls a field is nobody's business but the team's."""
    answered(local_lake, {"a": {"vendor": "Acme"}})
    published = local_lake.application("reviews").published

    published.publish(RELEASE_ID, [invoices({"vendor": {"type": "string"}}, columns={"supplier": {"field": "vendor"}})])

    assert published.table(1)["supplier"].to_pylist() == ["Acme"]
    assert "vendor" not in published.table(1).column_names


def test_a_table_of_an_older_version_gets_the_new_columns(lake: Warehouse) -> None:
    """An upgrade must not ask anybody to make a table again."""
    fill(lake, "ab")
    answer_all(lake)
    store = lake.application("reviews")
    store._session.write(
        "reviews",
        lambda transaction: transaction.run(
            "CREATE TABLE lake.reviews.published_v1 AS SELECT document_id, 'HAPPY' AS answer, 0.75::DOUBLE AS "
            "confidence, 'release-1' AS release_id, 'valid' AS status, NULL::VARCHAR AS reason, fingerprint, "
            "1::BIGINT AS source_snapshot, 1::BIGINT AS documents_snapshot, now() AS published_at "
            "FROM lake.reviews.documents"
        ),
    )
    store._session._columns.clear()
    assert store.published.table(1)["variant"].to_pylist() == [None, None]

    change = store.published.publish(RELEASE_ID, [text_contract(1, application="reviews")], variant="plain")

    assert change.updated == 2
    assert store.published.table(1)["variant"].to_pylist() == ["plain", "plain"]
    assert store.published.table(1)["answered_at"].to_pylist() == [NOON, NOON]


def test_both_tables_are_filled_and_lose_what_has_left(local_lake: Warehouse) -> None:
    """Today's fault: the table of contract 1 stood still from the day of contract 2, with rows deleted upstream."""
    fill(local_lake, "abc")
    answer_all(local_lake)
    published = local_lake.application("reviews").published
    old, new = text_contract(1, application="reviews"), text_contract(2, application="reviews")
    published.publish(RELEASE_ID, [old])

    published.publish(RELEASE_ID, [new, old])
    fill(local_lake, "ab")
    published.publish(RELEASE_ID, [new, old])

    assert published.numbers() == (1, 2)
    assert published.table(1)["document_id"].to_pylist() == ["a", "b"] == published.table(2)["document_id"].to_pylist()


def test_readers_of_the_other_table_get_their_own_labels_and_columns(local_lake: Warehouse) -> None:
    """A breaking change is no break for those who stay."""
    answered(local_lake, {"a": {"vendor": "Acme"}})
    published = local_lake.application("reviews").published
    before = invoices({"supplier": {"type": "string"}})
    beside = ContractBeside(fields={"supplier": "vendor"})

    published.publish(RELEASE_ID, [invoices({"vendor": {"type": "string"}}, contract=2), filled_from(before, beside)])

    assert published.table(1)["supplier"].to_pylist() == published.table(2)["vendor"].to_pylist() == ["Acme"]


def test_a_retired_table_is_gone(local_lake: Warehouse) -> None:
    """A table that is no longer filled keeps rows that were deleted upstream."""
    fill(local_lake, "a")
    answer_all(local_lake)
    published = local_lake.application("reviews").published
    old, new = text_contract(1, application="reviews"), text_contract(2, application="reviews")
    published.publish(RELEASE_ID, [old])

    published.publish(RELEASE_ID, [new], retired=[1])

    assert published.numbers() == (2,)
    assert published.table(1).num_rows == 0


def test_a_row_that_keeps_no_promise_keeps_the_table_as_it_was(local_lake: Warehouse) -> None:
    """What readers were promised is looked at in the transaction that writes."""
    fill(local_lake, "ab")
    answer_all(local_lake)
    published = local_lake.application("reviews").published
    promised = text_contract(1, application="reviews")
    answer = promised.columns[1].model_copy(update={"values": ("SAD",)})
    promised = promised.model_copy(update={"columns": (promised.columns[0], answer, *promised.columns[2:])})

    with pytest.raises(ContractBroken, match=r"2 rows have a 'answer' that is none of its values \(first: 'a'\)"):
        published.publish(RELEASE_ID, [promised])

    assert published.numbers() == ()


def test_what_was_promised_is_stored_with_the_rows(local_lake: Warehouse) -> None:
    """Who wants to know what held last month reads it in the lake."""
    answered(local_lake, {"a": ANSWER})
    store = local_lake.application("reviews")
    few = {"number": FIELDS["number"]}
    store.published.publish(RELEASE_ID, [invoices(few)])
    store.published.publish(RELEASE_ID, [invoices(few)])

    store.published.publish(RELEASE_ID, [invoices({**few, "pages": FIELDS["pages"]}, version="1.1.0")])

    history = store.contracts.history(1)
    assert [one.version for one, _ in history] == ["1.0.0", "1.1.0"]
    assert store.contracts.published()[1].version == "1.1.0"


def test_a_folder_follows_the_tables(local_lake: Warehouse, tmp_path: Path) -> None:
    """Whoever opens a file finds one complete version, and beside it what it promises."""
    fill(local_lake, "ab")
    answer_all(local_lake)
    store = local_lake.application("reviews")
    old, new = text_contract(1, application="reviews"), text_contract(2, application="reviews")
    place = FolderPlace(tmp_path / "out")
    store.published.publish(RELEASE_ID, [new, old])

    first = store.copies.bring([new, old], [place], files=contract_files)
    again = store.copies.bring([new, old], [place], files=contract_files)
    store.published.publish(RELEASE_ID, [new], retired=[1])
    last = store.copies.bring([new], [place], files=contract_files)

    assert len(first) == 2
    assert again == []
    assert last == [f"{tmp_path / 'out' / 'published_v1.parquet'} was taken away"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "published_v2.odcs.yaml",
        "published_v2.parquet",
        "published_v2.schema.json",
    ]


def test_documents_that_were_never_answered_have_a_reason(local_lake: Warehouse) -> None:
    """NULL without a reason looks like a fault of the reader's query."""
    store = local_lake.application("reviews")
    rows = [document("a"), document("b", status="empty", reason=None)]
    store.documents.apply(batch(rows), deleted=None, full=True, consumed=consumed())

    store.published.publish(RELEASE_ID, [text_contract(1, application="reviews")])

    assert store.published.table(1)["reason"].to_pylist() == [
        "no answer of this release is stored",
        "the document is empty",
    ]
    assert datetime.now(UTC) >= store.published.table(1)["published_at"].to_pylist()[0]
