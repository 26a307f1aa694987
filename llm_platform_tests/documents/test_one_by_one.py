"""A document that comes by itself is the one that the source's row would be."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_platform.application.documents import Documents, Redaction
from llm_platform.application.source import Source
from llm_platform.documents.prepare import ONLINE_PREFIX, OneByOne, TakingOut, prepare, prepared_batch
from llm_platform.errors import ContractBroken
from llm_platform.redaction.kinds import INSTALL, installed
from llm_platform.redaction.redactor import Redactor

ONE = Source(url="t.csv", key="id", text="body", attributes=("team", "size"))
SEVERAL = Source(url="t.csv", key="id", text=("title", "body"), attributes=("team",))
TEMPLATE = Source(url="t.csv", key="id", text="{{ title }}: {{ body }}", attributes=("team",))
RULES = Documents(max_characters=40, buckets=4)

TEXTS = st.one_of(
    st.none(),
    st.text(max_size=60),
    st.sampled_from(["", " ", "a\r\nb", "é", "e\u0301", "a\x00b", "\ufffd\ufffd", "x" * 41, " padded \t\n"]),
)
KEYS = st.sampled_from(["a", "key 1", "e\u0301", "ключ"])


@pytest.mark.parametrize("source", [ONE, SEVERAL, TEMPLATE], ids=["one", "several", "template"])
@given(key=KEYS, title=TEXTS, body=TEXTS, team=TEXTS)
def test_it_is_what_the_row_of_a_table_is(
    source: Source, key: str, title: str | None, body: str | None, team: str | None
) -> None:
    """Equal texts have to have equal fingerprints, or both would be paid for."""
    values: dict[str, Any] = {"title": title, "body": body, "team": team, "size": None}
    row = {"id": key, **values}
    batch = pa.record_batch({name: pa.array([row[name]], pa.string()) for name in source.columns})
    [wanted] = prepare([batch], source, RULES, read_by_prompts=["team"])

    found = OneByOne(source, RULES, read_by_prompts=["team"]).document(values, key=key)

    assert prepared_batch([found], RULES).to_pylist() == wanted.to_pylist()


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        pytest.param([1, 20, None], pa.int64(), id="integers"),
        pytest.param([1.5, 2.0, 1e20], pa.float64(), id="floats"),
        pytest.param([True, False], pa.bool_(), id="booleans"),
        pytest.param([["a", "é"]], pa.list_(pa.string()), id="lists"),
    ],
)
def test_attributes_of_other_types_are_the_texts_that_the_table_makes_of_them(
    values: list[Any], kind: pa.DataType
) -> None:
    """Fingerprints cover them."""
    making = OneByOne(ONE, RULES)
    for value in values:
        batch = pa.record_batch(
            {"id": ["k"], "body": ["text"], "team": pa.array([value], kind), "size": pa.array([None], pa.string())}
        )
        [wanted] = prepare([batch], ONE, RULES)

        found = making.document({"body": "text", "team": value}, key="k")

        assert prepared_batch([found], RULES).to_pylist() == wanted.to_pylist()


def test_without_a_key_equal_texts_are_one_document() -> None:
    """A caller that asks twice has one document, and it is routed to one variant."""
    making = OneByOne(ONE, RULES, read_by_prompts=[])
    first = making.document({"body": "the text\r\n", "team": "red"}, key=None).row
    second = making.document({"body": "the text", "team": "blue"}, key=None).row

    assert first.document_id == second.document_id == f"{ONLINE_PREFIX}{first.fingerprint}"


@pytest.mark.parametrize("values", [{"body": ["a"]}, {"body": {"a": 1}}, {"body": "\ud800"}])
def test_what_is_no_text_is_refused_without_being_repeated(values: dict[str, Any]) -> None:
    """A message goes to the caller, and may go into a log."""
    with pytest.raises(ContractBroken, match="'body'"):
        OneByOne(ONE, RULES).document(values, key="k")


@pytest.mark.skipif(installed() is None, reason=f"Presidio is not installed: {INSTALL}")
def test_what_a_caller_sends_is_stored_without_what_is_taken_out_and_made_the_same_document_again() -> None:
    """What is kept is read again by the next run: as another text it would be paid for twice."""
    rule = Redaction(kinds=("EMAIL_ADDRESS",), patterns={"CASE": r"\bT-\d{6}\b"}).rule()
    source = Source(url="t.csv", key="id", text="{{ body }} (from {{ title }})", attributes=("team",))
    making = OneByOne(source, Documents(), taking_out=TakingOut(Redactor(rule), put_back=True))
    values = {
        "title": "b@example.org",
        "body": "a@example.org, T-123456\r\n",
        "team": "a@example.org",
        "other": "x@y.z",
    }

    found = making.document(values, key="1")
    kept = making.storable(values, found.withheld)
    again = making.document(kept, key="1")

    assert found.row.text == "<EMAIL_ADDRESS_1>, <CASE_1>\n (from <EMAIL_ADDRESS_2>)"
    assert found.row.attributes == {"team": "<EMAIL_ADDRESS_1>"}
    assert again.row == found.row
    assert "@" not in repr(kept)
