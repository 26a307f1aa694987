"""Rules of `rollout` in `application.yaml`: the order of its stages, and what each may state."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from llm_platform.application.yaml.mistakes import wording
from llm_platform.application.yaml.read import Location
from llm_platform.records.rollout import STAGE_ORDER, StageKind, stage_mistakes

AT: Location = ("rollout", "stages")


def rollout_rules(data: dict[str, Any], unpriced: Collection[str]) -> Iterator[tuple[Location, str]]:
    """Every rule between the fields of `rollout` that a file breaks; what the model refuses is left to it."""
    rollout = data.get("rollout")
    if not isinstance(rollout, dict):
        return
    listed = rollout.get("stages")
    stages = listed if isinstance(listed, list) else []
    yield from _order(stages) if stages else ()
    for index, stage in enumerate(stages):
        if isinstance(stage, dict):
            yield from _stage(data, stage, index)
    if not stages and rollout.get("dry_run") is True:
        yield ("rollout", "dry_run"), wording("a dry run without stages", "'rollout.stages', a list that it would try")
    yield from _in_money(data, rollout, stages, unpriced)
    guards = rollout.get("guards")
    if isinstance(guards, dict) and guards.get("live_accuracy") and data.get("references") is None:
        found = "a guard on live_accuracy without references"
        yield ("rollout", "guards", "live_accuracy"), wording(found, "'references', a table of known answers")


def _order(stages: list[Any]) -> Iterator[tuple[Location, str]]:
    kinds: list[tuple[StageKind, float]] = [
        (kind, float(stage.get("share", 1.0)))
        for stage in stages
        for kind in STAGE_ORDER
        if isinstance(stage, dict) and stage.get("stage") == kind and isinstance(stage.get("share", 1.0), int | float)
    ]
    if len(kinds) < len(stages):
        return
    for at, text in stage_mistakes(kinds):
        found, _, allowed = text.partition("; ")
        yield AT if at is None else (*AT, at), wording(found, allowed)


def _stage(data: dict[str, Any], stage: dict[str, Any], index: int) -> Iterator[tuple[Location, str]]:
    kind = stage.get("stage")
    if kind == "champion":
        for key in stage:
            if key not in ("stage", "share"):
                found = f"{key} for a champion, which has nothing more to show"
                yield (*AT, index, key), wording(found, f"{key} at a stage before it")
        return
    if kind == "canary" and "share" not in stage:
        yield (*AT, index), wording("a canary without 'share'", "the share of documents that it publishes, below 1")
    for key in ("budget_usd", "budget_tokens"):
        if kind == "canary" and stage.get(key) is not None:
            found = f"{key} for a canary, whose answers readers get"
            yield (*AT, index, key), wording(found, f"{key} only for a shadow")
    if stage.get("roles") and not stage.get("approvals"):
        found = "roles of approvers where no approval is asked for"
        yield (*AT, index, "roles"), wording(found, "'approvals', how many of them must approve")
    needs_labels = stage.get("shows", "not_worse") != "nothing" or stage.get("least_labels")
    if needs_labels and data.get("references") is None:
        found = "a stage that is decided by labels without references"
        yield (*AT, index), wording(found, "'shows: nothing', or 'references', a table of known answers")


def _in_money(
    data: dict[str, Any], rollout: dict[str, Any], stages: list[Any], unpriced: Collection[str]
) -> Iterator[tuple[Location, str]]:
    guards = rollout.get("guards")
    places: list[Location] = [
        (*AT, index, "budget_usd")
        for index, stage in enumerate(stages)
        if isinstance(stage, dict) and stage.get("budget_usd") is not None
    ]
    if isinstance(guards, dict) and guards.get("cost_usd_per_document") is not None:
        places.append(("rollout", "guards", "cost_usd_per_document"))
    variants = data.get("variants")
    for name, variant in variants.items() if isinstance(variants, dict) else ():
        if isinstance(variant, dict) and variant.get("model") in unpriced:
            for place in places:
                found = f"a limit in money, and model {variant['model']!r} of {name!r} has no price"
                allowed = "its price_per_gpu_hour_usd or price_per_million_input_tokens_usd in models.lock.yaml"
                yield place, wording(found, allowed)
