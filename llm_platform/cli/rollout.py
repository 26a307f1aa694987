"""Commands that decide which release serves the published table, at once or stage by stage."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from llm_platform.cli.console import ApplicationName, application_named, console, new_table, show
from llm_platform.errors import PlatformError, SpecificationError
from llm_platform.settings.settings import Settings, load_settings

if TYPE_CHECKING:
    from llm_platform.operations.releases import LoadedApplication
    from llm_platform.records.rollout import RolloutStep, StepKind

commands = typer.Typer()
rollouts = typer.Typer(help="Challengers beside what serves: shadow, canary, champion (docs/rollout.md).")

Note = Annotated[str, typer.Option(help="Why; kept with the decision.")]
Challenger = Annotated[
    str | None, typer.Argument(help="Its variant, or the beginning of the rollout's id; the only one if not given.")
]
Now = Annotated[bool, typer.Option("--now", help="Let the published table follow at once, not with the next run.")]


@commands.command()
def promote(
    application: ApplicationName,
    variant: Annotated[str, typer.Argument(help="A variant of application.yaml.")],
    note: Note = "",
) -> None:
    """Let a variant serve the published table, if a report on exactly its release passed and no stages are stated."""
    from llm_platform.operations.release.rollout import promote as promote_release
    from llm_platform.resources.handed import adapter_bytes
    from llm_platform.resources.identity import who_asks
    from llm_platform.resources.warehouse import WarehouseResource
    from llm_platform.workbench.summary import publish_now

    settings = load_settings()
    loaded, who = application_named(settings, application), who_asks(settings)
    if variant not in loaded.application.judged:
        raise SpecificationError(
            f"{application} has no variant {variant!r}. There are: {', '.join(loaded.application.variants)}."
        )
    with WarehouseResource.of(settings).open() as lake:
        store = lake.application(application)
        release = loaded.release(variant, store)
        if release is None:
            first = "adapter train" if loaded.requesting(variant, store) is None else "run"
            raise SpecificationError(
                f"{application}/{variant} cannot be promoted: {loaded.pending(variant, store)}. "
                f"First: llm-platform {first} {application}"
            )
        event = promote_release(
            store,
            loaded,
            variant,
            release=release,
            by=who.name,
            note=note,
            authenticated=who.authenticated,
            adapter_bytes=adapter_bytes(settings),
        )
    console.print(f"{variant} (release {event.release_id}) serves from now on.")
    publish_now(settings, loaded, console=console)


@commands.command()
def rollback(application: ApplicationName, note: Note = "") -> None:
    """Let the release that served before serve again; what was withdrawn is passed over."""
    from llm_platform.operations.release.rollout import rollback as roll_back
    from llm_platform.resources.handed import adapter_bytes
    from llm_platform.resources.identity import who_asks
    from llm_platform.resources.warehouse import WarehouseResource
    from llm_platform.workbench.summary import publish_now

    settings = load_settings()
    loaded, who = application_named(settings, application), who_asks(settings)
    with WarehouseResource.of(settings).open() as lake:
        store = lake.application(application)
        event = roll_back(
            store,
            loaded,
            by=who.name,
            note=note,
            authenticated=who.authenticated,
            adapter_bytes=adapter_bytes(settings),
        )
    console.print(f"{event.variant} (release {event.release_id}) serves again.")
    publish_now(settings, loaded, console=console)


@rollouts.command()
def status(application: ApplicationName) -> None:
    """What serves, where every challenger is, and what a look would decide now; nothing is changed."""
    from llm_platform.operations.live import live_rollouts, not_borne_out, open_rollouts
    from llm_platform.operations.release.rollouts import preview
    from llm_platform.resources.handed import rollout_look
    from llm_platform.resources.warehouse import WarehouseResource

    settings = load_settings()
    loaded = application_named(settings, application)
    with WarehouseResource.of(settings).open(read_only=True) as lake:
        store = lake.application(application)
        serving = live_rollouts(store).champion
        said = "nothing" if serving is None else f"{serving.variant} (release {serving.release_id})"
        console.print(f"Serves      {said}")
        running = open_rollouts(store)
        if not running:
            console.print(f"Challengers none; start one: llm-platform rollout start {application} VARIANT")
        look = rollout_look(settings)
        for step in running:
            if (broken := not_borne_out(store, step)) is not None:
                console.print(f"{step.variant:<11} {step.short_id} publishes nothing: {broken}", markup=False)
                continue
            try:
                account = preview(store, loaded, step.rollout_id, look=look).account
            except PlatformError as error:
                account = [f"{step.variant:<11} {step.short_id} cannot be decided: {error}"]
            for line in account:
                console.print(line, markup=False)


@rollouts.command()
def start(
    application: ApplicationName,
    variant: Annotated[str, typer.Argument(help="A variant of application.yaml.")],
    note: Note = "",
) -> None:
    """Enter a variant's present release as a challenger, on the first stage."""
    from llm_platform.operations.release.rollouts import start as start_rollout
    from llm_platform.resources.handed import rollout_look
    from llm_platform.resources.identity import who_asks
    from llm_platform.resources.warehouse import WarehouseResource

    settings = load_settings()
    loaded, who = application_named(settings, application), who_asks(settings)
    with WarehouseResource.of(settings).open() as lake:
        step = start_rollout(
            lake.application(application),
            loaded,
            variant,
            who=who,
            look=rollout_look(settings),
            snapshot=lake.snapshot(),
            note=note,
        )
    dry = "" if step.applied else " A dry run: it is decided and reported, and nothing is changed."
    console.print(f"{variant} (release {step.release_id}) is in rollout {step.short_id}, {step.stage_name}.{dry}")
    console.print(f"Next        llm-platform run {application}   |   llm-platform rollout status {application}")


