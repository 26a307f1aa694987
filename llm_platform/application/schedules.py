"""Times at which something is done whether or not anything has changed."""

from __future__ import annotations

from typing import Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import field_validator, model_validator

from llm_platform.application.cron import cron_mistake
from llm_platform.application.specification import Specification


class StatedTimes(Specification):
    """When something is done whether or not anything has changed: times as cron writes them, in `timezone`.

    Attributes:
        run: The everyday job: what a sensor did not see is taken up.
        full: The same, reading, counting and comparing everything (`run --full`).
        drift: Drift, and which live documents should be labelled.
    """

    run: str | None = None
    full: str | None = None
    drift: str | None = None
    timezone: str = "UTC"

    @property
    def stated(self) -> dict[str, str]:
        """What is done → when."""
        found = {"run": self.run, "full": self.full, "drift": self.drift}
        return {name: when for name, when in found.items() if when is not None}

    @field_validator("run", "full", "drift")
    @classmethod
    def _is_cron(cls, value: str | None) -> str | None:
        if value is not None and (mistake := cron_mistake(value)) is not None:
            raise ValueError(f"found {mistake}")
        return value

    @model_validator(mode="after")
    def _zone_is_known(self) -> Self:
        try:
            ZoneInfo(self.timezone)
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError(f"time zone {self.timezone!r} is not known; write one such as Europe/Berlin") from None
        return self
