"""What a storage of Dagster's history says that makes runs, events and schedules by itself."""

from __future__ import annotations

from dagster._serdes import ConfigurableClassData


class MakesAllThree:
    """Dagster asks a storage for three descriptions, to make its parts anew elsewhere: there are none."""

    @property
    def run_storage_data(self) -> ConfigurableClassData | None:
        """Of the runs."""
        return None

    @property
    def event_storage_data(self) -> ConfigurableClassData | None:
        """Of the events."""
        return None

    @property
    def schedule_storage_data(self) -> ConfigurableClassData | None:
        """Of the ticks."""
        return None
