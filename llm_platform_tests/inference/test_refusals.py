"""What is kept of an endpoint's refusal."""

from __future__ import annotations

import json

import pytest

from llm_platform.inference.refusals import refusal

SECRET = "Frau Müller from Aachen called twice about her unpaid invoice 4711"
BODY = json.dumps({"messages": [{"role": "user", "content": f"Summarize: {SECRET}"}]}).encode()
LONG = (
    "This model's maximum context length is 4096 tokens. However, you requested 4 output tokens and your prompt "
    "contains at least 4093 input tokens, for a total of at least 4097 tokens. Please reduce the length of the prompt."
)


def envelope(message: str) -> bytes:
    return json.dumps({"error": {"message": message, "type": "BadRequestError", "param": None, "code": 400}}).encode()


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        pytest.param(envelope(LONG), f"HTTP 400: {LONG}"[:310], id="context-length-survives"),
        pytest.param(
            envelope(f"1 validation error: {{'type': 'list_type', 'msg': 'bad', 'input': '{SECRET}'}}"),
            "HTTP 400: 1 validation error: {'type': 'list_type', 'msg': 'bad', […]",
            id="echoed-input",
        ),
        pytest.param(envelope(f"cannot parse {SECRET} at 3"), None, id="bare-echo"),
        pytest.param(envelope(f'cannot parse "{SECRET}" at 3'), "HTTP 400: cannot parse […] at 3", id="quoted-echo"),
        pytest.param(envelope("bad value 'Müller' here"), "HTTP 400: bad value […] here", id="quoted-word"),
        pytest.param(b'{"detail": "Not Found"}', "HTTP 400: Not Found", id="fastapi"),
        pytest.param(b"<html>no</html>", "HTTP 400", id="html"),
        pytest.param(b"", "HTTP 400", id="empty"),
        pytest.param(b"[1, 2]", "HTTP 400", id="unexpected-json"),
    ],
)
def test_refusal_keeps_the_reason_and_none_of_the_document(body: bytes, kept: str | None) -> None:
    """vLLM repeats the whole input in its messages, and reasons end up in tables and logs."""
    found = refusal(400, body, request_body=BODY)

    if kept is not None:
        assert found == kept
    assert not any(word in found for word in ("Müller", "Aachen", "invoice", "4711"))
