"""What is said of an endpoint's refusal: which of our phrases fits, and none of its own words."""

from __future__ import annotations

import json

import pytest

from llm_platform.inference.reasons import LONGEST_SAID, finish_reason, refused
from llm_platform.records.refusals import Refusal

SECRET = "张伟 called twice about her unpaid invoice 4711"
LONG = "This model's maximum context length is 4096 tokens. However, your prompt contains 9000 input tokens."


def envelope(message: object, **fields: object) -> bytes:
    return json.dumps({"error": {"message": message, "type": "BadRequestError", "param": None, **fields}}).encode()


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        pytest.param(400, envelope(LONG), Refusal.TOO_LONG, id="context-by-its-wording"),
        pytest.param(400, envelope("x", param="input_tokens"), Refusal.TOO_LONG, id="context-by-its-parameter"),
        pytest.param(400, envelope("x", code="context_length_exceeded"), Refusal.TOO_LONG, id="context-by-its-code"),
        pytest.param(400, envelope("x", code="content_filter"), Refusal.FILTERED, id="filter"),
        pytest.param(429, envelope("x", type="insufficient_quota"), Refusal.QUOTA, id="quota"),
        pytest.param(402, b"", Refusal.QUOTA, id="payment"),
        pytest.param(401, b"<html>", Refusal.KEY, id="key"),
        pytest.param(403, b"", Refusal.FORBIDDEN, id="role"),
        pytest.param(404, envelope("The model `m` does not exist."), Refusal.MODEL, id="model"),
        pytest.param(404, b'{"detail": "Not Found"}', Refusal.PATH, id="path"),
        pytest.param(413, b"<html>", Refusal.TOO_LARGE, id="size"),
        pytest.param(400, envelope("Unsupported parameter: 'top_k'"), Refusal.PARAMETER, id="parameter"),
        pytest.param(400, envelope(SECRET), Refusal.UNEXPLAINED, id="echo"),
        pytest.param(400, envelope([SECRET]), Refusal.UNEXPLAINED, id="message-is-no-text"),
        pytest.param(400, envelope(SECRET, code=SECRET, type=[1]), Refusal.UNEXPLAINED, id="echo-in-the-code"),
        pytest.param(400, b"[" * 100_000, Refusal.UNEXPLAINED, id="no-end-of-brackets"),
        pytest.param(400, b"[1, 2]", Refusal.UNEXPLAINED, id="unexpected-json"),
        pytest.param(400, b'"' + SECRET.encode() + b'"', Refusal.UNEXPLAINED, id="a-text"),
        pytest.param(400, b"\xff\0", Refusal.UNEXPLAINED, id="no-text"),
    ],
)
def test_a_reason_is_a_phrase_of_ours(status: int, body: bytes, kind: Refusal) -> None:
    """Reasons are published and logged; a server may repeat a document in a form that no filter finds."""
    found = refused(status, body)

    assert (found.kind, found.reason) == (kind, f"HTTP {status}: {kind}")


def test_what_was_said_is_kept_apart_and_bounded() -> None:
    """It is what a person needs to see, and a page of a gateway must not fill the ledger."""
    body = envelope(SECRET)

    assert refused(400, body).said == body.decode()
    assert len(refused(502, b"<p>" * 100_000).said) == LONGEST_SAID
    assert "\0" not in refused(400, b"a\0b").said


@pytest.mark.parametrize(
    ("said", "stored"), [("stop", "stop"), ("length", "length"), (None, None), (SECRET, "other"), ({"a": 1}, "other")]
)
def test_the_end_of_an_answer_is_one_of_those_known(said: object, stored: str | None) -> None:
    """It is shown without the texts, and a server writes what it likes."""
    assert finish_reason(said) == stored
