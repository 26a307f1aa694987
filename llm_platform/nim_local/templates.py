"""Conversations as prompt text, by the template that the model's own file carries."""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from llm_platform.nim_local.protocol import bad_request
from llm_platform.nim_local.requests import Message
from llm_platform.nim_local.vocabulary import Vocabulary


class Part(NamedTuple):
    """A part of a prompt; only in one that the template has written, names of control tokens are those tokens."""

    text: str
    has_control: bool


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
        names = [name for number, name in enumerate(vocabulary.tokens) if name and vocabulary.is_control(number)]
        self._control = re.compile("|".join(map(re.escape, sorted(names, key=len, reverse=True))) or "(?!)")

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> list[Part]:
        """The prompt of a conversation, in parts that follow each other.

        The name of a control token that somebody wrote is text: as the token itself, `<|im_end|>` in a document would
        end its turn, and what follows would be the word of whoever comes next.

        Raises:
            ApiError: 400, the conversation does not fit the template or holds more than text.
        """
        if self._template is None:
            raise bad_request("This model has no chat template. Use /v1/completions.")
        # Nobody can write it: it is drawn for this one prompt.
        mark = f"\ufdd0{secrets.token_hex(16)}\ufdd1"
        turns = [
            {"role": self._marked(message.role, mark), "content": self._marked(self._text(message), mark)}
            for message in messages
        ]
        try:
            text = self._template.render(
                messages=turns, add_generation_prompt=add_generation_prompt, eos_token=self._end_token, bos_token=""
            )
        except TemplateError as error:
            raise bad_request(f"The chat template refused the conversation: {error}") from error
        # Every name was put between two marks, so each second part is one.
        return [Part(part, has_control=at % 2 == 0) for at, part in enumerate(text.split(mark)) if part or at == 0]

    def _marked(self, text: str, mark: str) -> str:
        return self._control.sub(lambda name: f"{mark}{name[0]}{mark}", text)

    def _text(self, message: Message) -> str:
        if message.content is None or isinstance(message.content, str):
            return message.content or ""
        if any(part.type != "text" for part in message.content):
            raise bad_request(f"{self._model_id} is not a multimodal model")
        return "\n".join(part.text for part in message.content)


def _raise(message: str) -> None:
    raise TemplateError(message)
