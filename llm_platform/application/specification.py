"""What every model of a specification file has in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Specification(BaseModel):
    """Base of the models of a specification file: immutable, and closed to unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)