@rollouts.command()
def hold(application: ApplicationName, challenger: Challenger = None, note: Note = "") -> None:
    """Stop every promotion of a challenger until somebody resumes it; a canary keeps its documents."""
    _steer(application, challenger, "hold", note=note)


@rollouts.command()
def resume(application: ApplicationName, challenger: Challenger = None, note: Note = "") -> None:
    """Go on with a challenger that is held; what still speaks against it holds it again."""
    _steer(application, challenger, "resume", note=note)


@rollouts.command("promote")
def approve(application: ApplicationName, challenger: Challenger = None, note: Note = "", *, now: Now = False) -> None:
    """Approve a challenger's next stage; it is reached once the policy's evidence and approvals are there."""
    _steer(application, challenger, "approve", note=note, now=now)


@rollouts.command()
def withdraw(application: ApplicationName, challenger: Challenger = None, note: Note = "", *, now: Now = False) -> None:
    """Withdraw a challenger: its documents are the champion's again with the next publication, or at once."""
    _steer(application, challenger, "withdraw", note=note, now=now)


@rollouts.command()
def decide(application: ApplicationName, *, now: Now = False) -> None:
    """Look at what serves and at every challenger, and act on it, as every run and tick of the sensor does."""
    from datetime import timedelta

    from llm_platform.operations.release.watching import watch_rollouts
    from llm_platform.resources.handed import rollout_look
    from llm_platform.resources.warehouse import WarehouseResource

    settings = load_settings()
    loaded = application_named(settings, application)
    with WarehouseResource.of(settings).open() as lake:
        watched = watch_rollouts(
            lake,
            loaded,
            look=rollout_look(settings),
            quiet=timedelta(hours=settings.alert_quiet_hours),
        )
    for line in watched.lines or ["nothing to decide"]:
        console.print(line, markup=False)
    if watched.changes_readers:
        _published(settings, loaded, now=now)


