"""What clusters, registries and engines say, made fit for a message: without keys, on one line, and not too long."""

from __future__ import annotations

import re

MAX_WORDS = 400
"""Characters of a message that are passed on."""

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


def last_words(log: str, *, lines: int = 12, width: int = 300) -> str:
    """The last lines of a log, fit to be shown; each on a line of its own."""
    kept = [plain(line, width) for line in log.splitlines() if line.strip()]
    return "\n".join(kept[-lines:])
