"""Nothing that a server says ends a run: arbitrary JSON and bytes, thrown at everything that reads replies."""

from __future__ import annotations

import gzip
import json
import math
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llm_platform.errors import EndpointUnavailable
from llm_platform.inference.answers import AnswerReader
from llm_platform.inference.bodies import NoCompletion
from llm_platform.inference.meter import Meter
from llm_platform.inference.outbox import Origin, Outbox
from llm_platform.inference.policy import EnginePolicy
from llm_platform.inference.reasons import NotACompletion, refused
from llm_platform.inference.replies import read_reply
from llm_platform.inference.requests import PreparedRequest
from llm_platform.inference.retries import retry_after_seconds
from llm_platform.nim.metrics import parse, read_metrics
from llm_platform.records import Completion, Release, from_json_lines
from llm_platform_tests.inference.cases import ask, release
from llm_platform_tests.servers.faults import Replace
from llm_platform_tests.servers.scripted import ScriptedServer

RELEASES = {
    "classify": release("classify"),
    "completion": release("classify", api="completion"),
    "extract": release("extract"),
    "generate": release(),
    "logprobs": release("classify", decision="logprobs"),
    "completion-logprobs": release("classify", api="completion", decision="logprobs"),
}
READERS = {name: AnswerReader(one) for name, one in RELEASES.items()}

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([2**63, -(2**63), 10**400, 1e308, 0.5, -1])
    | st.floats()
    | st.text(st.characters())  # halves of surrogate pairs included
    | st.sampled_from(
        ["positive", '{"name":"x"}', "<think>", "</think>a", "```", "a\0b", "\ud83d", "n/a", "stop", "length"]
    )
)
ANYTHING = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)
LOGPROBS = st.fixed_dictionaries(
    {},
    optional={
        "content": ANYTHING
        | st.lists(
            st.fixed_dictionaries(
                {"top_logprobs": st.lists(st.fixed_dictionaries({"token": SCALARS, "logprob": SCALARS}))}
            ),
            max_size=2,
        ),
        "top_logprobs": ANYTHING | st.lists(st.dictionaries(st.text(), SCALARS), max_size=2),
    },
)
USAGE = ANYTHING | st.fixed_dictionaries(
    {},
    optional={
        "prompt_tokens": ANYTHING,
        "completion_tokens": ANYTHING,
        "prompt_tokens_details": ANYTHING | st.fixed_dictionaries({"cached_tokens": ANYTHING}),
        "completion_tokens_details": ANYTHING | st.fixed_dictionaries({"reasoning_tokens": ANYTHING}),
    },
)
MESSAGE = ANYTHING | st.fixed_dictionaries(
    {},
    optional={
        "content": ANYTHING
        | st.lists(st.fixed_dictionaries({"type": SCALARS, "text": ANYTHING, "thinking": ANYTHING})),
        "reasoning_content": ANYTHING,
        "reasoning": ANYTHING,
        "refusal": ANYTHING,
        "tool_calls": ANYTHING,
    },
)
CHOICE = ANYTHING | st.fixed_dictionaries(
    {}, optional={"message": MESSAGE, "text": ANYTHING, "finish_reason": ANYTHING, "logprobs": ANYTHING | LOGPROBS}
)
REPLY = ANYTHING | st.fixed_dictionaries(
    {}, optional={"choices": ANYTHING | st.lists(CHOICE, max_size=2), "usage": USAGE, "error": ANYTHING}
)
BODY = (
    st.binary(max_size=300)
    | REPLY.map(lambda value: json.dumps(value).encode())
    | REPLY.map(lambda value: json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass"))
    | REPLY.map(lambda value: gzip.compress(json.dumps(value).encode()))
    | REPLY.map(lambda value: b"data: " + json.dumps(value).encode() + b"\n\ndata: [DONE]\n\n")
)


class Kept:
    """Stands where the thread that stores answers stands: takes lines."""

    backlog = 0

    def __init__(self) -> None:
        self.lines: list[bytes] = []

    def put(self, lines: list[bytes]) -> None:
        self.lines += lines


def stored(asked: Release, body: bytes) -> Completion | None:
    """The row that a reply becomes, read back as a table does; None where it is asked again."""
    kept, meter = Kept(), Meter()
    outbox = Outbox(kept, release=asked, origin=Origin(), meter=meter, policy=EnginePolicy())  # type: ignore[arg-type]
    try:
        reading = AnswerReader(asked).read(body)
    except NoCompletion:
        return None
    meter.count(reading, 0.1)
    outbox.add(PreparedRequest("d", "f", "/", b""), reading)
    outbox.flush()
    (row,) = from_json_lines(Completion, kept.lines)
    return row


@settings(max_examples=400, deadline=None)
@given(body=BODY, kind=st.sampled_from(sorted(RELEASES)))
@example(body=b'{"choices":[{"message":{"content":"positive"}}],"usage":"n/a"}', kind="classify")
@example(body=b'{"choices":[{"message":{"content":"positive"}}],"usage":[1]}', kind="classify")
@example(body=b'{"choices":[{"message":{"content":"\\ud83d"},"finish_reason":{}}]}', kind="generate")
@example(
    body=b'{"choices":[{"message":{"content":"a"}}],"usage":{"prompt_tokens":1' + b"0" * 30 + b"}}", kind="generate"
)
@example(body=b"[" * 100_000, kind="generate")
def test_every_body_is_a_row_that_can_be_stored_or_asked_again(body: bytes, kind: str) -> None:
    """One reply with a usage of text, of a list or beyond 64 bits ended a run, or every later one."""
    row = stored(RELEASES[kind], body)

    if row is not None:
        counts = (row.prompt_tokens, row.completion_tokens, row.cached_tokens, row.reasoning_tokens or 0)
        assert all(0 <= count < 2**53 for count in counts)
        row.raw.encode()
        assert "\0" not in row.raw
        assert row.confidence is None or math.isfinite(row.confidence)


@settings(max_examples=200, deadline=None)
@given(body=BODY, status=st.integers(300, 999))
def test_every_refusal_has_a_reason_of_ours(body: bytes, status: int) -> None:
    """What is said is kept, and decides only which of our phrases fits."""
    found = refused(status, body)

    assert found.reason == f"HTTP {status}: {found.kind}"
    found.said.encode()


@settings(max_examples=200, deadline=None)
@given(text=st.text(st.characters()) | REPLY.map(json.dumps), streamed=st.booleans())
def test_every_reply_to_a_single_request_can_be_recorded(text: str, streamed: bool) -> None:
    """The caller has the reply already; and a record that no table takes keeps all others from it."""
    read = read_reply(text, streamed=streamed)

    read.model_dump_json().encode()
    assert all(0 <= count < 2**53 for count in read.usage.model_dump().values())


@given(
    st.text(st.characters(exclude_categories=["Cs"]))
    | st.sampled_from(["nan", "inf", "-inf", "-5", "1e999", "", "0x1"])
)
def test_every_retry_after_is_a_time_to_wait(said: str) -> None:
    """A row that waits until `nan` is never sent again."""
    assert 0.0 <= retry_after_seconds({"retry-after": said}) <= 120.0


@given(
    st.binary(max_size=200)
    | st.sampled_from([b"vllm:num_requests_running NaN\n", b"vllm:num_requests_waiting 1e999\n"])
)
def test_every_page_of_metrics_is_read(body: bytes) -> None:
    """Metrics only help; what a page says of itself must not end the run that looks at it."""
    read_metrics(body)
    parse(body)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        pytest.param(b'{"error": {"message": "overloaded DOC#1#"}}', NotACompletion.ERROR, id="error-with-200"),
        pytest.param(b"\n<!DOCTYPE html><title>Sign in</title>", NotACompletion.PAGE, id="login-page"),
        pytest.param(b"", NotACompletion.EMPTY, id="nothing"),
        pytest.param(b'{"choices":[{"message":{"cont', NotACompletion.OTHER, id="half"),
        pytest.param(b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n', NotACompletion.STREAM, id="half-a-stream"),
        pytest.param(b"\x1f\x8b\x08broken", NotACompletion.COMPRESSED, id="broken-gzip"),
        pytest.param(
            b'{"choices":[{"message":{"content":"posi"},"finish_reason":"error"}]}',
            NotACompletion.BROKEN_OFF,
            id="broken-off",
        ),
    ],
)
def test_body_that_is_no_completion_is_called_what_it_is(body: bytes, kind: NotACompletion) -> None:
    """A login page and a broken model need different people; neither is quoted."""
    with pytest.raises(EndpointUnavailable, match="not a completion") as raised:
        READERS["classify"].read(body)

    assert isinstance(raised.value, NoCompletion)
    assert raised.value.kind is kind
    assert "DOC" not in str(raised.value)


