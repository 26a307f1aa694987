"""Mistakes in files that people write, one line each."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from llm_platform.errors import SpecificationError

MAX_SHOWN = 60
MAX_FILE_BYTES = 1_000_000


@dataclass(frozen=True, order=True)
class Mistake:
    """One mistake: where it stands, and what to do about it."""

    path: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.text}"


def raise_all(mistakes: Iterable[Mistake]) -> None:
    """Raise one `SpecificationError` with every mistake, by file and line; return when there is none."""
    lines = [str(mistake) for mistake in sorted(set(mistakes))]
    if lines:
        raise SpecificationError("\n".join(lines))


def wording(found: str, allowed: str, suggestion: str | None = None) -> str:
    """The common form of a mistake: `found …; allowed: …; did you mean …?`."""
    question = f"; did you mean {suggestion!r}?" if suggestion is not None else ""
    return f"found {found}; allowed: {allowed}{question}"


def nearest(word: str, allowed: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """The allowed word that `word` was probably meant to be, or None when none is close."""
    by_lower = {choice.lower(): choice for choice in allowed}
    close = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=cutoff)
    return by_lower[close[0]] if close else None


def listed(words: Iterable[str]) -> str:
    """Words in quotes, separated by commas; "nothing" when there is none."""
    return ", ".join(repr(word) for word in words) or "nothing"


def shown(text: str) -> str:
    """A value as it was written, on one line and cut to a readable length, without the secrets of addresses."""
    line = re.sub(r"(://)[^/\s]*@", r"\1***@", " ".join(text.split()))
    line = re.sub(r"(?i)((?:api[-_]?key|token|password|secret)=)[^&\s]+", r"\1***", line)
    return repr(line if len(line) <= MAX_SHOWN else line[: MAX_SHOWN - 1] + "…")


def read_text(path: Path, mistakes: list[Mistake]) -> str | None:
    """The text of a UTF-8 file with LF line ends, or None after adding to `mistakes` why it cannot be read."""
    try:
        data = path.read_bytes()
    except OSError as error:
        mistakes.append(Mistake(str(path), 1, wording(f"no readable file ({error.strerror})", "a text file in UTF-8")))
        return None
    if len(data) > MAX_FILE_BYTES:
        found = f"a file of {len(data)} bytes"
        mistakes.append(Mistake(str(path), 1, wording(found, f"at most {MAX_FILE_BYTES} bytes")))
        return None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        found = f"byte 0x{data[error.start]:02x}, which is not UTF-8"
        mistakes.append(Mistake(str(path), line, wording(found, "text in UTF-8 (save the file in that encoding)")))
        return None
    text = text.replace("\r\n", "\n")
    position = next((at for at, letter in enumerate(text) if letter < " " and letter not in "\n\t"), None)
    if position is not None:
        found = f"control character U+{ord(text[position]):04X}"
        mistakes.append(Mistake(str(path), text.count("\n", 0, position) + 1, wording(found, "printable text")))
        return None
    return text