@rollouts.command()
def replay(
    application: ApplicationName,
    variant: Annotated[str, typer.Argument(help="A variant, or the beginning of a release id.")],
    *,
    snapshot: Annotated[int | None, typer.Option(help="Documents as they were at this snapshot of the lake.")] = None,
    since: Annotated[datetime | None, typer.Option(help="Documents that changed last at or after this, UTC.")] = None,
    until: Annotated[datetime | None, typer.Option(help="Documents that changed last before this, UTC.")] = None,
    documents: Annotated[int | None, typer.Option(help="At most so many, drawn by hash.", min=1)] = None,
    budget_tokens: Annotated[int | None, typer.Option(help="Send nothing beyond this.", min=1)] = None,
    budget_usd: Annotated[float | None, typer.Option(help="Send nothing beyond this.", min=0.0)] = None,
) -> None:
    """Let a release answer documents of the past, beside what serves; nothing of it is published."""
    import uuid

    from llm_platform.operations.release.replay import Window
    from llm_platform.operations.release.replay import replay as replay_release
    from llm_platform.resources.asking import asking_of
    from llm_platform.resources.warehouse import WarehouseResource

    settings = load_settings()
    loaded = application_named(settings, application)
    window = Window(
        snapshot=snapshot,
        since=None if since is None else since.replace(tzinfo=UTC),
        until=None if until is None else until.replace(tzinfo=UTC),
        most=documents,
        budget_tokens=budget_tokens,
        budget_usd=budget_usd,
    )
    with WarehouseResource.of(settings).open() as lake:
        found = replay_release(
            lake.application(application),
            loaded,
            variant,
            window,
            asking=lambda release: asking_of(
                settings,
                release,
                max_failed_share=loaded.application.max_failed_share,
                run_id=f"replay-{uuid.uuid4().hex[:12]}",
                snapshot=lake.snapshot(),
            ),
        )
    for line in found.lines:
        console.print(line, markup=False)


@rollouts.command()
def history(application: ApplicationName) -> None:
    """Every step of every rollout: who asked for what, what was decided, and on what evidence."""
    from llm_platform.resources.warehouse import WarehouseResource

    settings = load_settings()
    table = new_table("at", "rollout", "variant", "step", "by", "stage", "status", "why")
    with WarehouseResource.of(settings).open(read_only=True) as lake:
        steps = lake.application(application).rollout_steps.history()
    if not steps:
        application_named(settings, application)
    for step in steps:
        table.add_row(*_row(step))
    show(table)


def _row(step: RolloutStep) -> tuple[str, ...]:
    what = step.kind if step.decision is None else step.decision
    dry = "" if step.applied else " (dry run)"
    why = "; ".join(step.reasons) or step.note
    at = f"{step.at:%Y-%m-%d %H:%M:%S}"
    return at, step.short_id, step.variant, f"{what}{dry}", step.decider, step.stage_name, step.status, why


def _steer(application: str, challenger: str | None, kind: StepKind, *, note: str, now: bool = False) -> None:
    """Store what somebody asks of a rollout, and decide on it at once."""
    from llm_platform.operations.live import open_rollouts
    from llm_platform.operations.release.rollouts import STOPPING, ask, decide_rollout, rollout_named, withdraw_unread
    from llm_platform.resources.handed import rollout_look
    from llm_platform.resources.identity import who_asks
    from llm_platform.resources.warehouse import WarehouseResource

    settings = load_settings()
    who, look = who_asks(settings), rollout_look(settings)
    loaded, mistake = _readable(settings, application)
    with WarehouseResource.of(settings).open() as lake:
        store = lake.application(application)
        if mistake is not None and (kind not in STOPPING or not open_rollouts(store)):
            raise mistake
        rollout = rollout_named(store, challenger)
        ask(store, loaded, rollout, kind, who=who, look=look, note=note)
        vouched = "" if who.authenticated else ", whom no token vouches for"
        console.print(f"Stored: {kind} by {who.name}{vouched}.", markup=False)
        if loaded is None:
            if kind == "withdraw":
                step = withdraw_unread(store, rollout.rollout_id, who=who, look=look)
                console.print(f"{step.variant}: {step.status}: {'; '.join(step.reasons)}", markup=False)
            console.print(f"Nothing more is decided or published before this is mended: {mistake}", markup=False)
            return
        decided = decide_rollout(store, loaded, rollout.rollout_id, look=look)
    console.print(decided.line, markup=False)
    if decided.changes_readers:
        _published(settings, loaded, now=now)


def _readable(settings: Settings, application: str) -> tuple[LoadedApplication | None, SpecificationError | None]:
    """An application, or why its files cannot be read."""
    try:
        return application_named(settings, application), None
    except SpecificationError as error:
        return None, error


def _published(settings: Settings, loaded: LoadedApplication, *, now: bool) -> None:
    from llm_platform.workbench.summary import publish_now

    if now:
        publish_now(settings, loaded, console=console)
        return
    name = loaded.application.name
    console.print(f"Readers get it with the next publication: llm-platform run {name}, or add --now.")
