"""What answering the missing documents will take, before a token is paid, and where a run has to stop."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TypeVar

from llm_platform.application.budget import Budget, MonthlyBudget
from llm_platform.errors import SpecificationError
from llm_platform.inference.policy import EnginePolicy
from llm_platform.models.entries import LockEntry
from llm_platform.operations.live import asked_documents
from llm_platform.operations.releases import LoadedApplication, champion_release, requesting
from llm_platform.prompts.budget import token_budget
from llm_platform.prompts.render import fixed_prefix
from llm_platform.records import InferenceRun, ModelPin, Prices, Release, TokenUsage
from llm_platform.records.prices import SECONDS_PER_HOUR
from llm_platform.records.rollout import AskedDocuments
from llm_platform.warehouse.missing import MissingSize
from llm_platform.warehouse.store import ApplicationStore

# English in a byte-pair vocabulary of 30,000 to 130,000 words; assumed only until the first answer is stored.
ASSUMED_TOKENS_PER_BYTE = 0.25
# A shorter run measures its own start.
MEASURABLE_ROWS = 20
# A request reserves its longest answer, which is several times what most take: so much of a month is never sent.
RESERVED_AT_MOST = 8
LARGER = "a larger 'budget.month' of application.yaml, or LLM_PLATFORM_BUDGET_MONTH_TOKENS where that is less"


@dataclass(frozen=True)
class Spent:
    """What one run of the platform has used of an application's budget, whatever step of it: answers and verdicts.

    Attributes:
        month_tokens: Of all runs of this month (UTC), where the application has a budget for it.
        month_usd: The same in money.
    """

    tokens: int = 0
    seconds: float = 0.0
    cost_usd: float = 0.0
    month_tokens: int = 0
    month_usd: float = 0.0


NOTHING = Spent()


@dataclass(frozen=True)
class Estimate:
    """What the missing answers of one variant will take.

    Attributes:
        documents: Texts without an answer.
        long_documents: Those of them that, by their length in bytes, do not fit the model's context.
        policy: What is done with those.
        tokens_from: Where the token figures come from, in words.
        tokens_per_second: Of the latest runs on the same model; None before the first, and then time and money are
            unknown, too.
        gpu_hours: Time times the GPUs of one endpoint and its replicas as they are in the lock file.
    """

    variant: str
    release_id: str
    documents: int
    long_documents: int
    policy: str
    prompt_tokens: int
    completion_tokens: int
    tokens_from: str
    tokens_per_second: float | None
    seconds: float | None
    gpu_hours: float | None
    cost_usd: float | None

    @property
    def tokens_each(self) -> float:
        """Of one text that is missing."""
        return (self.prompt_tokens + self.completion_tokens) / max(self.documents, 1)

    @property
    def line(self) -> str:
        """The estimate in one line, for a log."""
        if not self.documents:
            return f"{self.variant}: nothing is missing"
        time = (
            f"time unknown before a run of {MEASURABLE_ROWS} answers"
            if self.seconds is None
            else f"about {self.seconds:,.0f} s"
        )
        money = "" if self.cost_usd is None else f", {self.cost_usd:,.2f} USD"
        long = f" ({self.long_documents:,} probably too long: {self.policy})" if self.long_documents else ""
        hours = "" if self.gpu_hours is None else f", {self.gpu_hours:,.3f} GPU hours"
        return (
            f"{self.variant}: {self.documents:,} texts missing{long}, about {self.prompt_tokens:,} prompt and "
            f"{self.completion_tokens:,} completion tokens ({self.tokens_from}), {time}{hours}{money}"
        )


def estimates(store: ApplicationStore, loaded: LoadedApplication) -> list[Estimate]:
    """One estimate a variant that has missing answers or could have; the champion's own only if no variant is it."""
    # A calibration that is not fitted changes nothing about what is sent; an adapter that is not trained asks nothing.
    senders = {name: loaded.requesting(name, store) for name in loaded.application.variants}
    wanted = {name: release for name, release in senders.items() if release is not None}
    champion = champion_release(store)
    if champion is not None and requesting(champion).release_id not in {one.release_id for one in wanted.values()}:
        wanted["champion"] = requesting(champion)
    return [
        estimate(store, loaded, name, release, documents=asked_documents(store, loaded.application, release))
        for name, release in wanted.items()
    ]


