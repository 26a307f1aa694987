"""What a model costs, by the hour, by the token, or both."""

from __future__ import annotations

from llm_platform.records.base import Record
from llm_platform.records.completions import TokenUsage

SECONDS_PER_HOUR = 3600.0


class Prices(Record):
    """Prices of one lock entry; None is a price that nobody has written down.

    Attributes:
        usd_per_hour: Of all its GPUs together, while it is asked.
    """

    usd_per_hour: float | None = None
    usd_per_million_prompt_tokens: float | None = None
    usd_per_million_completion_tokens: float | None = None

    @property
    def are_known(self) -> bool:
        """Whether there is a price at all."""
        return any(price is not None for price in self.model_dump().values())

    def cost_usd(self, seconds: float, usage: TokenUsage) -> float:
        """Price of this much time and so many tokens."""
        tokens = usage.prompt_tokens * (self.usd_per_million_prompt_tokens or 0.0)
        tokens += usage.completion_tokens * (self.usd_per_million_completion_tokens or 0.0)
        return seconds * (self.usd_per_hour or 0.0) / SECONDS_PER_HOUR + tokens / 1_000_000


NO_PRICES = Prices()
