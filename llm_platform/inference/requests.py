"""A release and a rendered prompt, turned into the bytes that are sent.

The body is byte for byte what the `openai` SDK sends for the same call, without the SDK's millisecond: everything but
the prompt is serialized once per release.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from pydantic_core import PydanticSerializationError, to_json

from llm_platform.errors import EndpointUnavailable, RequestRejected, SpecificationError
from llm_platform.records import Release
from llm_platform.settings.connection import endpoint_root

CHAT_PATH = "/v1/chat/completions"
COMPLETION_PATH = "/v1/completions"

# The most that vLLM gives. All of it: under a constraint, every prefix of a label that is a token takes a part of the
# label's probability, so more tokens than labels carry it.
TOP_LOGPROBS = 20

_NOTHING = "1"
REPAIR_TEMPERATURE = 0.7
REPAIR_REQUEST = "That answer was not accepted: {reason}. Answer again, in exactly the form that was asked for."

# The order of named arguments in the SDK's request; fields that the SDK does not know follow, as with `extra_body`.
_CHAT_ORDER = (
    "model",
    "messages",
    "logprobs",
    "max_tokens",
    "response_format",
    "seed",
    "stop",
    "temperature",
    "top_logprobs",
    "top_p",
)
_COMPLETION_ORDER = ("model", "prompt", "logprobs", "max_tokens", "seed", "stop", "temperature", "top_p")

# `allow_nan=False` and the separators are the SDK's, too (`openai._utils._json.openapi_dumps`).
_ENCODE = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


class PromptToSend(Protocol):
    """A prompt with its document filled in: chat messages, or the text of a completion."""

    @property
    def messages(self) -> Sequence[Mapping[str, str]] | None:
        """Chat messages, or None for a text completion."""

    @property
    def text(self) -> str | None:
        """Text to be continued, or None for chat."""

    @property
    def cut_tokens(self) -> int | None:
        """Tokens of the document that were cut off, because it did not fit; None where it is whole."""


@dataclass(slots=True)
class PreparedRequest:
    """One request, ready to send.

    Attributes:
        prefix: Equal for requests that begin alike.
    """

    document_id: str
    fingerprint: str
    path: str
    body: bytes
    cut_tokens: int | None = None
    prefix: int | None = None


class RequestBuilder:
    """Builds the requests of one release.

    Args:
        release: What to ask, of which model.
        constraint: Request fields that constrain the answer, in the endpoint's dialect; see
        `llm_platform.nim.dialects`.
    """

    def __init__(self, release: Release, *, constraint: Mapping[str, Any]) -> None:
        if release.decision == "logprobs":
            _check_scorable(release)
        chat = release.prompt.api == "chat"
        self.path = CHAT_PATH if chat else COMPLETION_PATH
        self._prompt_key = "messages" if chat else "prompt"
        fields = {**_named_fields(release), **constraint}
        order = _CHAT_ORDER if chat else _COMPLETION_ORDER
        named = {key: fields.pop(key) for key in order if key in fields}
        self._head = (_ENCODE({"model": named.pop("model")})[:-1] + f',"{self._prompt_key}":').encode()
        self._tail = ("," + _ENCODE({**named, **fields})[1:]).encode()

    def prepare(
        self, *, document_id: str, fingerprint: str, rendered: PromptToSend, prefix: int | None = None
    ) -> PreparedRequest:
        """The request for one document.

        Raises:
            RequestRejected: the prompt cannot be encoded as UTF-8.
            SpecificationError: the prompt was rendered for the other API.
        """
        prompt = rendered.messages if self._prompt_key == "messages" else rendered.text
        if prompt is None:
            raise SpecificationError(
                f"Release needs a prompt with {self._prompt_key!r}, and the renderer gave none for {document_id!r}. "
                "Render with the release's own prompt."
            )
        try:
            # Equal to `_ENCODE` for strings, at a tenth of its time.
            encoded = to_json(prompt)
        except PydanticSerializationError as error:
            raise RequestRejected("the prompt holds half a surrogate pair and has no UTF-8 form") from error
        body = self._head + encoded + self._tail
        return PreparedRequest(document_id, fingerprint, self.path, body, rendered.cut_tokens, prefix)


@dataclass(frozen=True, slots=True)
class ProbeRequest:
    """A request that is about no document."""

    path: str
    body: bytes


def probe_of(release: Release) -> ProbeRequest:
    """The cheapest proof that an endpoint's engine is alive, on the path that the prompts of a release take."""
    chat = release.prompt.api == "chat"
    return ProbeRequest(CHAT_PATH if chat else COMPLETION_PATH, probe_body(release.served_name, chat=chat))


