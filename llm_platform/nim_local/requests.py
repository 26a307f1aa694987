"""What a client may ask, as vLLM reads it: unknown fields are ignored, wrong ones are a 400 with vLLM's words.

Fields that vLLM honours and llama.cpp cannot are refused and not ignored, so that nobody gets another answer than the
one that was asked for. Inputs are never repeated in an error: a request holds documents.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from llm_platform.nim_local.protocol import ApiError, bad_parameter, bad_request

MAX_TOP_LOGPROBS = 20


class _Request(BaseModel):
    """Fields all requests share."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    model: str | None = None


class TextPart(BaseModel):
    """One part of a message's content."""

    type: str
    text: str = ""


class Message(BaseModel):
    """One turn of a conversation."""

    model_config = ConfigDict(extra="ignore")

    role: str
    content: str | list[TextPart] | None = None


class StreamOptions(BaseModel):
    """What a stream carries beside text."""

    include_usage: bool = False


class JsonSchema(BaseModel):
    """The `json_schema` of a response format."""

    name: str = "response"
    json_schema: dict[str, Any] = Field(alias="schema")


class ResponseFormat(BaseModel):
    """OpenAI's way to ask for structure."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class StructuredOutputs(BaseModel):
    """vLLM's way to ask for structure; one kind at a time."""

    json_: dict[str, Any] | str | None = Field(default=None, alias="json")
    choice: list[str] | None = None
    regex: str | None = None
    grammar: str | None = None
    json_object: bool | None = None