COMPLETION = {
    "choices": [{"index": 0, "message": {"content": "positive"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3},
}
EVENTS = (
    b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":"posi"}}]}\n\n'
    b'data: {"choices":[{"index":0,"delta":{"content":"tive"},"finish_reason":"stop"}]}\n\n'
    b'data: {"choices":[],"usage":{"prompt_tokens":3}}\n\ndata: [DONE]\n\n'
)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(EVENTS, id="stream-that-nobody-asked-for"),
        pytest.param(gzip.compress(json.dumps(COMPLETION).encode()), id="gzip-that-nobody-asked-for"),
        pytest.param(b"\xef\xbb\xbf" + json.dumps(COMPLETION).encode(), id="byte-order-mark"),
        pytest.param(b"\n\n\n" + json.dumps(COMPLETION).encode(), id="blank-lines-before"),
    ],
)
def test_answer_in_an_unasked_wrapping_is_read(body: bytes) -> None:
    """It was paid for; gateways do this whatever a request says."""
    with ScriptedServer(script=lambda seen: Replace(body)) as server:
        outcome = ask(server, 2, asked=RELEASES["classify"])

    assert [(row.answer, row.prompt_tokens) for row in outcome.rows] == [("HAPPY", 3)] * 2
    assert set(server.counts.asked.values()) == {1}


@pytest.mark.parametrize("usage", ["n/a", [1, 2], {"prompt_tokens": 2**64}, {"prompt_tokens": -1}, True, None])
def test_run_whose_usage_makes_no_sense_stores_every_answer(usage: Any) -> None:
    """AttributeError in the reader ended runs; a number beyond 64 bits ended all later ones."""
    body = json.dumps({**COMPLETION, "usage": usage}).encode()

    with ScriptedServer(script=lambda seen: Replace(body)) as server:
        outcome = ask(server, 20, asked=RELEASES["classify"])

    assert outcome.result.error is None
    assert outcome.stored_once(20)
    assert {(row.answer, row.prompt_tokens) for row in outcome.rows} == {("HAPPY", 0)}


def test_half_of_a_surrogate_pair_is_an_answer_with_a_hole() -> None:
    """It failed each of five times, and was asked again in every run."""
    body = b'{"choices":[{"message":{"content":"caf\\u00e9 \\ud83d\\ude00 \\ud83d"},"finish_reason":"stop"}]}'

    row = stored(RELEASES["generate"], body)

    assert row is not None
    assert row.answer == "café 😀 \N{REPLACEMENT CHARACTER}"
