"""What a probe takes for a sign of life."""

from __future__ import annotations

import pytest

from llm_platform.inference.endpoint import _amiss
from llm_platform.inference.wire import Reply


@pytest.mark.parametrize("body", [b'{"choices": "x"}', b'{"choices": []}', b'{"error": "no \\"choices\\""}'])
def test_a_body_that_only_names_choices_is_no_sign_of_life(body: bytes) -> None:
    """Every document failed at such an endpoint, "while it answered others", and the run went on to its end."""
    assert _amiss(Reply(status=200, body=body)) is not None
    assert _amiss(Reply(status=200, body=b'{"choices": [{"text": "a"}]}')) is None
