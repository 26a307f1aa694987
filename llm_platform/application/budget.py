"""What runs may use: tokens, minutes and money."""

from __future__ import annotations

from pydantic import Field

from llm_platform.application.specification import Specification


class MonthlyBudget(Specification):
    """What all runs of a calendar month (UTC) may use together.

    Attributes:
        tokens: Of prompts and answers.
        cost_usd: At the prices of the lock entries.
    """

    tokens: int | None = Field(default=None, ge=1)
    cost_usd: float | None = Field(default=None, gt=0.0)

    @property
    def is_set(self) -> bool:
        """Whether there is any limit."""
        return self.tokens is not None or self.cost_usd is not None


class Budget(Specification):
    """What one run may use, for all variants and judges together; what is left stays missing for the next run.

    Nothing is sent that may take it beyond this: what a request may take is reserved first.

    Attributes:
        tokens: Of prompts and answers.
        minutes: In which an endpoint was there to be asked.
        cost_usd: At the prices of the lock entries.
        month: What the runs of a month may use together.
    """

    tokens: int | None = Field(default=None, ge=1)
    minutes: float | None = Field(default=None, gt=0.0)
    cost_usd: float | None = Field(default=None, gt=0.0)
    month: MonthlyBudget = Field(default_factory=MonthlyBudget)

    @property
    def is_set(self) -> bool:
        """Whether there is any limit."""
        return self.month.is_set or any(limit is not None for limit in (self.tokens, self.minutes, self.cost_usd))
