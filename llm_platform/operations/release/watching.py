"""One look at what serves and at every rollout: decided, acted on, and told, without a person."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from llm_platform.errors import (
    ContractBroken,
    EndpointMismatch,
    EvidenceMissing,
    PlatformError,
    SpecificationError,
    StorageError,
    TransientError,
)
from llm_platform.operations.live import live_rollouts, open_rollouts
from llm_platform.operations.release.guards import breaches
from llm_platform.operations.release.rollout import champion_failure, rollback
from llm_platform.operations.release.rollouts import DecidedStep, RolloutLook, decide_rollout
from llm_platform.operations.releases import LoadedApplication
from llm_platform.operations.watching.alerts import note
from llm_platform.records import RolloutEvent
from llm_platform.records.evaluation import AUTOMATIC
from llm_platform.warehouse.alerts import Event
from llm_platform.warehouse.lake import Warehouse
from llm_platform.warehouse.store import ApplicationStore

CHAMPION_FAILING = "champion_failing"
GUARD = "guard_broken"
HELD, WITHDRAWN = "rollout_held", "rollout_withdrawn"
UNDECIDED = "rollout_not_decided"
ROLLED_BACK = "champion_rolled_back"


@dataclass(frozen=True)
class WatchedRollouts:
    """What one look did.

    Attributes:
        champion_trouble: Why what serves may publish nothing new; None where it may.
        rolled_back: The decision that brought back what served before.
        decided: One for each rollout that is not over.
        troubles: Variant → why its rollout could not be decided.
        still_read: The step that withdrew a canary whose answers readers still have.
    """

    champion_trouble: str | None = None
    rolled_back: RolloutEvent | None = None
    decided: tuple[DecidedStep, ...] = ()
    troubles: dict[str, str] = field(default_factory=dict)
    still_read: str | None = None

    @property
    def changes_readers(self) -> bool:
        """Whether readers get something else from now on."""
        return self.rolled_back is not None or any(one.changes_readers for one in self.decided)

    @property
    def changes_asking(self) -> bool:
        """Whether a rollout moved, so that other documents are asked about from now on."""
        return any(one.is_news and one.step.applied and one.step.decision == "promote" for one in self.decided)

    @property
    def lines(self) -> list[str]:
        """What was decided, a line each."""
        lines = [] if self.champion_trouble is None else [f"the champion does not pass: {self.champion_trouble}"]
        if self.rolled_back is not None:
            lines.append(f"{self.rolled_back.variant} (release {self.rolled_back.release_id}) serves again")
        lines += [one.line for one in self.decided]
        return lines + [f"{variant}: {trouble}" for variant, trouble in self.troubles.items()]


def watch_rollouts(
    lake: Warehouse, loaded: LoadedApplication, *, look: RolloutLook, quiet: timedelta = timedelta(hours=6)
) -> WatchedRollouts:
    """Look at the champion, then at every rollout, the oldest first; store what is decided, and tell people.

    What cannot be decided for one rollout is no matter of the others.

    Args:
        quiet: Trouble that goes on is told again after this.
    """
    name = loaded.application.name
    store = lake.application(name)
    running = open_rollouts(store)
    if not loaded.application.rollout.is_watched and not running:
        note(lake, _over(lake, store, loaded), now=look.now, quiet=quiet)
        return WatchedRollouts()
    trouble, back = _champion(store, loaded, look)
    events = _champion_events(store, loaded, trouble, back)
    decided: list[DecidedStep] = []
    troubles: dict[str, str] = {}
    for rollout in running:
        try:
            one = decide_rollout(store, loaded, rollout.rollout_id, look=look)
        except TransientError:
            raise
        except PlatformError as error:
            troubles[rollout.variant] = str(error)
            events.append(Event(UNDECIDED, name, rollout.variant, failing=True, message=str(error)))
            continue
        decided.append(one)
        events += _events(name, one)
    events += _over(lake, store, loaded)
    # Two releases of one variant may be on their way: what one of them has is not over because the other does well.
    failing = {(one.kind, one.variant) for one in events if one.failing}
    told = [one for one in events if one.failing or (one.kind, one.variant) not in failing]
    note(lake, told, now=look.now, quiet=quiet)
    return WatchedRollouts(trouble, back, tuple(decided), troubles, _still_read(store, loaded))


def _still_read(store: ApplicationStore, loaded: LoadedApplication) -> str | None:
    """The step that withdrew a canary whose answers readers still have; None where they have no such answers."""
    withdrawn = {
        one.release_id: one.step_id
        for one in store.rollout_steps.newest()
        if one.status == "withdrawn" and one.applied and one.stages().stages[one.stage].stage == "canary"
    }
    contract = store.published.present(loaded.application.publish.contract)
    if not withdrawn or contract not in store.published.numbers():
        return None
    live = live_rollouts(store)
    answering = {one.release_id for one in (live.champion, *live.routes) if one is not None}
    left = withdrawn.keys() & store.published.releases(contract).keys() - answering
    return withdrawn[min(left)] if left else None


def _champion(
    store: ApplicationStore, loaded: LoadedApplication, look: RolloutLook
) -> tuple[str | None, RolloutEvent | None]:
    try:
        trouble = champion_failure(store, loaded)
    except (SpecificationError, ContractBroken) as error:
        return str(error), None
    if trouble is None or loaded.application.rollout.on_champion_failure != "rollback":
        return trouble, None
    why = f"on_champion_failure: {' '.join(trouble.split())}"
    try:
        return trouble, rollback(store, loaded, by=AUTOMATIC, note=why, adapter_bytes=look.adapter_bytes)
    except (EvidenceMissing, StorageError, EndpointMismatch) as error:
        # Nothing to go back to, or an adapter that is another one by now: nothing new is published, as with `hold`.
        return f"{trouble}\n  and nothing to go back to: {error}", None


def _champion_events(
    store: ApplicationStore, loaded: LoadedApplication, trouble: str | None, back: RolloutEvent | None
) -> list[Event]:
    name, policy = loaded.application.name, loaded.application.rollout.on_champion_failure
    done = {
        "hold": "Nothing new is published, and readers keep what they have.",
        "rollback": "What served before serves again." if back is not None else "Nothing new is published.",
        "publish_and_alert": "Its answers are published all the same, as application.yaml says.",
    }[policy]
    said = "passes" if trouble is None else f"does not pass. {done}\n{trouble}"
    events = [Event(CHAMPION_FAILING, name, "", trouble is not None and back is None, f"What serves {name} {said}")]
    if back is not None:
        events.append(Event(ROLLED_BACK, name, back.variant, True, f"What served {name} {said}"))
    champion = store.rollout.champion()
    release = store.releases.get(champion.release_id) if champion is not None else None
    broken = breaches(store, loaded, release, rollout_id=None) if release is not None else ()
    told = [f"{one.name} is {one.measured}" for one in broken if one.action == "alert"]
    events.append(Event(GUARD, name, "", bool(told), f"What serves {name}: {'; '.join(told) or 'within its guards'}."))
    return events


def _over(lake: Warehouse, store: ApplicationStore, loaded: LoadedApplication) -> list[Event]:
    """The end of what people were told of rollouts that are over, and of challengers and champions that came after."""
    name, champion = loaded.application.name, store.rollout.champion()
    running = {one.variant for one in open_rollouts(store)}
    over = []
    for alert in lake.alerts.open():
        there = alert.variant in running
        ends = {
            HELD: not there,
            UNDECIDED: not there,
            GUARD: bool(alert.variant) and not there,
            # It was told; that it was read shows where somebody enters the variant again, or takes it out of the file.
            WITHDRAWN: there or alert.variant not in loaded.application.variants,
            ROLLED_BACK: champion is None or (champion.variant, champion.action) != (alert.variant, "rollback"),
        }
        if alert.application == name and ends.get(alert.kind, False):
            over.append(Event(alert.kind, name, alert.variant, False, f"What was told of {alert.variant} is over."))
    return over


def _events(name: str, one: DecidedStep) -> list[Event]:
    step, seen = one.step, one.observed.evidence
    variant, why = step.variant, "; ".join(step.reasons)
    told = [f"{breach.name} is {breach.measured}" for breach in seen.breaches if breach.action == "alert"]
    dry = "" if step.applied else " (dry run: nothing was changed)"
    held = step.decision == "hold" and not one.is_over
    events = [
        Event(GUARD, name, variant, bool(told), f"{variant} at {step.stage_name}: {'; '.join(told) or 'within'}."),
        Event(HELD, name, variant, held, f"The rollout of {variant} is held at {step.stage_name}{dry}: {why}."),
        Event(UNDECIDED, name, variant, False, f"The rollout of {variant} is decided again."),
    ]
    if step.decision == "withdraw":
        events.append(Event(WITHDRAWN, name, variant, True, f"{variant} was withdrawn{dry}: {why}."))
    elif step.decision == "promote":
        events.append(Event(WITHDRAWN, name, variant, False, f"{variant} is at {step.stage_name}{dry}."))
    return events
