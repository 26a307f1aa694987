from __future__ import annotations

import json
import time
import unicodedata

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_platform.application.documents import Documents
from llm_platform.application.source import Source
from llm_platform.documents.normalize import normalized
from llm_platform.documents.prepare import BATCH_SCHEMA, bucket_of, prepare
from llm_platform.errors import ContractBroken

SOURCE = Source(url="reviews.csv", key="id", text="review")


def documents_of(texts: object, *, max_characters: int = 100) -> list[dict[str, object]]:
    column = texts if isinstance(texts, pa.Array) else pa.array(texts)
    batch = pa.record_batch({"id": [f"d-{n}" for n in range(len(column))], "review": column})
    (made,) = prepare([batch], SOURCE, Documents(max_characters=max_characters))
    assert made.schema == BATCH_SCHEMA
    return list(made.to_pylist())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("one\r\ntwo\rthree\n", "one\ntwo\nthree", id="line-ends"),
        pytest.param("cafe\u0301", "café", id="composed"),
        pytest.param("a\x00b\x1b[1mc\x7f\x85\tx", "ab[1mc\tx", id="control-characters-but-not-tab"),
        pytest.param("  \n one  \t\n\n  two \n\n", "one\n\n  two", id="trailing-and-outer-space"),
        pytest.param("a\u200bb  c {{ d }} <br />", "a\u200bb  c {{ d }} <br />", id="nothing-else"),
        pytest.param("a\x00\u0301", "á", id="composed-once-the-control-character-is-gone"),
    ],
)
def test_a_text_has_one_form(text: str, expected: str) -> None:
    """Two texts that read the same must have one fingerprint, and no more may be changed than that takes."""
    assert normalized(text) == expected


@given(st.text())
def test_normalizing_twice_is_normalizing_once(text: str) -> None:
    """A text that is read back and normalized again would otherwise be another document."""
    once = normalized(text)

    assert normalized(once) == once
    assert unicodedata.is_normalized("NFC", once)


@pytest.mark.parametrize(
    ("text", "status", "reason"),
    [
        pytest.param(b"fine", "sendable", None, id="sendable"),
        pytest.param(None, "empty", "the text is null", id="null"),
        pytest.param(b"", "empty", "nothing is left of 0 characters after normalization", id="zero-bytes"),
        pytest.param(
            b" \x00\x01\r\n", "empty", "nothing is left of 5 characters after normalization", id="control-characters"
        ),
        pytest.param(b"x" * 101, "oversized", "101 characters, more than documents.max_characters (100)", id="long"),
        pytest.param("é".encode() * 100, "sendable", None, id="characters-are-counted-not-bytes"),
        pytest.param(b"ab\xe9c", "undecodable", "not UTF-8: byte 0xe9 at position 2 of 4 bytes", id="latin-1"),
        pytest.param(b"\xff\xfea\x00", "undecodable", "not UTF-8: byte 0xff at position 0 of 4 bytes", id="utf-16"),
        pytest.param(b"a\xed\xa0\x80", "undecodable", "not UTF-8: byte 0xed at position 1 of 4 bytes", id="surrogate"),
        pytest.param(
            "a\ufffd\ufffd".encode(),
            "undecodable",
            "2 of 3 characters are U+FFFD: the text was decoded in another encoding before",
            id="decoded-wrongly-before",
        ),
        pytest.param("a\ufffdb".encode(), "sendable", None, id="one-replacement-character"),
        pytest.param(b"{{ text }}{% for %}", "sendable", None, id="template-in-the-text"),
    ],
)
def test_every_text_becomes_a_document_with_a_status(text: bytes | None, status: str, reason: str | None) -> None:
    """What cannot be sent is kept with its reason; a document that vanishes is one that nobody misses."""
    (document,) = documents_of(pa.array([text], pa.binary()))

    assert (document["status"], document["reason"]) == (status, reason)


def test_a_string_column_with_bytes_that_are_not_utf_8_is_undecodable() -> None:
    """Parquet files written elsewhere hold such columns, and Python's decoder must not end the run."""
    column = pa.array([b"good", b"b\xe9d"], pa.binary()).view(pa.string())

    assert [document["status"] for document in documents_of(column)] == ["sendable", "undecodable"]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.binary(), pa.dictionary(pa.int32(), pa.string())])
def test_texts_of_every_column_type_are_the_same_documents(kind: pa.DataType) -> None:
    """The type is a matter of the file format, not of the document."""
    (document,) = documents_of(pa.array(["same"]).cast(kind))

    assert document["text"] == "same"
    assert document["fingerprint"] == documents_of(["same \r\n"])[0]["fingerprint"]


def test_ten_megabytes_are_kept_whole_and_quickly() -> None:
    """One huge document, also one of blanks only, must not hold up the others."""
    texts = [b"x" * 10_000_000, b" " * 10_000_000 + b"x", b"a \r\n" * 2_500_000]

    started = time.process_time()
    documents = documents_of(pa.array(texts, pa.binary()), max_characters=20_000)

    assert [document["status"] for document in documents] == ["oversized", "sendable", "oversized"]
    assert len(str(documents[0]["text"])) == 10_000_000
    assert time.process_time() - started < 10


