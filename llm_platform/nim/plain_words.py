"""What clusters, registries and engines say, made fit for a message: without keys, on one line, and not too long."""

from __future__ import annotations

import re
from pathlib import Path

from llm_platform.errors import StorageError
from llm_platform.files import write_text

MAX_WORDS = 400
"""Characters of a message that are passed on."""

LOG_LINES = 200
"""Lines of a log that are kept of what is gone."""
_WIDEST_LINE = 2_000

_SECRETS = (
    (re.compile(r"(https?://[^\s?\"']+)\?[^\s\"']*"), r"\1"),
    (re.compile(r"(https?://)[^\s/@\"']+@"), r"\1"),
    (re.compile(r"\b(?:nvapi|hf|ghp|glpat)[-_][A-Za-z0-9_-]{8,}"), "(secret)"),
    (re.compile(r"\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}", re.I), r"\1 (secret)"),
    (
        re.compile(r"((?:token(?!s)|password|passwd|secret|api_?key)\w*[\"']?\s*[=:]\s*[\"']?)[^\s\"',;&]+", re.I),
        r"\1(secret)",
    ),
)
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]")


def plain(text: object, limit: int = MAX_WORDS) -> str:
    """A message of the cluster's without secrets or control characters, on one line and not too long."""
    said = _CONTROL.sub("", " ".join(str(text or "").split()))
    for pattern, instead in _SECRETS:
        said = pattern.sub(instead, said)
    return said if len(said) <= limit else f"{said[: limit - 1]}…"


def keep_log(path: Path, log: str) -> str:
    """Keep the log of what is gone, for its owner, without secrets; where it lies, in words.

    A log may hold prompts, so no message quotes it.
    """
    kept = [plain(line, _WIDEST_LINE) for line in log.splitlines() if line.strip()]
    if not kept:
        return "Its log could not be read, or is empty."
    try:
        write_text(path, "\n".join(kept) + "\n")
    except StorageError as error:
        return f"Its log could not be kept: {error}"
    return f"The end of its log is in {str(path)!r}."
