"""What a GGUF file says about its tokens: their bytes, the end token, the chat template."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from llm_platform.errors import SpecificationError
from llm_platform.nim_local.gguf_header import read_header

_NORMAL_TOKEN = 1
# The unknown token, and control tokens.
_CONTROL_TOKENS = (2, 3)


@dataclass(frozen=True)
class Vocabulary:
    """The tokens of one model, by id."""

    tokens: tuple[str, ...]
    token_types: tuple[int, ...]
    end_token_id: int
    add_start_token: bool
    chat_template: str | None
    trained_context_length: int

    @classmethod
    def read(cls, path: Path) -> Vocabulary:
        """The vocabulary inside a GGUF file.

        Raises:
            SpecificationError: the file is no GGUF file, or its tokenizer is not byte-level BPE.
        """
        header = read_header(path)
        fields = header.fields
        kind = fields.get("tokenizer.ggml.model")
        if kind != "gpt2":
            raise SpecificationError(
                f"Could not use {str(path)!r}: its tokenizer is {kind!r}. Choose a model with byte-level BPE ('gpt2')."
            )
        return cls(
            tokens=tuple(fields["tokenizer.ggml.tokens"]),
            token_types=tuple(fields["tokenizer.ggml.token_type"]),
            end_token_id=int(fields["tokenizer.ggml.eos_token_id"]),
            add_start_token=bool(fields.get("tokenizer.ggml.add_bos_token", False)),
            chat_template=fields.get("tokenizer.chat_template"),
            trained_context_length=int(header.setting("context_length")),
        )

    @property
    def size(self) -> int:
        """How many tokens there are."""
        return len(self.tokens)

    def is_text(self, token_id: int) -> bool:
        """Whether the token stands for bytes of text, and not for control."""
        return self.token_types[token_id] == _NORMAL_TOKEN

    def is_control(self, token_id: int) -> bool:
        """Whether its name in a prompt means the token only where the engine is told to read it so."""
        return self.token_types[token_id] in _CONTROL_TOKENS

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes a token stands for; the literal name of a control token."""
        token = self.tokens[token_id]
        if not self.is_text(token_id):
            return token.encode()
        return b"".join(_BYTE_OF[character] for character in token)

    @cached_property
    def ids_by_bytes(self) -> dict[bytes, int]:
        """Token ids by the bytes they stand for; text tokens only."""
        return {self.token_bytes(number): number for number in range(self.size) if self.is_text(number)}

    @cached_property
    def longest_token(self) -> int:
        """Bytes of the longest token."""
        return max(len(self.token_bytes(number)) for number in range(self.size))

    @cached_property
    def first_control_token_id(self) -> int:
        """A token that no text and no grammar contains."""
        return next(n for n in range(self.size) if not self.is_text(n) and n != self.end_token_id)


def _byte_alphabet() -> dict[str, bytes]:
    """Byte per character of byte-level BPE: printable Latin-1 is itself, the other bytes follow from U+0100 on.

    Source: `bytes_to_unicode` of the GPT-2 release.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in set(printable)]
    alphabet = {chr(byte): bytes([byte]) for byte in printable}
    return alphabet | {chr(0x100 + number): bytes([byte]) for number, byte in enumerate(rest)}


_BYTE_OF = _byte_alphabet()