def estimate(
    store: ApplicationStore,
    loaded: LoadedApplication,
    variant: str,
    release: Release,
    *,
    documents: AskedDocuments | None = None,
) -> Estimate:
    """What the missing answers of `release`, which sends requests, will take; of some documents, or all."""
    entry = loaded.lock.get(release.model.entry)
    if store.tallies.unanswered(release.release_id) == []:
        return Estimate(
            variant=variant,
            release_id=release.release_id,
            documents=0,
            long_documents=0,
            policy=release.long_documents.policy if release.long_documents is not None else "reject",
            prompt_tokens=0,
            completion_tokens=0,
            tokens_from="nothing is missing",
            tokens_per_second=None,
            seconds=0.0,
            gpu_hours=0.0,
            cost_usd=0.0,
        )
    rates = _rates(store, loaded, release)
    room = rates.room_bytes(release)
    missing = store.completions.missing_size(release.release_id, room_bytes=room, documents=documents)
    prompt, completion = rates.tokens(missing, release, room_bytes=room)
    rate = _tokens_per_second(store, release.model)
    seconds = None if rate is None else (prompt + completion) / rate
    hours = None if seconds is None else seconds * (entry.gpus if entry is not None else 1) / SECONDS_PER_HOUR
    prices = entry.prices if entry is not None else Prices()
    usage = TokenUsage(prompt_tokens=round(prompt), completion_tokens=round(completion))
    timed = seconds is not None or prices.usd_per_hour is None
    return Estimate(
        variant=variant,
        release_id=release.release_id,
        documents=missing.documents,
        long_documents=missing.long,
        policy=release.long_documents.policy if release.long_documents is not None else "reject",
        prompt_tokens=round(prompt),
        completion_tokens=round(completion),
        tokens_from=rates.source,
        tokens_per_second=rate,
        seconds=seconds,
        gpu_hours=hours,
        cost_usd=prices.cost_usd(seconds or 0.0, usage) if prices.are_known and timed else None,
    )


def used_since(store: ApplicationStore, loaded: LoadedApplication, since: datetime) -> tuple[int, float | None]:
    """(tokens, money) of the runs that began at `since` or later; no money where no price is known."""
    tokens, cost, priced = 0, 0.0, False
    for row in store.runs.used_since(since):
        usage = TokenUsage(prompt_tokens=row["prompt_tokens"], completion_tokens=row["completion_tokens"])
        release = store.releases.get(row["release_id"])
        prices = None if release is None else loaded.prices(release.model.entry)
        tokens += usage.total + row["presumed_tokens"]
        if prices is not None and prices.are_known:
            cost, priced = cost + prices.cost_usd(row["seconds"], usage), True
    return tokens, cost if priced else None


def month_of(now: datetime) -> datetime:
    """When the month of a moment began, in UTC."""
    return now.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def month_left(month: MonthlyBudget, spent: Spent) -> tuple[int | None, float | None]:
    """(tokens, money) that a month has left, below 0 once it is overdrawn; None where it has no such limit."""
    return _least((month.tokens, spent.month_tokens)), _least((month.cost_usd, spent.month_usd))


