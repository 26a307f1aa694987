"""What the service has done, as Prometheus reads it."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from llm_platform.online.desk import AnswerDesk

BOUNDS_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


@dataclass
class _DurationHistogram:
    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_SECONDS) + 1))
    total: float = 0.0


@dataclass
class Figures:
    """Counts since the service began.

    Attributes:
        requests: (application, caller, HTTP status) → how many.
        stored: Application → answers that were there before.
    """

    requests: Counter[tuple[str, str, int]] = field(default_factory=Counter)
    stored: Counter[str] = field(default_factory=Counter)
    _seconds: dict[str, _DurationHistogram] = field(default_factory=dict)

    def answered(self, application: str, seconds: float, *, was_stored: bool) -> None:
        """Count an answer, and the time from its request to its reply."""
        found = self._seconds.setdefault(application, _DurationHistogram())
        found.counts[bisect_left(BOUNDS_SECONDS, seconds)] += 1
        found.total += seconds
        self.stored[application] += was_stored

    def text(self, desks: Mapping[str, AnswerDesk]) -> str:
        """All of it."""
        return "\n".join((*self._lines(desks), ""))

    def _lines(self, desks: Mapping[str, AnswerDesk]) -> Iterator[str]:
        yield from _head("requests_total", "counter", "Requests, by what their callers were told.")
        for (application, caller, status), count in sorted(self.requests.items()):
            labels = f'application="{_quoted(application)}",caller="{_quoted(caller)}",status="{status}"'
            yield f"llm_platform_serve_requests_total{{{labels}}} {count}"
        yield from _head("answer_seconds", "histogram", "From a request to its answer.")
        for application, found in sorted(self._seconds.items()):
            yield from _buckets(application, found)
        yield from _head("stored_answers_total", "counter", "Answers that were there before; nothing was sent.")
        for application, count in sorted(self.stored.items()):
            yield f'llm_platform_serve_stored_answers_total{{application="{_quoted(application)}"}} {count}'
        states = {name: desk.state() for name, desk in sorted(desks.items())}
        for name, kind, help_text in _OF_A_STATE:
            yield from _head(name, kind, help_text)
            for application, state in states.items():
                value = getattr(state, name.removesuffix("_total"))
                yield f'llm_platform_serve_{name}{{application="{_quoted(application)}"}} {value}'
        yield from _head("ready", "gauge", "1 where new documents are answered.")
        for application, state in states.items():
            yield f'llm_platform_serve_ready{{application="{_quoted(application)}"}} {int(state.problem is None)}'
        yield from _head("degraded", "gauge", "What does not work while documents are answered, e.g. the lake is away.")
        for application, state in states.items():
            yield f'llm_platform_serve_degraded{{application="{_quoted(application)}"}} {len(state.degraded)}'
        yield from _head("champion", "gauge", "1 for the release that serves.")
        for application, state in states.items():
            if state.champion is not None:
                labels = f'application="{_quoted(application)}",release="{state.champion}"'
                yield f"llm_platform_serve_champion{{{labels}}} 1"


_OF_A_STATE = (
    ("queued", "gauge", "Documents that wait to be sent."),
    ("open", "gauge", "Documents without an answer yet."),
    ("limit", "gauge", "Requests that the endpoints of the champion may have in flight."),
    ("uncommitted", "gauge", "Answers that are on the disk and not in the lake yet."),
    ("asked_again_total", "counter", "Texts asked again, since their stored answers could not be read."),
    ("skipped_shadows_total", "counter", "Documents that a shadow had no room or budget for."),
)


def _head(name: str, kind: str, help_text: str) -> Iterator[str]:
    yield f"# HELP llm_platform_serve_{name} {help_text}"
    yield f"# TYPE llm_platform_serve_{name} {kind}"


def _buckets(application: str, found: _DurationHistogram) -> Iterator[str]:
    name, label, count = "llm_platform_serve_answer_seconds", f'application="{_quoted(application)}"', 0
    for bound, more in zip((*BOUNDS_SECONDS, None), found.counts, strict=True):
        count += more
        yield f'{name}_bucket{{{label},le="{"+Inf" if bound is None else f"{bound:g}"}"}} {count}'
    yield f"{name}_sum{{{label}}} {found.total:.6f}"
    yield f"{name}_count{{{label}}} {count}"


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
