"""Energy of the processor, by the kernel's own meter where this process may read it."""

from __future__ import annotations

from pathlib import Path

RAPL = Path("/sys/class/powercap")


class EnergyMeter:
    """Counts from its creation; a counter that wraps once meanwhile is handled."""

    def __init__(self, root: Path = RAPL) -> None:
        # Whole packages only (intel-rapl:0): parts of one (intel-rapl:0:0) are in it already.
        self._counters = [path for path in sorted(root.glob("intel-rapl:*")) if path.name.count(":") == 1]
        self._start = {path: _microjoules(path / "energy_uj") for path in self._counters}

    def joules(self) -> float | None:
        """Used since creation, by everything on the machine; None where there is no readable meter."""
        total = 0.0
        for path, start in self._start.items():
            now = _microjoules(path / "energy_uj")
            if start is None or now is None:
                return None
            total += now - start if now >= start else now - start + (_microjoules(path / "max_energy_range_uj") or 0.0)
        return total / 1e6 if self._start else None


def _microjoules(path: Path) -> float | None:
    try:
        return float(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
