"""Ask a base model and its adapter what the base could do before, and count what is left of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from llm_platform.errors import EndpointUnavailable
from llm_platform.evaluation.statistics import wilson_bounds
from llm_platform.finetuning.abilities import ABILITIES, ABILITIES_VERSION, MOST_TOKENS, Ability, is_right
from llm_platform.nim.http import EndpointClient
from llm_platform.records import Interval, Record
from llm_platform.settings.connection import Connection

AT_ONCE = 8
LEAST_KEPT = 0.8
"""The lower bound of what is kept must reach it: one ability in five may be lost, or be luck. An adapter that has lost
the language keeps next to nothing, so the exact value matters little."""


class KeptAbilities(Record):
    """What an adapter still can of what its base could.

    Attributes:
        version: Of the set of texts.
        base_right: How many texts the base continued right, of `asked`; only these count.
        kept: Share of them that the adapter continues right, with its interval; None where the base had none right.
        lost: Of those that it no longer does, how many of each kind.
    """

    version: str
    asked: int
    base_right: int
    kept: Interval | None
    lost: dict[str, int]
    minimum: float = LEAST_KEPT

    @property
    def passed(self) -> bool:
        """Whether enough is left; a base that could nothing has nothing to lose."""
        return self.kept is None or self.kept.lower >= self.minimum


def measure_abilities(
    base_url: str,
    *,
    base: str,
    adapter: str,
    confidence: float,
    connection: Connection | None = None,
    verify: Callable[[], None] | None = None,
) -> KeptAbilities:
    """Hold an adapter against its base on texts that have nothing to do with its task, greedily, one answer each.

    Args:
        base_url: Root of an endpoint that serves both.
        base: Served name of the base model.
        adapter: Served name of the adapter.
        confidence: Of the interval.
        connection: How the endpoint is reached.
        verify: Called when everything has come back, as of `Asking`.

    Raises:
        EndpointUnavailable: the endpoint does not answer.
        EndpointMismatch: it has served something else meanwhile; nothing is measured then.
    """
    url = f"{base_url.rstrip('/').removesuffix('/v1')}/v1/completions"
    with (
        EndpointClient(connection) as client,
        ThreadPoolExecutor(AT_ONCE, thread_name_prefix="abilities") as pool,
    ):

        def right(model: str) -> list[bool]:
            return list(pool.map(lambda ability: is_right(ability, _continued(client, url, model, ability)), ABILITIES))

        before, after = right(base), right(adapter)
    if verify is not None:
        verify()
    kept = [still for could, still in zip(before, after, strict=True) if could]
    lost: dict[str, int] = {}
    for ability, could, still in zip(ABILITIES, before, after, strict=True):
        if could and not still:
            lost[ability.kind] = lost.get(ability.kind, 0) + 1
    return KeptAbilities(
        version=ABILITIES_VERSION,
        asked=len(ABILITIES),
        base_right=len(kept),
        kept=_interval(kept, confidence) if kept else None,
        lost=lost,
    )


def _continued(client: EndpointClient, url: str, model: str, ability: Ability) -> str:
    payload = {"model": model, "prompt": ability.prompt, "max_tokens": MOST_TOKENS, "temperature": 0}
    status, body = client.post(url, payload)
    if status != 200:
        raise EndpointUnavailable(f"{url} was asked what {model!r} can, and answered HTTP {status}. Run it again.")
    return str(json.loads(body)["choices"][0]["text"])


def _interval(flags: list[bool], confidence: float) -> Interval:
    value = sum(flags) / len(flags)
    lower, upper = wilson_bounds(value, len(flags), confidence=confidence)
    return Interval(value=value, lower=lower, upper=upper, confidence=confidence, count=len(flags))
