"""What a run may still use of its budget: reserved before a request is sent, settled when its reply is there.

A budget that is compared with what has come back is none: whatever is in flight at that moment is paid, too. So each
request reserves the tokens that it may take, and is sent only while everything that is reserved fits into the budget.
"""

from __future__ import annotations

from dataclasses import dataclass

from llm_platform.inference.policy import EnginePolicy
from llm_platform.inference.wire import Reply
from llm_platform.records import Release, TokenUsage

# Twice that of English, and that of Chinese; assumed of the first request, whose reply says how many they are.
_TOKENS_PER_BYTE = 0.5
# The next document may be cut into smaller pieces than any that has been seen.
_MARGIN = 1.25


@dataclass(frozen=True, slots=True)
class _Reserved:
    """Tokens that one request in flight may take."""

    prompt: int
    completion: int
    size_bytes: int


class Allowance:
    """Tokens, time and money that a run has left.

    Attributes:
        used_up: The budget that had no room for a request while nothing was in flight that might leave some.
        presumed_tokens: Counted for replies that do not say what they took, and for requests that were given up on.
        active_seconds: Time that is paid for; set by who watches the clock.
    """

    def __init__(self, policy: EnginePolicy, release: Release) -> None:
        self.used_up: str | None = None
        self.presumed_tokens, self.active_seconds = 0, 0.0
        self._tokens, self._seconds = policy.budget_tokens, policy.budget_seconds
        self._usd, self._prices = policy.budget_usd, policy.prices
        self._limited = any(limit is not None for limit in (self._tokens, self._seconds, self._usd))
        self._context_length = release.model.context_length
        self._most = 1 if release.decision == "logprobs" else release.sampling.max_tokens
        self._tokens_per_byte, self._is_measured = _TOKENS_PER_BYTE, False
        # Taken and reserved together: what is in flight counts as if it were paid.
        self._prompt = self._completion = 0
        self._in_flight: dict[int, _Reserved] = {}

    def admits(self, key: int, body: bytes) -> bool:
        """Reserve what a request may take; False where that does not fit.

        The first one goes alone: what it took says how much the others will.

        Args:
            key: Names the request until it is settled.
            body: As it would be sent.
        """
        if not self._limited:
            return True
        if self._in_flight and not self._is_measured:
            return False
        prompt = min(round(len(body) * self._tokens_per_byte), self._context_length)
        broken = self._broken(prompt, self._most)
        if broken is not None:
            self.used_up = self.used_up or (None if self._in_flight else broken)
            return False
        self._in_flight[key] = _Reserved(prompt, self._most, len(body))
        self._prompt += prompt
        self._completion += self._most
        return True

    def settle(self, key: int, reply: Reply, *, prompt_tokens: int, completion_tokens: int) -> None:
        """Count what a reply says that it took; of an answer that does not say, as much as was reserved."""
        reserved = self._in_flight.pop(key, None)
        if reserved is None:
            return
        if prompt_tokens + completion_tokens:
            self._learn(reserved, prompt_tokens, completion_tokens)
        elif reply.status == 200 or reply.failure == "timeout":
            # The endpoint has read the prompt, and may have answered in full.
            prompt_tokens, completion_tokens = reserved.prompt, reserved.completion
            self.presumed_tokens += prompt_tokens + completion_tokens
            self._is_measured = self._is_measured or reply.status == 200
        self._prompt += prompt_tokens - reserved.prompt
        self._completion += completion_tokens - reserved.completion

    def _learn(self, reserved: _Reserved, prompt_tokens: int, completion_tokens: int) -> None:
        measured = _MARGIN * prompt_tokens / max(reserved.size_bytes, 1)
        self._tokens_per_byte = max(self._tokens_per_byte, measured) if self._is_measured else measured
        self._most = max(self._most, completion_tokens)
        self._is_measured = True

    def _broken(self, prompt: int, completion: int) -> str | None:
        prompt, completion = self._prompt + prompt, self._completion + completion
        if self._tokens is not None and prompt + completion > self._tokens:
            return "budget_tokens"
        if self._seconds is not None and self.active_seconds >= self._seconds:
            return "budget_seconds"
        if self._usd is None:
            return None
        usage = TokenUsage(prompt_tokens=prompt, completion_tokens=completion)
        return "budget_usd" if self._prices.cost_usd(self.active_seconds, usage) > self._usd else None