def probe_body(model: str, *, chat: bool = False) -> bytes:
    """A request for one token."""
    about = {"messages": [{"role": "user", "content": _NOTHING}]} if chat else {"prompt": _NOTHING}
    return _ENCODE({"model": model, **about, "max_tokens": 1, "temperature": 0}).encode()


def neutral_request(request: PreparedRequest) -> ProbeRequest:
    """The same request about nothing: every parameter and every role of it, and none of its words."""
    body = json.loads(request.body)
    if request.path == CHAT_PATH:
        body["messages"] = [{**message, "content": _NOTHING} for message in body["messages"]]
    else:
        body["prompt"] = _NOTHING
    return ProbeRequest(request.path, _ENCODE(body).encode())


def repair_request(request: PreparedRequest, *, answer: str, reason: str) -> PreparedRequest:
    """The one second question after an invalid answer.

    In chat the model sees its answer and what is wrong with it. A text completion has no place for that: it is asked
    again with another seed and a higher temperature.
    """
    body = json.loads(request.body)
    if request.path == CHAT_PATH:
        correction = REPAIR_REQUEST.format(reason=reason)
        body["messages"] += [{"role": "assistant", "content": answer}, {"role": "user", "content": correction}]
    else:
        body["seed"] += 1
        body["temperature"] = max(body["temperature"], REPAIR_TEMPERATURE)
    return replace(request, body=_ENCODE(body).encode())


def check_first_tokens(
    answers: Mapping[str, str],
    *,
    base_url: str,
    model: str,
    post: Callable[[str, dict[str, Any]], tuple[int, bytes]],
) -> None:
    """Check that one token tells all labels apart, with the endpoint's own tokenizer.

    Args:
        answers: Label → the exact text that stands for it.
        post: URL and JSON payload → status and body.

    Raises:
        SpecificationError: two answers start with the same token.
        EndpointUnavailable: `/tokenize` does not answer.
    """
    seen: dict[int, str] = {}
    for label, answer in answers.items():
        token = _first_token(answer, base_url=base_url, model=model, post=post)
        if token in seen:
            raise SpecificationError(
                f"Labels {seen[token]!r} and {label!r} cannot be told apart by their first token on {model!r}: their "
                "answers start alike. Give one of them another answer text in the prompt file, or use decision 'text'."
            )
        seen[token] = label


def _first_token(
    answer: str, *, base_url: str, model: str, post: Callable[[str, dict[str, Any]], tuple[int, bytes]]
) -> int:
    url = endpoint_root(base_url) + "/tokenize"
    status, body = post(url, {"model": model, "prompt": answer, "add_special_tokens": False})
    try:
        tokens = json.loads(body)["tokens"] if status == 200 else []
    except (ValueError, KeyError, TypeError):
        tokens = []
    if not tokens:
        raise EndpointUnavailable(
            f"Asked {url} for the first token of an answer: HTTP {status}, and no tokens in the body."
        )
    return int(tokens[0])


def _named_fields(release: Release) -> dict[str, Any]:
    sampling = release.sampling
    fields: dict[str, Any] = {
        "model": release.served_name,
        "max_tokens": sampling.max_tokens,
        "seed": sampling.seed,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
    }
    if sampling.stop:
        fields["stop"] = list(sampling.stop)
    if release.decision == "logprobs":
        # One prefill and one token give the distribution over the labels.
        fields["max_tokens"] = 1
        fields |= (
            {"logprobs": True, "top_logprobs": TOP_LOGPROBS}
            if release.prompt.api == "chat"
            else {"logprobs": TOP_LOGPROBS}
        )
    return fields


def _check_scorable(release: Release) -> None:
    labels = len(release.prompt.answers)
    if release.task != "classify" or not 2 <= labels <= TOP_LOGPROBS:
        raise SpecificationError(
            f"Decision 'logprobs' needs task 'classify' with 2 to {TOP_LOGPROBS} labels; found task {release.task!r} "
            f"with {labels} answers in prompt {release.prompt.name!r}. Use decision 'text'."
        )
