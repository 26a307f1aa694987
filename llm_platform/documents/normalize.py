"""The one form of a text: what two documents with equal text have in common."""

from __future__ import annotations

import re
import unicodedata

# C0 and C1 except tab and line feed; DEL is a control character too.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]+")
_REPLACEMENT = "\ufffd"


def normalized(text: str) -> str:
    """The text in NFC with LF line ends, without control characters, trailing blanks and outer white space.

    Nothing else changes: inner spaces, case, tags and invisible format characters stay. Twice is the same as once.
    """
    if "\r" in text:
        # A lone CR is a line end as well; dropped as a control character it would join two words.
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if _CONTROL.search(text) is not None:
        text = _CONTROL.sub("", text)
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    if " \n" in text or "\t\n" in text:
        # Line by line, because a pattern for trailing blanks takes quadratic time on a long run of them.
        text = "\n".join(line.rstrip(" \t") for line in text.split("\n"))
    return text.strip()


def decoded(data: bytes) -> tuple[str, str | None]:
    """The text of UTF-8 bytes, and why it is not the text that was meant, if so.

    Returns:
        The text (with U+FFFD for what cannot be read) and a reason, or the text and None.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        reason = f"not UTF-8: byte 0x{data[error.start]:02x} at position {error.start} of {len(data)} bytes"
        return data.decode(errors="replace"), reason
    count = text.count(_REPLACEMENT)
    if count * 2 > len(text):
        return text, f"{count} of {len(text)} characters are U+FFFD: the text was decoded in another encoding before"
    return text, None