class Generation(_Request):
    """Fields that chat and text completion share."""

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    logit_bias: dict[int, float] | None = None
    n: int | None = 1
    seed: int | None = None
    stop: str | list[str] | None = None
    ignore_eos: bool = False
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    # Refused unless empty: see `_UNSUPPORTED`.
    prompt_logprobs: Any = None
    allowed_token_ids: Any = None
    bad_words: Any = None
    stop_token_ids: Any = None
    min_tokens: Any = None
    truncate_prompt_tokens: Any = None
    include_stop_str_in_output: Any = None

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop strings."""
        given = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return tuple(stop for stop in given if stop)


class ChatRequest(Generation):
    """`POST /v1/chat/completions`."""

    messages: list[Message]
    max_completion_tokens: int | None = None
    logprobs: bool | None = False
    top_logprobs: int | None = None
    add_generation_prompt: bool = True
    tools: list[Any] | None = None
    tool_choice: Any = None
    continue_final_message: Any = None


class CompletionRequest(Generation):
    """`POST /v1/completions`."""

    prompt: str | list[int] | list[str] | list[list[int]]
    max_tokens: int | None = 16
    logprobs: int | None = None
    echo: Any = None
    suffix: Any = None


class TokenizeRequest(_Request):
    """`POST /tokenize`, of a text or of a conversation."""

    prompt: str | None = None
    messages: list[Message] | None = None
    add_special_tokens: bool | None = None
    add_generation_prompt: bool = True
    return_token_strs: bool = False


class DetokenizeRequest(_Request):
    """`POST /detokenize`."""

    tokens: list[Annotated[int, Field(ge=0)]]


class LoadAdapterRequest(BaseModel):
    """`POST /v1/load_lora_adapter`."""

    lora_name: str
    lora_path: str
    load_inplace: bool = False


class UnloadAdapterRequest(BaseModel):
    """`POST /v1/unload_lora_adapter`."""

    lora_name: str


_UNSUPPORTED = (
    "prompt_logprobs",
    "allowed_token_ids",
    "bad_words",
    "stop_token_ids",
    "min_tokens",
    "truncate_prompt_tokens",
    "include_stop_str_in_output",
    "echo",
    "suffix",
    "continue_final_message",
)

AnyRequest = TypeVar("AnyRequest", bound=BaseModel)


def parse(
    kind: type[AnyRequest], content_type: str, body: bytes, *, reword: Callable[[Any], Any] = lambda fields: fields
) -> AnyRequest:
    """The request, validated.

    Args:
        kind: Which request.
        content_type: The header's value.
        body: JSON.
        reword: Brings the dialect's fields into those of `kind`.

    Raises:
        ApiError: 400, as vLLM says it.
    """
    if content_type.partition(";")[0].strip().lower() not in ("application/json", ""):
        raise bad_request(
            "1 validation error:\n  Unsupported Media Type: Only 'application/json' is allowed", kind="Bad Request"
        )
    try:
        fields = json.loads(body)
        if b"\\u" in body:
            # Half of a surrogate pair is valid JSON and no text: found here, before the engine cannot write it.
            json.dumps(fields, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        position = error.pos if isinstance(error, json.JSONDecodeError) else 0
        detail = {"type": "json_invalid", "loc": ("body", position), "msg": "JSON decode error"}
        raise _validation_error([detail]) from error
    try:
        request = kind.model_validate(reword(fields))
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=False, include_input=False)
        raise _validation_error([{**detail, "loc": ("body", *detail["loc"])} for detail in details]) from error
    if isinstance(request, Generation):
        _check_generation(request)
    return request


def _validation_error(details: list[dict[str, Any]]) -> ApiError:
    plural = "s" if len(details) > 1 else ""
    lines = "\n".join(f"  {detail}" for detail in details)
    return bad_request(f"{len(details)} validation error{plural}:\n{lines}", kind="Bad Request")


def _check_generation(request: Generation) -> None:
    for name in _UNSUPPORTED:
        if getattr(request, name, None):
            raise bad_parameter(f"`{name}` is not supported by this endpoint.", name)
    _check_numbers(request)
    _check_structure(request)
    if isinstance(request, ChatRequest):
        _check_chat(request)
    elif isinstance(request, CompletionRequest):
        _check_logprobs(request.logprobs)


def _check_numbers(request: Generation) -> None:
    for name in ("max_tokens", "max_completion_tokens"):
        value = getattr(request, name, None)
        if value is not None and value < 1:
            raise bad_parameter(f"max_tokens must be at least 1, got {value}.", "max_tokens", value)
    if request.temperature is not None and request.temperature < 0:
        value = request.temperature
        raise bad_parameter(f"temperature must be non-negative, got {value}.", "temperature", value)
    for name, low, high in (("top_p", 0.0, 1.0), ("min_p", 0.0, 1.0)):
        value = getattr(request, name)
        if value is not None and (not low <= value <= high or (name == "top_p" and value == 0)):
            raise bad_parameter(f"{name} must be in (0, 1], got {value}.", name, value)
    for name in ("presence_penalty", "frequency_penalty"):
        value = getattr(request, name)
        if value is not None and not -2 <= value <= 2:
            raise bad_parameter(f"{name} must be in [-2, 2], got {value}.", name, value)
    if request.n is not None and not 1 <= request.n <= 128:
        raise bad_parameter(f"n must be at least 1, got {request.n}.", "n", request.n)
    if request.stream and (request.n or 1) > 1:
        raise bad_parameter("`n` above 1 is not supported together with `stream` by this endpoint.", "n")
    if request.stream_options and not request.stream:
        raise bad_parameter("Stream options can only be defined when `stream=True`.", "stream_options")


def _check_structure(request: Generation) -> None:
    wanted = request.structured_outputs
    if wanted is not None:
        kinds = [kind for kind in wanted.model_fields_set if getattr(wanted, kind) is not None]
        if len(kinds) > 1:
            raise bad_request(
                "1 validation error:\n  {'type': 'value_error', 'loc': ('body',), 'msg': \"Value error, You can only "
                "use one kind of constraints for structured outputs ('json', 'regex' or 'choice').\"}",
                kind="Bad Request",
            )
        if wanted.choice is not None and (not wanted.choice or "" in wanted.choice):
            raise bad_request("structured_outputs.choice must be a list of non-empty strings")
        if wanted.choice is not None and request.logit_bias:
            raise bad_parameter("`logit_bias` is not supported together with a choice by this endpoint.", "logit_bias")
    shape = request.response_format
    if shape is not None and shape.type == "json_schema" and shape.json_schema is None:
        raise bad_parameter("json_schema must be set when response_format.type is json_schema.", "response_format")


def _check_chat(request: ChatRequest) -> None:
    if request.top_logprobs is not None and not request.logprobs and request.top_logprobs > 0:
        raise bad_request(
            "1 validation error:\n  {'type': 'value_error', 'loc': ('body',), 'msg': 'Value error, when using "
            "`top_logprobs`, `logprobs` must be set to true. (parameter=top_logprobs)'}",
            kind="Bad Request",
            parameter="top_logprobs",
        )
    _check_logprobs(request.top_logprobs)
    if not request.messages:
        raise bad_request("Cannot apply chat template to an empty conversation. Provide at least one message.")
    if request.tools and request.tool_choice not in (None, "none"):
        raise bad_request('"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set')


def _check_logprobs(wanted: int | None) -> None:
    if wanted is not None and wanted > MAX_TOP_LOGPROBS:
        raise bad_parameter(
            f"Requested sample logprobs of {wanted}, which is greater than max allowed: {MAX_TOP_LOGPROBS}",
            "logprobs",
            wanted,
        )
    if wanted is not None and wanted < 0:
        raise bad_parameter(f"logprobs must be non-negative, got {wanted}.", "logprobs", wanted)
