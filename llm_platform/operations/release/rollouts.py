"""Rollouts of challengers: started and steered by people, decided by evidence, step by step.

Every word of a person and every decision is a row of `rollout_steps`. A decision reads all rows of its rollout, and is
stored only if no other came in between; whatever is killed in the middle is decided again by the next look, on what is
stored. So it does not matter who looks: a run of the graph, a tick of the sensor, or somebody at a terminal.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from llm_platform.errors import EvidenceMissing, SpecificationError, TransientError
from llm_platform.evaluation.wording import interval_text
from llm_platform.operations.evidence.evaluation import current_evaluation_id
from llm_platform.operations.live import live_rollouts, not_borne_out, open_rollouts
from llm_platform.operations.release.observing import Observed, RoleOf, observe
from llm_platform.operations.release.rollout import evidence as passing
from llm_platform.operations.release.rollout import promotion_event, require_contracts
from llm_platform.operations.release.underneath import AdapterBytes, underneath
from llm_platform.operations.releases import LoadedApplication
from llm_platform.records import Release, RolloutEvent, canonical_json
from llm_platform.records.evaluation import AUTOMATIC
from llm_platform.records.rollout import RolloutStep, StepKind
from llm_platform.rollout.decision import HELD, RolloutState, RolloutVerdict, StageEvidence, next_state
from llm_platform.warehouse.store import ApplicationStore

TRIES = 3
STOPPING: tuple[StepKind, ...] = ("hold", "withdraw")
"""What somebody may ask for whatever came in between, and whatever cannot be read."""


@dataclass(frozen=True)
class Who:
    """Somebody who asks for something.

    Attributes:
        role: In the file of people; None for somebody whom nobody vouches for.
        authenticated: A token says who it is.
    """

    name: str
    role: str | None = None
    authenticated: bool = False


@dataclass(frozen=True)
class RolloutLook:
    """On whose behalf a rollout is looked at, and with what.

    Attributes:
        adapter_bytes: Holds an adapter's files against their manifest; None where they cannot be reached from here.
        role_of: Tells which role somebody has at present, whose approval counts only with it; None where that cannot be
            told from here.
    """

    now: datetime
    git_commit: str = "unknown"
    adapter_bytes: AdapterBytes | None = None
    role_of: RoleOf | None = None


@dataclass(frozen=True)
class DecidedStep:
    """What one look at one rollout decided.

    Attributes:
        step: As it was stored, or would have been; `is_news` where it was.
    """

    step: RolloutStep
    verdict: RolloutVerdict
    observed: Observed
    is_news: bool

    @property
    def is_over(self) -> bool:
        """Whether nothing more is decided."""
        return self.step.is_over

    @property
    def line(self) -> str:
        """The decision in one line."""
        dry = "" if self.step.applied else " (dry run)"
        step = self.step
        return f"{step.variant}: {step.decision}{dry}, {step.stage_name} ({step.status}): {'; '.join(step.reasons)}"

    @property
    def account(self) -> list[str]:
        """Where the challenger is, what is known of it, and what that decides, in lines."""
        step, seen, observed = self.step, self.observed.evidence, self.observed
        hours = f"{seen.hours:.1f} h on this stage"
        difference = "no label yet" if seen.difference is None else f"difference {interval_text(seen.difference)}"
        cost = "" if observed.spent_usd is None else f" ({observed.spent_usd:.4f} USD)"
        return [
            f"{step.variant:<11} rollout {step.short_id}, release {step.release_id}",
            f"            {seen.documents} documents, {seen.labels} labels, {hours}; {difference}",
            f"            cost so far: {observed.spent_tokens:,} tokens{cost}",
            f"            a look now: {step.decision}{'' if step.applied else ' (dry run)'}, then {step.stage_name} "
            f"({step.status})",
            *(f"            - {reason}" for reason in step.reasons),
        ]

    @property
    def changes_readers(self) -> bool:
        """Whether readers get something else from now on."""
        publishes = ("canary", "champion")
        moved = self.step.decision in ("promote", "withdraw")
        named = self.step.stage_name.partition(" ")[0]
        return self.is_news and self.step.applied and moved and named in publishes


def start(
    store: ApplicationStore,
    loaded: LoadedApplication,
    variant: str,
    *,
    who: Who,
    look: RolloutLook,
    snapshot: int,
    note: str = "",
) -> RolloutStep:
    """Enter a variant's present release as a challenger, on the first stage.

    Raises:
        SpecificationError: the application states no stages, or has no such variant, or the variant has no release yet.
        EvidenceMissing: nothing serves, it serves itself, it runs already, or it cannot fill what readers have.
    """
    application = loaded.application
    policy, name = application.rollout.policy, application.name
    if policy is None:
        raise SpecificationError(
            f"{name} states no stages, so a change of what serves is: llm-platform promote {name} {variant}. For a "
            "change step by step, state 'rollout.stages' in application.yaml (docs/rollout.md)."
        )
    release = _release(store, loaded, variant)
    champion = _champion_to_challenge(store, release, name=name, variant=variant)
    # A stage later its rows would be left out, and as the champion it would keep all of them from readers.
    require_contracts(store, application, release)
    store.releases.put(release)
    stage = policy.stages[0]
    # Readers get a canary's answers, so the first stage asks for what every later one does.
    report = None
    if stage.stage != "shadow":
        report = passing(store, loaded, variant, release=release, evaluation_id=current_evaluation_id(store, loaded))
    step = RolloutStep(
        application=name,
        rollout_id=uuid.uuid4().hex,
        step_id=uuid.uuid4().hex,
        kind="start",
        variant=variant,
        release_id=release.release_id,
        champion_release_id=champion.release_id,
        stage=0,
        stage_name=stage.name,
        share=stage.share,
        status="running",
        applied=not policy.dry_run,
        underneath=canonical_json(underneath(store, loaded, variant)),
        policy=policy.model_dump_json(),
        policy_hash=policy.hash,
        by=who.name,
        role=who.role,
        authenticated=who.authenticated,
        at=look.now,
        git_commit=look.git_commit,
        references_snapshot=snapshot,
        report_id=None if report is None else report.report_id,
        evaluation_id=None if report is None else report.evaluation_id,
        note=note,
    )
    store.rollout_steps.append(step, expected_previous=None)
    return step


def _champion_to_challenge(store: ApplicationStore, release: Release, *, name: str, variant: str) -> RolloutEvent:
    """What serves, where the release is neither that nor in a rollout already."""
    champion = store.rollout.champion()
    if champion is None:
        raise EvidenceMissing(
            f"{name} has no champion that a challenger could be held against. First: llm-platform run {name}"
        )
    if champion.release_id == release.release_id:
        raise EvidenceMissing(f"{name}/{variant} (release {release.release_id}) serves already; nothing was started.")
    same = [
        one
        for one in open_rollouts(store)
        if one.release_id == release.release_id and not_borne_out(store, one) is None
    ]
    if same:
        raise EvidenceMissing(
            f"{name}/{variant} (release {release.release_id}) is in the rollout {same[0].short_id} already, at "
            f"{same[0].stage_name}. See: llm-platform rollout status {name}"
        )
    return champion


def rollout_named(store: ApplicationStore, wanted: str | None) -> RolloutStep:
    """The newest step of the open rollout of a variant, or whose id begins like this; of the only one without a name.

    Raises:
        SpecificationError: there is none, or more than one.
    """
    running = open_rollouts(store)
    found = [one for one in running if wanted is None or one.variant == wanted or one.rollout_id.startswith(wanted)]
    if len(found) == 1:
        return found[0]
    if not running:
        raise SpecificationError(
            f"No rollout of {store.name} is running. What there was: llm-platform rollout history {store.name}; a new "
            f"one: llm-platform rollout start {store.name} VARIANT"
        )
    listed = ", ".join(f"{one.variant} ({one.short_id}, {one.stage_name})" for one in running)
    which = "a rollout" if wanted is None else f"the rollout of {wanted!r}"
    raise SpecificationError(f"Cannot tell {which} of {store.name}: {len(found)} fit. Running: {listed}.")


def ask(
    store: ApplicationStore,
    loaded: LoadedApplication | None,
    rollout: RolloutStep,
    kind: StepKind,
    *,
    who: Who,
    look: RolloutLook,
    note: str = "",
) -> RolloutStep:
    """Store what somebody asks of a rollout; the next decision goes by it.

    Args:
        loaded: None where the application's files cannot be read, which keeps nobody from stopping something.
        rollout: Its newest step.

    Raises:
        EvidenceMissing: an approval is asked for, and nobody vouches for who gives it or its role does not count.
        SpecificationError: the rollout has ended meanwhile.
        TransientError: something came in between that whoever lets it go on has not seen, or again and again.
    """
    if kind == "approve":
        _require_approver(rollout, who)
    for attempt in range(1, TRIES + 1):
        step = _asked(store, loaded, rollout, kind, who=who, look=look, note=note)
        try:
            store.rollout_steps.append(step, expected_previous=rollout.step_id)
        except TransientError:
            # What is to be stopped is so whatever came in between.
            if kind not in STOPPING or attempt == TRIES:
                raise
            rollout = rollout_named(store, rollout.rollout_id)
            continue
        return step
    raise AssertionError("the last try returns or raises")


def _asked(
    store: ApplicationStore,
    loaded: LoadedApplication | None,
    rollout: RolloutStep,
    kind: StepKind,
    *,
    who: Who,
    look: RolloutLook,
    note: str,
) -> RolloutStep:
    stored = json.loads(rollout.underneath)
    present = stored if loaded is None else underneath(store, loaded, rollout.variant)
    champion = store.rollout.champion()
    return rollout.model_copy(
        update={
            "champion_release_id": rollout.champion_release_id if champion is None else champion.release_id,
            "step_id": uuid.uuid4().hex,
            "kind": kind,
            "decision": None,
            "reasons": (),
            "evidence": None,
            # An approval is of what is there when it is given.
            "underneath": canonical_json({name: present.get(name, "none") for name in stored}),
            "by": who.name,
            "role": who.role,
            "authenticated": who.authenticated,
            "at": look.now,
            "git_commit": look.git_commit,
            "note": note,
        }
    )


def withdraw_unread(store: ApplicationStore, rollout_id: str, *, who: Who, look: RolloutLook) -> RolloutStep:
    """Withdraw a rollout, as somebody has asked, though the application's files cannot be read; returns the decision.

    Raises:
        TransientError: others decide at the same time, again and again.
    """
    for attempt in range(1, TRIES + 1):
        steps = store.rollout_steps.of(rollout_id)
        seen = StageEvidence(withdrawn_by=who.name)
        verdict = next_state(_state(steps[-1]), seen, steps[-1].stages())
        step = steps[-1].model_copy(update={**_decision(steps, verdict, seen, look), "report_id": None})
        try:
            store.rollout_steps.append(step, expected_previous=steps[-1].step_id)
        except TransientError:
            if attempt == TRIES:
                raise
            continue
        return step
    raise AssertionError("the last try returns or raises")


def preview(store: ApplicationStore, loaded: LoadedApplication, rollout_id: str, *, look: RolloutLook) -> DecidedStep:
    """What a look would decide now; nothing is stored."""
    return _look(store, loaded, rollout_id, look=look)[0]


def decide_rollout(
    store: ApplicationStore, loaded: LoadedApplication, rollout_id: str, *, look: RolloutLook
) -> DecidedStep:
    """Decide on a rollout, and store the decision where it is news.

    Raises:
        EvidenceMissing: it cannot be decided; says why.
        TransientError: others decide at the same time, again and again.
    """
    for attempt in range(1, TRIES + 1):
        decided, previous, event = _look(store, loaded, rollout_id, look=look)
        if not decided.is_news:
            return decided
        try:
            store.rollout_steps.append(
                decided.step,
                expected_previous=previous,
                event=event,
                expected_champion=decided.observed.champion.event_id,
            )
        except TransientError:
            # Somebody asked for something, or another process decided: look again, on what there is now.
            if attempt == TRIES:
                raise
            continue
        return decided
    raise AssertionError("the last try returns or raises")


def _look(
    store: ApplicationStore, loaded: LoadedApplication, rollout_id: str, *, look: RolloutLook
) -> tuple[DecidedStep, str, RolloutEvent | None]:
    steps = store.rollout_steps.of(rollout_id)
    if (broken := not_borne_out(store, steps[-1])) is not None:
        raise EvidenceMissing(
            f"{steps[-1].application}: the rollout {steps[-1].short_id} of {steps[-1].variant!r} publishes nothing and "
            f"is not decided: {broken}. Somebody wrote to 'rollout_steps' beside the platform. Start it again: "
            f"llm-platform rollout start {steps[-1].application} {steps[-1].variant}"
        )
    newest, running = steps[-1], len(open_rollouts(store))
    policy = newest.stages()
    observed = observe(
        store,
        loaded,
        live_rollouts(store),
        steps,
        now=look.now,
        comparisons=max(1, running),
        adapter_bytes=look.adapter_bytes,
        role_of=look.role_of,
    )
    verdict = next_state(_state(newest), observed.evidence, policy)
    report = observed.report
    step = newest.model_copy(
        update={
            **_decision(steps, verdict, observed.evidence, look),
            "champion_release_id": observed.champion.release_id,
            "report_id": report.report_id if report is not None else None,
            "evaluation_id": report.evaluation_id if report is not None else None,
            "spent_usd": observed.spent_usd,
            "spent_tokens": observed.spent_tokens,
        }
    )
    event = None
    ends = verdict.decision == "promote" and step.status == "champion"
    if verdict.applied and ends and not observed.evidence.serves:
        event = _champion_event(store, loaded, step, observed)
    decided = DecidedStep(step, verdict, observed, is_news=_is_news(steps, step, observed.evidence))
    return decided, newest.step_id, event


def _state(step: RolloutStep) -> RolloutState:
    return RolloutState(stage=step.stage, status=step.status)


def _decision(
    steps: Sequence[RolloutStep], verdict: RolloutVerdict, seen: StageEvidence, look: RolloutLook
) -> dict[str, object]:
    """What a step says of a decision, whatever else is known."""
    reached = steps[-1].stages().stages[verdict.state.stage]
    return {
        "step_id": uuid.uuid4().hex,
        "kind": "decide",
        "stage": verdict.state.stage,
        "stage_name": reached.name,
        "share": reached.share,
        "status": verdict.state.status,
        "decision": verdict.decision,
        "reasons": verdict.reasons,
        "applied": verdict.applied,
        "evidence": seen.model_dump_json(),
        "underneath": steps[0].underneath,
        "by": AUTOMATIC,
        "role": None,
        "authenticated": False,
        "at": look.now,
        "git_commit": look.git_commit,
        "note": "",
    }


def _champion_event(
    store: ApplicationStore, loaded: LoadedApplication, step: RolloutStep, observed: Observed
) -> RolloutEvent:
    release = store.releases.get(step.release_id)
    if release is None or observed.report is None:
        # The state machine promotes nothing whose report does not allow it.
        raise EvidenceMissing(f"{step.application}/{step.variant} (release {step.release_id}) has no passing report.")
    require_contracts(store, loaded.application, release)
    approved = [one for one in observed.evidence.approvals if one.authenticated]
    by = ", ".join(dict.fromkeys(one.by for one in approved)) or AUTOMATIC
    return promotion_event(
        loaded.application,
        step.variant,
        release=release,
        report=observed.report,
        by=by,
        authenticated=bool(approved),
        note=f"rollout {step.rollout_id}: {'; '.join(step.reasons)}",
    )


def _is_news(steps: Sequence[RolloutStep], step: RolloutStep, seen: StageEvidence) -> bool:
    """Whether a decision says something that the last one did not: time and money go on by themselves."""
    last = steps[-1]
    if last.kind != "decide" or last.evidence is None:
        return True
    if last.status == step.status == "withdrawn":
        return False  # it is over: somebody asked for something else at the same time
    if last.status == step.status == "held" and step.reasons == (HELD,):
        return False
    if (last.decision, last.stage, last.status, last.reasons) != (step.decision, step.stage, step.status, step.reasons):
        return True
    passing = {"hours": 0.0, "spent_usd": 0.0, "spent_tokens": 0}
    before = StageEvidence.model_validate_json(last.evidence)
    return before.model_copy(update=passing) != seen.model_copy(update=passing)


def _require_approver(rollout: RolloutStep, who: Who) -> None:
    stage = rollout.stages().stages[rollout.stage]
    if not stage.approvals:
        return
    what = f"{rollout.application}: leaving {rollout.stage_name} asks for {stage.approvals} approvals"
    if not who.authenticated:
        raise EvidenceMissing(
            f"{what}, and nobody vouches for who {who.name!r} is: the name of a login is no proof. Set "
            "LLM_PLATFORM_IDENTITY_TOKEN to your token of the file that LLM_PLATFORM_REVIEW_PEOPLE names "
            "(llm-platform review token NAME makes one). Nothing was approved."
        )
    if stage.roles and who.role not in stage.roles:
        raise EvidenceMissing(
            f"{what} of {' or '.join(stage.roles)}, and {who.name!r} is {who.role or 'none of them'}. "
            "Nothing was approved."
        )


def _release(store: ApplicationStore, loaded: LoadedApplication, variant: str) -> Release:
    application = loaded.application
    if variant not in application.variants:
        raise SpecificationError(
            f"{application.name} has no variant {variant!r}. There are: {', '.join(application.variants)}."
        )
    release = loaded.release(variant, store)
    if release is None:
        first = "adapter train" if loaded.requesting(variant, store) is None else "run"
        raise SpecificationError(
            f"{application.name}/{variant} cannot be entered: {loaded.pending(variant, store)}. "
            f"First: llm-platform {first} {application.name}"
        )
    return release
