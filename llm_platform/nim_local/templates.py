"""Conversations as prompt text, by the template that the model's own file carries."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from llm_platform.nim_local.protocol import bad_request
from llm_platform.nim_local.requests import Message
from llm_platform.nim_local.vocabulary import Vocabulary


class ChatTemplate:
    """A model's chat template, rendered as transformers does: sandboxed, blocks trimmed."""

    def __init__(self, vocabulary: Vocabulary, *, model_id: str) -> None:
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        environment.globals["raise_exception"] = _raise
        environment.globals["strftime_now"] = lambda layout: datetime.now(UTC).strftime(layout)
        source = vocabulary.chat_template
        self._template = environment.from_string(source) if source else None
        self._end_token = vocabulary.tokens[vocabulary.end_token_id]
        self._model_id = model_id

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> str:
        """The prompt of a conversation.

        Raises:
            ApiError: 400, the conversation does not fit the template or holds more than text.
        """
        if self._template is None:
            raise bad_request("This model has no chat template. Use /v1/completions.")
        turns = [{"role": message.role, "content": self._text(message)} for message in messages]
        try:
            return self._template.render(
                messages=turns, add_generation_prompt=add_generation_prompt, eos_token=self._end_token, bos_token=""
            )
        except TemplateError as error:
            raise bad_request(f"The chat template refused the conversation: {error}") from error

    def _text(self, message: Message) -> str:
        if message.content is None or isinstance(message.content, str):
            return message.content or ""
        if any(part.type != "text" for part in message.content):
            raise bad_request(f"{self._model_id} is not a multimodal model")
        return "\n".join(part.text for part in message.content)


def _raise(message: str) -> None:
    raise TemplateError(message)
