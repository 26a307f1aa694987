"""Who may ask what, and how much: the file of callers, and what each of them has used lately."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from llm_platform.errors import SpecificationError
from llm_platform.online.desk import Turned
from llm_platform.web.tokens import LOCAL_ADDRESSES, is_token_hash, token_hash

ALL = "*"
METRICS = "metrics"
"""A scope beside applications: to read metrics, which name callers."""
_LIMITS = ("per_minute", "at_once")
_MINUTE = 60.0


@dataclass(frozen=True)
class OnlineCaller:
    """Somebody's program.

    Attributes:
        scopes: Applications, `*` for all of them, and `metrics`.
        per_minute: Requests in a minute; None for no limit.
        at_once: Requests that may be open together; None for no limit.
    """

    name: str
    scopes: frozenset[str]
    per_minute: int | None = None
    at_once: int | None = None

    def may_use(self, scope: str) -> bool:
        """Whether it has a scope; `*` stands for all applications, and for metrics."""
        return ALL in self.scopes or scope in self.scopes


LOCAL = OnlineCaller("local", frozenset({ALL}))
"""Whoever is on this machine, where nobody is told apart."""


class Callers:
    """The callers of a service; those that are in the file now.

    Args:
        file: One `name scopes token-hash [per_minute=N] [at_once=N]` a line; None lets in whoever reaches the service.
    """

    def __init__(self, file: Path | None) -> None:
        self.problem: str | None = None
        self._file = file
        self._seen: tuple[int, int] | None = None
        self._by_hash: dict[str, OnlineCaller] = {}
        if file is not None:
            self._by_hash = read_callers(file)
            self._seen = _time_and_size(file)

    @property
    def by_token(self) -> bool:
        """Whether callers are told apart."""
        return self._file is not None

    def of(self, authorization: str | None) -> OnlineCaller | None:
        """The caller that an `Authorization` header names; None for somebody unknown."""
        if self._file is None:
            return LOCAL
        kind, _, token = (authorization or "").partition(" ")
        # Found by its hash: what the time of a look-up tells of a hash helps nobody to a token.
        return self._by_hash.get(token_hash(token.strip())) if kind.lower() == "bearer" else None

    def refresh(self) -> None:
        """Read the file again where it has changed; one with mistakes leaves things as they were, and is told."""
        if self._file is None or (seen := _time_and_size(self._file)) == self._seen:
            return
        try:
            self._by_hash = read_callers(self._file)
        except SpecificationError as error:
            self.problem = str(error)
            return
        self._seen, self.problem = seen, None


class CallerLimits:
    """What callers have used lately."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._open: dict[str, int] = {}
        # Requests that may be made at once, as of a time: they come back one by one over a minute.
        self._left: dict[str, tuple[float, float]] = {}

    def open_of(self, name: str) -> int:
        """Requests of a caller that are open."""
        return self._open.get(name, 0)

    @contextmanager
    def within(self, caller: OnlineCaller) -> Iterator[None]:
        """One request of a caller.

        Raises:
            Turned: it has as many open as it may, or has made as many lately.
        """
        name = caller.name
        if caller.at_once is not None and self.open_of(name) >= caller.at_once:
            raise Turned(
                429,
                "too_many_requests",
                f"{name} has {caller.at_once} requests open, which is its limit. Wait for one of them.",
                retry_after=1.0,
            )
        self._take(caller)
        self._open[name] = self.open_of(name) + 1
        try:
            yield
        finally:
            self._open[name] -= 1

    def _take(self, caller: OnlineCaller) -> None:
        if caller.per_minute is None:
            return
        now, most = self._clock(), float(caller.per_minute)
        left, then = self._left.get(caller.name, (most, now))
        left = min(most, left + (now - then) * most / _MINUTE)
        if left < 1.0:
            raise Turned(
                429,
                "too_many_requests",
                f"{caller.name} may make {caller.per_minute} requests a minute.",
                retry_after=(1.0 - left) * _MINUTE / most,
            )
        self._left[caller.name] = left - 1.0, now


def callers_for(host: str, file: Path | None) -> Callers:
    """The callers of a service that listens on `host`.

    Raises:
        SpecificationError: others can reach the address and nothing says who they are, or the file has mistakes.
    """
    if file is None and host not in LOCAL_ADDRESSES:
        raise SpecificationError(
            f"Cannot serve answers on {host!r}: others can reach it, and nothing says who they are. Set "
            "LLM_PLATFORM_SERVE_CALLERS to a file of callers with tokens (llm-platform serve token NAME), or leave out "
            "--host."
        )
    return Callers(file)


def read_callers(path: Path) -> dict[str, OnlineCaller]:
    """The file of callers: hash of the token → caller; `#` begins a comment.

    Raises:
        SpecificationError: lists every mistake as `file:line: …`; it never shows a hash.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise SpecificationError(f"Cannot read the callers of the service from {str(path)!r}: {reason}.") from error
    found: dict[str, OnlineCaller] = {}
    names: set[str] = set()
    mistakes = []
    for number, line in enumerate(lines, start=1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        mistake = _mistake(words, names, found)
        if mistake is not None:
            mistakes.append(f"{path}:{number}: {mistake}")
            continue
        limits = {name: int(value) for name, _, value in (word.partition("=") for word in words[3:])}
        names.add(words[0])
        found[words[2].lower()] = OnlineCaller(words[0], frozenset(words[1].split(",")), **limits)
    if mistakes:
        raise SpecificationError("\n".join(mistakes))
    return found


def _mistake(words: list[str], names: Collection[str], found: Mapping[str, OnlineCaller]) -> str | None:
    if len(words) < 3:
        return f"found {len(words)} words, expected 'name applications token-hash'"
    if not all(words[1].split(",")):
        return "found an empty name among the applications, expected names joined by ',' or '*'"
    if not is_token_hash(words[2]):
        return "the third word is not a SHA-256 in hexadecimal; make one with: llm-platform serve token NAME"
    if words[0] in names or words[2].lower() in found:
        return f"found {words[0]!r} or its token a second time, expected each caller once, with a token of its own"
    for word in words[3:]:
        name, _, value = word.partition("=")
        # As few digits as a limit has, so that the number is read whatever was written.
        if name not in _LIMITS or not (value.isascii() and value.isdecimal() and len(value) < 10 and int(value) > 0):
            return f"found {word!r}, expected {' or '.join(f'{one}=NUMBER' for one in _LIMITS)}"
    return None


def _time_and_size(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
