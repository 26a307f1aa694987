"""Why an endpoint gave no answer, in a closed set of words of ours.

What an endpoint says may repeat the request, in any form: whole, in single words, in another case, translated. No
filter finds that. So nothing of what it says is put into a reason, an error or a log: it decides which of our phrases
fits, and is stored beside the answer, in `completions.said`, for those who may read documents.
"""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Any, NamedTuple

from llm_platform.records.refusals import Refusal

LONGEST_SAID = 4_000
"""Characters of what an endpoint said that are stored: a page of a gateway has more, and says nothing with them."""

FINISH_REASONS = frozenset({"stop", "length", "content_filter", "tool_calls", "function_call", "abort", "error"})
"""What is stored of the reasons that endpoints give for ending an answer; another one is stored as `other`."""


class NotACompletion(StrEnum):
    """What a body with status 200 is that holds no completion."""

    PAGE = "it is a page for a browser, of a login or of what stands in between"
    ERROR = "it is an error; 'explain --texts' shows what it said of a stored answer"
    STREAM = "it is a stream of events that does not come to an end"
    COMPRESSED = "it is compressed, and cannot be unpacked"
    EMPTY = "it is empty"
    BROKEN_OFF = "the endpoint broke its answer off"
    OTHER = "it has another shape"


class NoText(StrEnum):
    """Why a completion has no text that could be an answer; to ask again would only be paid again."""

    REFUSED = "the model refused to answer"
    FILTERED = "a filter of the endpoint stopped the answer"
    TOOL = "the model called a tool instead of answering"
    NOTHING = "the reply holds no text"


THOUGHT_ONLY = "max_tokens={max_tokens} ended inside the model's thought; raise it in the variant's sampling"
THOUGHT_HAS_NO_END = "the model's thought has no end, and no answer behind it"
THINKS_FIRST = (
    "the first token begins a thought, and decision 'logprobs' reads the first token; use decision 'text' for a model "
    "that thinks"
)

OF_THE_SET_UP = frozenset({Refusal.QUOTA, Refusal.KEY, Refusal.MODEL, Refusal.PATH, Refusal.REDIRECT})
"""What every request would meet, whatever its document."""
_OF_THE_SET_UP = frozenset({301, 302, 303, 307, 308, 401, 402, 404, 405, 407})
OF_THE_DOCUMENT = frozenset({Refusal.TOO_LONG, Refusal.FILTERED})
"""What a request meets because of its document, however many meet it."""


def gave_up(cause: str, *, attempts: int, seconds: float) -> str:
    """Why a document has no answer although its endpoint answers others; `cause` as in `Meter.retries`."""
    what = _CAUSES.get(cause) or (cause.replace("http_", "HTTP ") if cause.startswith("http_") else cause)
    return f"{attempts} requests in {seconds:.0f} s failed while the endpoint answered others, the last with: {what}"


_CAUSES = {
    "timeout": "no whole reply in time",
    "reset": "the connection ended before the reply was whole",
    "connect": "no connection",
    "unreadable": "a body that is not a completion",
}
_CODES = {
    "context_length_exceeded": Refusal.TOO_LONG,
    "string_above_max_length": Refusal.TOO_LONG,
    "content_filter": Refusal.FILTERED,
    "content_policy_violation": Refusal.FILTERED,
    "insufficient_quota": Refusal.QUOTA,
    "insufficient_funds": Refusal.QUOTA,
    "insufficient_balance": Refusal.QUOTA,
    "credit_balance_too_low": Refusal.QUOTA,
    "quota_exceeded": Refusal.QUOTA,
    "billing_not_active": Refusal.QUOTA,
    "billing_hard_limit_reached": Refusal.QUOTA,
    "invalid_api_key": Refusal.KEY,
    "authentication_error": Refusal.KEY,
    "model_not_found": Refusal.MODEL,
    "unsupported_parameter": Refusal.PARAMETER,
    "unsupported_value": Refusal.PARAMETER,
    "unknown_parameter": Refusal.PARAMETER,
}
_STATUSES = {
    301: Refusal.REDIRECT,
    302: Refusal.REDIRECT,
    303: Refusal.REDIRECT,
    307: Refusal.REDIRECT,
    308: Refusal.REDIRECT,
    401: Refusal.KEY,
    402: Refusal.QUOTA,
    403: Refusal.FORBIDDEN,
    404: Refusal.PATH,
    405: Refusal.PATH,
    407: Refusal.KEY,
    413: Refusal.TOO_LARGE,
}
# Where an endpoint gives no code: what the servers of the field write, each where it may stand for one thing only.
_WORDINGS = {
    "context length": Refusal.TOO_LONG,
    "context_length": Refusal.TOO_LONG,
    "context size": Refusal.TOO_LONG,
    "context window": Refusal.TOO_LONG,
    "maximum model length": Refusal.TOO_LONG,
    "unsupported parameter": Refusal.PARAMETER,
    "unrecognized request argument": Refusal.PARAMETER,
    "extra inputs are not permitted": Refusal.PARAMETER,
}


class RefusedRequest(NamedTuple):
    """A refused request.

    Attributes:
        reason: Ours, to be stored, logged and published.
        said: Theirs, to be stored with the answers only.
        is_of_the_set_up: Whether every request would meet the same, for certain: by its status or its code, since the
            wording may be the document's.
    """

    kind: Refusal
    reason: str
    said: str
    is_of_the_set_up: bool


def refused(status: int, body: bytes) -> RefusedRequest:
    """What a reply that refuses a request means."""
    error = _error(body)
    coded = _coded(error)
    kind = coded or _kind(status, error)
    certain = kind in OF_THE_SET_UP and (coded is not None or status in _OF_THE_SET_UP)
    return RefusedRequest(kind, f"HTTP {status}: {kind}", kept(body), certain)


def kept(body: bytes) -> str:
    """What is stored of a body that is not an answer."""
    return body[: 4 * LONGEST_SAID].decode("utf-8", "replace")[:LONGEST_SAID].replace("\0", "\N{REPLACEMENT CHARACTER}")


def finish_reason(said: Any) -> str | None:
    """Why an endpoint ended an answer, of those that are known."""
    if said is None:
        return None
    return said if isinstance(said, str) and said in FINISH_REASONS else "other"


def _coded(error: dict[str, Any]) -> Refusal | None:
    named = (error.get("code"), error.get("type"))
    return next((_CODES[name] for name in named if isinstance(name, str) and name in _CODES), None)


def _kind(status: int, error: dict[str, Any]) -> Refusal:
    message = error.get("message")
    wording = message.lower() if isinstance(message, str) else ""
    if status == 404 and "model" in wording:
        return Refusal.MODEL
    if status in _STATUSES:
        return _STATUSES[status]
    if error.get("param") == "input_tokens":
        return Refusal.TOO_LONG
    return next((kind for mark, kind in _WORDINGS.items() if mark in wording), Refusal.UNEXPLAINED)


def _error(body: bytes) -> dict[str, Any]:
    """The error of a body, with `message`, `code`, `type` and `param` where it has them."""
    try:
        value: Any = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    error = value.get("error") or value.get("detail") or value if isinstance(value, dict) else {}
    return error if isinstance(error, dict) else {"message": error}
