"""Models that think before they answer, put fences around it, or give no answer at all."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llm_platform.inference.answers import AnswerReader
from llm_platform.inference.thoughts import divided, unfenced
from llm_platform.records import CompletionStatus, Release, Sampling
from llm_platform_tests.inference.cases import ask, release
from llm_platform_tests.servers.faults import Replace
from llm_platform_tests.servers.scripted import ScriptedServer

THOUGHT = "They sound glad, so not negative."


def reply(content: Any, *, finish: str = "stop", usage: dict[str, Any] | None = None, **message: Any) -> bytes:
    choice = {"message": {"role": "assistant", "content": content, **message}, "finish_reason": finish}
    return json.dumps({"choices": [choice], "usage": usage or {"prompt_tokens": 9, "completion_tokens": 40}}).encode()


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(reply(f"<think>\n{THOUGHT}\n</think>\n\npositive"), id="tags"),
        pytest.param(reply(f"{THOUGHT}\n</think>\n\nPositive"), id="opened-by-the-template"),
        pytest.param(reply(f"[THINK]{THOUGHT}[/THINK]positive"), id="magistral"),
        pytest.param(
            reply(
                f"<|channel|>analysis<|message|>{THOUGHT}<|end|><|start|>assistant<|channel|>final<|message|>positive"
            ),
            id="harmony",
        ),
        pytest.param(reply("positive", reasoning_content=THOUGHT), id="reasoning_content"),
        pytest.param(reply("positive", reasoning=THOUGHT), id="reasoning"),
        pytest.param(reply("```\npositive\n```", reasoning_content=THOUGHT), id="fence-behind-a-thought"),
        pytest.param(
            reply(
                [
                    {"type": "thinking", "thinking": [{"type": "text", "text": THOUGHT}]},
                    {"type": "text", "text": "positive"},
                ]
            ),
            id="list-of-parts",
        ),
        pytest.param(reply([{"type": "reasoning", "text": THOUGHT}, "positive"]), id="list-with-a-bare-text"),
    ],
)
def test_answer_behind_a_thought_is_read_and_the_thought_is_kept(body: bytes) -> None:
    """The commonest models of the year answer so; each was invalid, after a second paid question."""
    reading = AnswerReader(release("classify")).read(body)

    assert (reading.status, reading.answer, reading.reason) == (CompletionStatus.VALID, "HAPPY", None)
    assert THOUGHT in reading.raw
    assert 10 < reading.reasoning_tokens <= 40


@pytest.mark.parametrize(
    ("asked", "content", "answer"),
    [
        pytest.param(release("classify"), "```\npositive\n```", "HAPPY", id="label"),
        pytest.param(release("classify"), "```text\nPositive\n```\n", "HAPPY", id="label-with-a-language"),
        pytest.param(release("classify"), "`positive`", "HAPPY", id="label-as-code"),
        pytest.param(release("extract"), '```json\n{"name": "x"}\n```', '{"name":"x"}', id="json"),
        pytest.param(release("extract"), '~~~\n{"name": "x"}\n~~~', '{"name":"x"}', id="json-in-tildes"),
        pytest.param(
            release("extract"), '<think>a {brace}</think>\n```json\n{"name": "x"}\n```', '{"name":"x"}', id="both"
        ),
        pytest.param(release(), "<think>hm</think> A text.", "A text.", id="free-text"),
        pytest.param(release(), "```\ncode\n```", "```\ncode\n```", id="free-text-keeps-its-fence"),
        pytest.param(release(), "I <think> so", "I <think> so", id="free-text-about-thinking"),
    ],
)
def test_fence_and_thought_are_no_part_of_the_answer(asked: Release, content: str, answer: str) -> None:
    """A fence around an answer is typography; of a free text it may be a part."""
    assert AnswerReader(asked).read(reply(content)).answer == answer


def test_reasoning_tokens_are_those_that_the_endpoint_counts() -> None:
    """They are most of the bill of such a model, and nobody sees them in the answers."""
    usage = {
        "prompt_tokens": 9,
        "completion_tokens": 40,
        "completion_tokens_details": {"reasoning_tokens": 31},
    }

    reading = AnswerReader(release("classify")).read(reply("positive", reasoning_content=THOUGHT, usage=usage))

    assert (reading.completion_tokens, reading.reasoning_tokens) == (40, 31)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(reply(f"<think>{THOUGHT}", finish="length"), id="tags"),
        pytest.param(reply("", finish="length", reasoning_content=THOUGHT), id="empty-content"),
        pytest.param(reply(None, finish="length", reasoning=THOUGHT), id="null-content"),
    ],
)
def test_limit_that_ends_inside_the_thought_is_named(body: bytes) -> None:
    """`cut at 16 tokens` sends people to shorten the answer; what is too long is what they do not see."""
    reading = AnswerReader(release("classify", sampling=Sampling(max_tokens=40))).read(body)

    assert reading.status is CompletionStatus.TRUNCATED
    assert reading.reason == "max_tokens=40 ended inside the model's thought; raise it in the variant's sampling"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        pytest.param(reply(None, refusal="I can't help with DOC."), "the model refused to answer", id="refusal"),
        pytest.param(
            reply([{"type": "refusal", "refusal": "No: DOC."}]), "the model refused to answer", id="refusal-as-a-part"
        ),
        pytest.param(
            reply(None, finish="content_filter"), "a filter of the endpoint stopped the answer", id="content-filter"
        ),
        pytest.param(
            reply("posi", finish="content_filter"),
            "a filter of the endpoint stopped the answer",
            id="filtered-half-way",
        ),
        pytest.param(
            reply(None, finish="tool_calls", tool_calls=[{"id": "a"}]),
            "the model called a tool instead of answering",
            id="tool-call",
        ),
        pytest.param(
            reply(None, finish="function_call", function_call={"name": "f"}),
            "the model called a tool instead of answering",
            id="function-call",
        ),
        pytest.param(reply(None), "the reply holds no text", id="null"),
        pytest.param(reply({"a": 1}), "the reply holds no text", id="an-object"),
    ],
)
def test_reply_without_a_text_has_a_reason_of_its_own_and_is_not_asked_again(body: bytes, reason: str) -> None:
    """The second question would be paid, too, and refused again."""
    reading = AnswerReader(release("classify")).read(body)

    assert (reading.status, reading.answer, reading.reason) == (CompletionStatus.INVALID, None, reason)
    with ScriptedServer(script=lambda seen: Replace(body)) as server:
        outcome = ask(server, 3, asked=release("classify"))
    assert set(server.counts.asked.values()) == {1}
    assert {row.reason for row in outcome.rows} == {reason}


def test_a_thinking_model_asked_for_one_token_is_told_why_it_fails() -> None:
    """`no label among the tokens` hides that no label can ever be the first token of such a model."""
    top = [{"token": "<think>", "logprob": -0.01}, {"token": "\n", "logprob": -6.0}]
    choice = {
        "message": {"content": "<think>"},
        "finish_reason": "length",
        "logprobs": {"content": [{"token": "<think>", "logprob": -0.01, "top_logprobs": top}]},
    }

    reading = AnswerReader(release("classify", decision="logprobs")).read(json.dumps({"choices": [choice]}).encode())

    assert reading.status is CompletionStatus.INVALID
    assert reading.reason is not None
    assert "use decision 'text'" in reading.reason


def test_second_question_does_not_carry_the_thought() -> None:
    """A thought may be longer than the context has room for, and templates of such models leave it out, too."""
    with ScriptedServer(answer=lambda seen: f"<think>{THOUGHT}</think>perhaps", keep_bodies=True) as server:
        ask(server, 1, asked=release("classify"))

    assert len(server.bodies) == 2
    assert b"perhaps" in server.bodies[1]
    assert THOUGHT.encode() not in server.bodies[1]


def test_reading_rule_is_stated_and_old_releases_keep_their_ids() -> None:
    """An upgrade that renames releases asks for every answer again; another rule would have to."""
    asked = release("classify")

    assert asked.reading == "bare/1"
    assert "reading" in json.loads(asked.model_dump_json())
    assert "reading" not in asked._identity()
    assert (asked.release_id, asked.request_id) == ("7892d49a232350cd", "21b055889573b395")


@pytest.mark.parametrize(
    ("text", "answer", "thought", "is_whole"),
    [
        pytest.param("a", "a", "", True, id="plain"),
        pytest.param("<think></think>\n\na", "\n\na", "", True, id="empty-thought"),
        pytest.param("<think>a</think><think>b</think>c", "c", "ab", True, id="two"),
        pytest.param("<think>a", "", "a", False, id="without-end"),
        pytest.param("", "", "", True, id="nothing"),
    ],
)
def test_text_is_divided_once(text: str, answer: str, thought: str, is_whole: bool) -> None:
    """What is taken for a thought is not judged."""
    assert divided(text) == (answer, thought, is_whole)


@pytest.mark.parametrize("text", ["``` a ``` and ``` b ```", "```", "a ```b```", "``", "`a` or `b`"])
def test_fence_that_is_not_all_of_the_text_stays(text: str) -> None:
    """Which of two fenced texts is the answer would be a guess."""
    assert unfenced(text) == text