def spent_by(
    store: ApplicationStore, loaded: LoadedApplication, run_id: str | None, *, now: datetime | None = None
) -> Spent:
    """What a run has used until now, as far as its steps have stored it, and what its month has.

    Args:
        run_id: None before there is a run.
        now: A moment of the month; the present one if not given.
    """
    runs = [] if run_id is None else store.runs.of_run(run_id)
    cost = 0.0
    for run in runs:
        release = store.releases.get(run.release_id)
        entry = loaded.lock.get(release.model.entry) if release is not None else None
        cost += entry.prices.cost_usd(run.seconds, run.usage) if entry is not None else 0.0
    month: tuple[int, float | None] = (0, None)
    if loaded.application.budget.month.is_set:
        month = used_since(store, loaded, month_of(now or datetime.now(UTC)))
    tokens, seconds = sum(run.budget_tokens for run in runs), sum(run.seconds for run in runs)
    return Spent(tokens, seconds, cost, month_tokens=month[0], month_usd=month[1] or 0.0)


def within_budget(policy: EnginePolicy, budget: Budget, entry: LockEntry, *, spent: Spent = NOTHING) -> EnginePolicy:
    """A policy that sends nothing beyond the budget of an application.

    Args:
        policy: How hard a run tries otherwise.
        budget: Of the whole run.
        entry: The model that is asked.
        spent: What the run has used already.

    Raises:
        SpecificationError: the budget is in money, and the lock file has no price.
    """
    in_money = budget.cost_usd is not None or budget.month.cost_usd is not None
    if in_money and not entry.prices.are_known:
        raise SpecificationError(
            f"budget.cost_usd needs the price of model {entry.name!r}, and its entry in models.lock.yaml has no "
            "price_per_gpu_hour_usd and no price_per_million_input_tokens_usd. Add one there, or give the budget in "
            "tokens or minutes."
        )
    return replace(
        policy,
        budget_tokens=_least((budget.tokens, spent.tokens), (budget.month.tokens, spent.month_tokens)),
        budget_seconds=None if budget.minutes is None else budget.minutes * 60 - spent.seconds,
        budget_usd=_least((budget.cost_usd, spent.cost_usd), (budget.month.cost_usd, spent.month_usd)),
        prices=entry.prices,
    )


Amount = TypeVar("Amount", int, float)


def _least(*limits: tuple[Amount | None, Amount]) -> Amount | None:
    """What the tighter of some limits, each with what is used of it, leaves; None without any."""
    return min((limit - used for limit, used in limits if limit is not None), default=None)


def used_up(run: InferenceRun | None) -> bool:
    """Whether a budget ended a run of the engine before everything was sent."""
    return run is not None and any(cause.startswith("stopped_budget") for cause in run.causes)


def month_used_up(month: MonthlyBudget, spent: Spent, run: InferenceRun | None) -> bool:
    """Whether what a month has left pays for no request: nothing is, or so little that its last run stopped there."""
    left = [
        (rest, used) for rest, used in zip(month_left(month, spent), _each(spent, run), strict=True) if rest is not None
    ]
    return any(rest <= 0 or (used_up(run) and rest < RESERVED_AT_MOST * used) for rest, used in left)


def _each(spent: Spent, run: InferenceRun | None) -> tuple[float, float]:
    """(tokens, money) of one request of a run, the money at what the month's tokens have cost."""
    tokens = 0.0 if run is None else run.budget_tokens / max(run.sent, 1)
    return tokens, tokens * spent.month_usd / max(spent.month_tokens, 1)


def _month_is_tighter(budget: Budget, spent: Spent) -> bool:
    """Whether it is the month that has no room for what a run still wants, and not the run itself."""
    tokens, usd = month_left(budget.month, spent)
    of_run = _least((budget.tokens, spent.tokens)), _least((budget.cost_usd, spent.cost_usd))
    return any(
        rest is not None and (own is None or rest <= own) for rest, own in zip((tokens, usd), of_run, strict=True)
    )