def test_undecodable_texts_that_look_alike_stay_apart() -> None:
    """They would otherwise be one document whose change is never noticed."""
    one, two = documents_of(pa.array([b"\xe9", b"\xe8"], pa.binary()))

    assert one["text"] == two["text"]
    assert one["fingerprint"] != two["fingerprint"]


def test_a_fingerprint_covers_the_text_and_the_attributes_that_prompts_read() -> None:
    """A changed value that no prompt reads must not ask a model again; one that a prompt reads must."""
    source = SOURCE.model_copy(update={"attributes": ("origin", "views")})

    def fingerprint(text: str, origin: str, views: int, **options: tuple[str, ...]) -> str:
        batch = pa.record_batch({"id": ["a"], "review": [text], "origin": [origin], "views": [views]})
        (made,) = prepare([batch], source, Documents(), **options)
        return str(made.column("fingerprint")[0].as_py())

    read = {"read_by_prompts": ("origin",)}
    base = fingerprint("t", "web", 1, **read)
    assert fingerprint("t", "web", 2, **read) == base
    assert fingerprint("t", "app", 1, **read) != base
    assert fingerprint("u", "web", 1, **read) != base
    assert fingerprint("t", "web", 1) != fingerprint("t", "web", 2)
    assert len(base) == 32


def test_attributes_are_canonical_json_of_texts() -> None:
    """Prompts print them and slices group by them, whatever type the column has."""
    source = SOURCE.model_copy(update={"attributes": ("z", "a", "when")})
    columns = {
        "id": ["1", "2"],
        "review": ["x", "y"],
        "z": pa.array([{"b": 1.5, "a": None}, None]),
        "a": pa.array([True, None]),
        "when": pa.array([0, 1], pa.timestamp("s")),
    }

    (made,) = prepare([pa.record_batch(columns)], source, Documents())

    assert [json.loads(value) for value in made.column("attributes").to_pylist()] == [
        {"a": "true", "when": "1970-01-01 00:00:00", "z": '{"a":null,"b":1.5}'},
        {"a": None, "when": "1970-01-01 00:00:01", "z": None},
    ]
    assert made.column("attributes")[0].as_py().startswith('{"a":')


def test_keys_of_any_type_are_texts_and_decide_the_bucket() -> None:
    """The bucket is stored: it must be the same on every machine and for ever."""
    batch = pa.record_batch({"id": [7, 8], "review": ["x", "y"]})

    (made,) = prepare([batch], SOURCE, Documents(buckets=16))

    assert made.column("document_id").to_pylist() == ["7", "8"]
    assert made.column("bucket").to_pylist() == [bucket_of("7", 16), bucket_of("8", 16)] == [14, 7]


def test_buckets_are_about_equally_full() -> None:
    """A partition per bucket is only useful when none holds most of the documents."""
    sizes = [0] * 16
    for number in range(16_000):
        sizes[bucket_of(f"imdb-{number:05d}", 16)] += 1

    assert min(sizes) > 850
    assert max(sizes) < 1150


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        pytest.param(
            {"id": ["a", None, ""], "review": ["x", "y", "z"]},
            "2 of 3 rows of source 'reviews.csv' have no key (column 'id' is null or empty). "
            "Give every row a key of its own, or leave these rows out of the source.",
            id="null-key",
        ),
        pytest.param(
            {"id": ["a"], "body": ["x"]},
            "Source 'reviews.csv' has no column 'review'; it has 'id', 'body'. "
            "Name other columns in application.yaml, or bring them back.",
            id="missing-column",
        ),
        pytest.param(
            {"id": ["a"], "review": [["x"]]},
            "Column 'review' of source 'reviews.csv' has type list<item: string>, which is not "
            "text. "
            "Choose a text column as source.text.",
            id="text-that-is-a-list",
        ),
    ],
)
def test_rows_of_another_shape_are_refused(batch: dict[str, object], message: str) -> None:
    """Documents made from wrong columns would be paid for and published."""
    with pytest.raises(ContractBroken) as raised:
        list(prepare([pa.record_batch(batch)], SOURCE, Documents()))

    assert str(raised.value) == message


def test_a_hundred_thousand_short_documents_take_seconds() -> None:
    """0.8–1.1 s were measured on a quiet core; the sensor's every run pays this."""
    count = 100_000
    texts = [f"A lovely film, number {n}, with café.\r\n" for n in range(count)]
    batch = pa.record_batch({"id": pa.array(range(count)), "review": texts, "origin": ["imdb", "rt"] * (count // 2)})
    source = SOURCE.model_copy(update={"attributes": ("origin",)})

    started = time.process_time()
    made = list(prepare([batch], source, Documents()))

    assert sum(part.num_rows for part in made) == count
    assert time.process_time() - started < 5
