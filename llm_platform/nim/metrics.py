"""Prometheus text, read into neutral names.

A NIM publishes at most a few hundred lines, read four times a second: only the known names are parsed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from llm_platform.nim.dialects import metric_names

_NAMES = metric_names()
_SHARES = frozenset({"kv_cache_usage"})


def read_metrics(text: bytes | str, names: Mapping[str, str] | None = None) -> dict[str, float]:
    """Neutral name → value.

    Samples of one name (labels: model, engine) are added up; shares take the largest. A name that the endpoint does not
    publish is absent: a multi-GPU TensorRT-LLM profile of 1.x reports no queue, for example.
    """
    wanted = _NAMES if names is None else names
    found: dict[str, float] = {}
    lines = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    for line in lines.splitlines():
        if not line or line[0] == "#":
            continue
        name = line.partition("{")[0] if "{" in line else line.split(None, 1)[0]
        neutral = wanted.get(name)
        value = _value(line) if neutral else None
        if neutral is None or value is None:
            continue
        known = found.get(neutral)
        if known is None:
            found[neutral] = value
        else:
            found[neutral] = max(known, value) if neutral in _SHARES else known + value
    return found


def _value(line: str) -> float | None:
    """The number after the labels; an optional timestamp behind it is left alone. NaN and infinities are no reading."""
    fields = line[line.rindex("}") + 1 :].split() if "}" in line else line.split()[1:]
    try:
        value = float(fields[0])
    except (IndexError, ValueError):
        return None
    return value if math.isfinite(value) else None