def budget_line(budget: Budget, spent: Spent, *, waiting: int) -> str | None:
    """How much of its budget a run has used, and what it has left for the next one; None without a budget."""
    parts = _compared(budget, tokens=spent.tokens, seconds=spent.seconds, cost_usd=spent.cost_usd)
    parts += month_parts(budget.month, tokens=spent.month_tokens, cost_usd=spent.month_usd)
    if not parts:
        return None
    left = f"; used up, and {waiting:,} answers wait for the next run" if waiting else ""
    if waiting and _month_is_tighter(budget, spent):
        left = f"; {waiting:,} answers wait for the next month, or for {LARGER}"
        return f"{', '.join(parts)} used{left}"
    if waiting and (spent.tokens == 0 if budget.tokens is not None else spent.cost_usd == 0 < (budget.cost_usd or 0)):
        # The next run would send nothing either.
        left = f"; too little for one request, and {waiting:,} answers wait: raise 'budget' in application.yaml"
    return f"{', '.join(parts)} used{left}"


def month_parts(month: MonthlyBudget, *, tokens: int, cost_usd: float) -> list[str]:
    """What a month has used of its budget, in words; nothing without one."""
    parts = [] if month.tokens is None else [f"{tokens:,} of {month.tokens:,} tokens this month"]
    return parts + (
        [] if month.cost_usd is None else [f"{_amount(cost_usd)} of {_amount(month.cost_usd)} USD this month"]
    )


def against_budget(found: Sequence[Estimate], budget: Budget, *, spent: Spent = NOTHING) -> str | None:
    """What is missing beside what a run and a month may use; None without a budget. Verdicts of judges are not in it.

    Args:
        spent: What the month has used already.
    """
    tokens = sum(one.prompt_tokens + one.completion_tokens for one in found)
    seconds, costs = _total([one.seconds for one in found], 60.0), _total([one.cost_usd for one in found])
    lines = _against_run(
        found,
        (("tokens", tokens, budget.tokens), ("minutes", seconds, budget.minutes), ("USD", costs, budget.cost_usd)),
    )
    left = month_left(budget.month, spent)
    lines += _against_month(
        (("tokens", tokens, left[0], budget.month.tokens), ("USD", costs, left[1], budget.month.cost_usd))
    )
    return f"budget: {'; '.join(lines)}" if lines else None


