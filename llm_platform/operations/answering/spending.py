"""What answering the missing documents will take, before a token is paid, and where a run has to stop."""

from __future__ import annotations

from dataclasses import dataclass, replace

from llm_platform.application.model import Budget
from llm_platform.errors import SpecificationError
from llm_platform.inference.policy import EnginePolicy
from llm_platform.models.entries import LockEntry
from llm_platform.operations.releases import LoadedApplication, champion_release, requesting
from llm_platform.prompts.budget import token_budget
from llm_platform.prompts.render import fixed_prefix
from llm_platform.records import InferenceRun, ModelPin, Release
from llm_platform.warehouse.missing import MissingSize
from llm_platform.warehouse.store import ApplicationStore

# English in a byte-pair vocabulary of 30,000 to 130,000 words; assumed only until the first answer is stored.
ASSUMED_TOKENS_PER_BYTE = 0.25
# A shorter run measures its own start.
MEASURABLE_ROWS = 20
SECONDS_PER_HOUR = 3600.0


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
    def line(self) -> str:
        """The estimate in one line, for a log."""
        if not self.documents:
            return f"{self.variant}: nothing is missing"
        time = "time unknown before the first run" if self.seconds is None else f"about {self.seconds:,.0f} s"
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
    return [estimate(store, loaded, name, release) for name, release in wanted.items()]


def estimate(store: ApplicationStore, loaded: LoadedApplication, variant: str, release: Release) -> Estimate:
    """What the missing answers of `release`, which sends requests, will take."""
    entry = loaded.lock.get(release.model.entry)
    rates = _rates(store, loaded, release)
    room = rates.room_bytes(release)
    missing = store.completions.missing_size(release.release_id, room_bytes=room)
    prompt, completion = rates.tokens(missing, release, room_bytes=room)
    rate = _tokens_per_second(store, release.model)
    seconds = None if rate is None else (prompt + completion) / rate
    hours = None if seconds is None else seconds * (entry.gpus if entry is not None else 1) / SECONDS_PER_HOUR
    price = entry.price_per_gpu_hour_usd if entry is not None else None
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
        cost_usd=None if hours is None or price is None else hours * price,
    )


def within_budget(policy: EnginePolicy, budget: Budget, entry: LockEntry) -> EnginePolicy:
    """A policy that stops where the budget of an application ends.

    Raises:
        SpecificationError: the budget is in money, and the lock file has no price.
    """
    limits = [] if budget.minutes is None else [budget.minutes * 60]
    if budget.cost_usd is not None:
        limits.append(SECONDS_PER_HOUR * budget.cost_usd / hourly_usd(entry))
    return replace(policy, budget_tokens=budget.tokens, budget_seconds=min(limits, default=None))


def hourly_usd(entry: LockEntry) -> float:
    """Price of all GPUs of an entry for an hour.

    Raises:
        SpecificationError: the lock file has none.
    """
    if not entry.price_per_gpu_hour_usd:
        raise SpecificationError(
            f"budget.cost_usd needs the price of model {entry.name!r}, and its entry in models.lock.yaml has no "
            "price_per_gpu_hour_usd. Add it there, or give the budget in tokens or minutes."
        )
    return entry.price_per_gpu_hour_usd * entry.gpus


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
