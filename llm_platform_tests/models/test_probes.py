"""A model told by what it does with fixed texts."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llm_platform.models.probes import PROMPTS, Greedy, answer_differences, divergence, probe_model
from llm_platform_tests.models.test_identity import entry


def greedy(*steps: dict[str, float]) -> Greedy:
    """An answer whose listed tokens are these; the likeliest are taken."""
    taken = tuple(max(listed, key=lambda token: listed[token]) for listed in steps)
    return Greedy(text="".join(taken), tokens=taken, listed=steps)


@pytest.mark.parametrize(
    ("locked", "answer", "margin"),
    [
        pytest.param(" a b", greedy({" a": -0.1}, {" b": -0.2}), None, id="same"),
        pytest.param(" a c", greedy({" a": -0.1}, {" b": -0.7, " c": -0.8}), 0.1, id="near-tie"),
        pytest.param(" a c", greedy({" a": -0.1}, {" b": -0.1, " c": -2.1}), 2.0, id="clearly-another"),
        pytest.param(" a d", greedy({" a": -0.1}, {" b": -0.1, " c": -2.1}), float("inf"), id="not-even-listed"),
        pytest.param(" ca", greedy({" b": -0.7, " c": -0.9, " ca": -0.8}), 0.1, id="the-likelier-continuation"),
        pytest.param(" a b c", greedy({" a": -0.1}, {" b": -0.2}), float("inf"), id="ended-early"),
        pytest.param("x", Greedy(text="y"), float("inf"), id="no-log-probabilities"),
    ],
)
def test_divergence_is_measured_at_the_first_other_token(locked: str, answer: Greedy, margin: float | None) -> None:
    """What follows a token that was taken otherwise is another text, and says nothing more."""
    found = divergence(locked, answer)

    assert found == (None if margin is None else pytest.approx(margin))


def test_near_ties_are_tolerated_and_clear_differences_are_not() -> None:
    """Another batch size may turn a near tie; it does not turn a token that is twice as likely."""
    tie = greedy({" b": -0.70, " c": -0.80})
    clear = greedy({" b": -0.2, " c": -1.8})

    assert answer_differences((" c", " b"), (tie, clear)) == []
    assert answer_differences((" c", " c"), (tie, clear)) == ["probe prompt 2 of 2 is answered otherwise, by 1.60 nats"]
    assert answer_differences((), (tie,)) == []
    assert answer_differences((" c",), ()) == []


class Endpoint:
    """Answers as a vLLM does; what it cannot do is a 404."""

    def __init__(self, *, tokens: bool = True, completions: bool = True, shift: int = 0) -> None:
        self.tokens, self.completions, self.shift = tokens, completions, shift
        self.asked: list[str] = []

    def post(self, url: str, payload: dict[str, Any]) -> tuple[int, bytes]:
        path = "/" + url.split("/", 3)[3]
        self.asked.append(path)
        if path == "/tokenize" and self.tokens:
            text = payload.get("prompt") or str(payload["messages"])
            return 200, json.dumps({"tokens": [ord(letter) + self.shift for letter in text]}).encode()
        if path == "/v1/completions" and self.completions:
            logprobs = {"tokens": [" x"], "top_logprobs": [{" x": -0.1}]}
            return 200, json.dumps({"choices": [{"text": " x", "logprobs": logprobs}]}).encode()
        return 404, b"{}"


def test_probes_show_tokenizer_template_and_answers() -> None:
    """Metadata can be wrong about all three."""
    endpoint = Endpoint()

    probed = probe_model("http://e/v1", "m", endpoint.post)
    other = probe_model("http://e", "m", Endpoint(shift=1).post)

    assert [answer.text for answer in probed.answers] == [" x"] * len(PROMPTS)
    assert probed.tokenizer_sha256 != other.tokenizer_sha256
    assert probed.chat_template_sha256 != other.chat_template_sha256
    assert endpoint.asked.count("/v1/completions") == len(PROMPTS)


def test_what_an_endpoint_cannot_do_is_no_difference() -> None:
    """A hosted endpoint has neither; that is unverified, not another model."""
    from llm_platform.models.probes import probe_differences

    probed = probe_model("http://e", "m", Endpoint(tokens=False, completions=False).post)
    pinned = entry(tokenizer_sha256="0" * 64, chat_template_sha256="0" * 64, fingerprint=["a"])

    assert (probed.tokenizer_sha256, probed.chat_template_sha256, probed.answers) == (None, None, ())
    assert probe_differences(pinned, probed) == []
    assert len(probe_differences(pinned, probe_model("http://e", "m", Endpoint().post))) == 3