def _amount(value: float) -> str:
    """`20,110`, `0.0312`: tokens are many, and minutes and money few."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _against_run(found: Sequence[Estimate], needed: Sequence[tuple[str, float | None, float | None]]) -> list[str]:
    lines = []
    for unit, wanted, limit in needed:
        if limit is None:
            continue
        if wanted is None:
            lines.append(f"{_amount(limit)} {unit} a run; what is missing takes an unknown number of them")
            continue
        largest = max((one for one in found if one.documents), key=lambda one: one.tokens_each, default=None)
        if unit == "tokens" and largest is not None and largest.tokens_each > limit:
            lines.append(
                f"{_amount(limit)} tokens a run: too little for one request of {largest.variant}, which takes about "
                f"{largest.tokens_each:,.0f}; nothing of it is sent until 'budget' is raised"
            )
            continue
        runs = max(1, math.ceil(wanted / limit))
        enough = "enough for what is missing" if runs == 1 else f"what is missing takes about {runs} runs"
        lines.append(f"{_amount(limit)} {unit} a run: {enough} (about {_amount(wanted)})")
    return lines


def _against_month(needed: Sequence[tuple[str, float | None, float | None, float | None]]) -> list[str]:
    """(unit, what is missing, what the month has left, what it may use) in words."""
    lines = []
    for unit, wanted, left, limit in needed:
        if left is None or limit is None:
            continue
        rest = f"{_amount(max(left, 0))} of {_amount(limit)} {unit} left this month"
        if wanted is None:
            lines.append(f"{rest}; what is missing takes an unknown number of them")
        elif wanted <= left:
            lines.append(f"{rest}: enough")
        else:
            lines.append(
                f"{rest}, and what is missing takes about {_amount(wanted)}: the rest waits for the next month"
            )
    return lines


def _total(values: Sequence[float | None], unit: float = 1.0) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / unit if len(known) == len(values) else None


def _compared(budget: Budget, *, tokens: int, seconds: float, cost_usd: float) -> list[str]:
    parts = [] if budget.tokens is None else [f"{tokens:,} of {budget.tokens:,} tokens"]
    parts += [] if budget.minutes is None else [f"{seconds / 60:,.1f} of {_amount(budget.minutes)} minutes"]
    return parts + ([] if budget.cost_usd is None else [f"{_amount(cost_usd)} of {_amount(budget.cost_usd)} USD"])


@dataclass(frozen=True)
class _Rates:
    """What a text takes.

    Attributes:
        per_byte: Prompt tokens for each byte; 0 where all texts that were measured have one length.
        fixed, completion: Prompt and completion tokens of each text, whatever its length.
        is_own: Measured on answers of the same release: what it does with long texts is in the numbers.
    """

    per_byte: float
    fixed: float
    completion: float
    source: str
    is_own: bool

    def room_bytes(self, release: Release) -> int | None:
        """Bytes of a text that just fits the model's context; None where a length says nothing."""
        if self.per_byte <= 0:
            return None
        room = token_budget(release.model.context_length, release.sampling) - self.fixed
        return max(int(room / self.per_byte), 1)

    def tokens(self, missing: MissingSize, release: Release, *, room_bytes: int | None) -> tuple[float, float]:
        """(prompt tokens, completion tokens) of the missing texts."""
        asked, size = missing.documents, missing.bytes
        rules = release.long_documents
        if not self.is_own and room_bytes is not None and missing.long:
            if rules is None:
                asked, size = asked - missing.long, size - missing.long_bytes
            elif rules.policy == "truncate":
                size -= missing.long_bytes - missing.long * room_bytes
            else:
                asked += missing.long_parts - missing.long
        return max(asked * self.fixed + size * self.per_byte, 0.0), asked * self.completion


def _rates(store: ApplicationStore, loaded: LoadedApplication, release: Release) -> _Rates:
    own = store.completions.measured_tokens(release.release_id)
    if own is not None:
        source = f"from {own.answers:,} stored answers"
        return _Rates(own.per_byte or 0.0, own.fixed, own.completion, source, is_own=True)
    others = (
        store.completions.measured_tokens(other.release_id)
        for other in _stored_releases(store)
        if other.model.served_name == release.model.served_name
    )
    measured = max((one for one in others if one is not None), key=lambda one: one.answers, default=None)
    per_byte = measured.per_byte if measured is not None and measured.per_byte else ASSUMED_TOKENS_PER_BYTE
    fixed = len(fixed_prefix(release.prompt, labels=loaded.application.labels).encode()) * per_byte
    source = (
        f"{1 / per_byte:.1f} bytes a token, from {measured.answers:,} answers to another prompt"
        if measured is not None
        else f"{1 / per_byte:.0f} bytes a token, assumed"
    )
    return _Rates(per_byte, fixed, release.sampling.max_tokens, f"{source}; at most", is_own=False)


def _tokens_per_second(store: ApplicationStore, model: ModelPin) -> float | None:
    """Of the latest three runs on the same model that were long enough to measure, and whose endpoint counts tokens."""
    same = {one.release_id for one in _stored_releases(store) if one.model.served_name == model.served_name}
    runs: list[InferenceRun] = [
        run for release_id in sorted(same) for run in store.runs.of_release(release_id) if run.stored >= MEASURABLE_ROWS
    ]
    latest = sorted(runs, key=lambda run: run.started_at)[-3:]
    seconds, tokens = sum(run.seconds for run in latest), sum(run.usage.total for run in latest)
    return tokens / seconds if seconds > 0 and tokens > 0 else None


def _stored_releases(store: ApplicationStore) -> list[Release]:
    return [Release.model_validate_json(content) for content in store.releases.table()["content"].to_pylist()]
