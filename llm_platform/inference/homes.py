"""Prompts that begin alike, sent to the endpoint that has their beginning in its cache."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable

from llm_platform.inference.endpoint import Breaker, EndpointState
from llm_platform.inference.requests import PreparedRequest

# Requests that wait for one endpoint while others are asked: a moment's work of it, and little memory.
_WAITING = 64
# More prefixes than are sent at once; what is older has left the endpoint's cache, or may have.
_KEPT = 1024

Take = Callable[[], PreparedRequest | None]


class Homes:
    """Gives each of several endpoints the requests that begin like what it was asked before.

    A full endpoint's requests wait for it, a few of them; when there are more, another endpoint takes the prefix over.
    """

    def __init__(self) -> None:
        self._homes: OrderedDict[int, EndpointState] = OrderedDict()
        self._waiting: dict[EndpointState, deque[PreparedRequest]] = {}

    def __bool__(self) -> bool:
        """Whether requests wait."""
        return any(self._waiting.values())

    def next(self, endpoint: EndpointState, take: Take) -> PreparedRequest | None:
        """A request for `endpoint`: its own, else a new one, else one that waits for another."""
        waiting = self._waiting.setdefault(endpoint, deque())
        if waiting:
            return waiting.popleft()
        if (left := self._left_behind()) is not None:
            return self._settle(left, endpoint)
        while (request := take()) is not None:
            home = self._homes.get(request.prefix) if request.prefix is not None else None
            if home is None or home is endpoint or not self._may_wait(home):
                return self._settle(request, endpoint)
            self._waiting[home].append(request)
        fullest = max(self._waiting.values(), key=len)
        return self._settle(fullest.popleft(), endpoint) if fullest else None

    def _may_wait(self, home: EndpointState) -> bool:
        return _is_there(home) and len(self._waiting.setdefault(home, deque())) < _WAITING

    def _left_behind(self) -> PreparedRequest | None:
        """One that waits for an endpoint that is gone, or down."""
        return next(
            (waiting.popleft() for home, waiting in self._waiting.items() if waiting and not _is_there(home)), None
        )

    def _settle(self, request: PreparedRequest, endpoint: EndpointState) -> PreparedRequest:
        if request.prefix is not None:
            self._homes[request.prefix] = endpoint
            self._homes.move_to_end(request.prefix)
            if len(self._homes) > _KEPT:
                self._homes.popitem(last=False)
        return request


def _is_there(endpoint: EndpointState) -> bool:
    return endpoint.breaker is Breaker.CLOSED and not endpoint.leaving
