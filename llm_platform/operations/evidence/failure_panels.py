"""Why answers are not valid, by cause, with the setting that changes it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from llm_platform.evaluation.panel import Panel
from llm_platform.evaluation.wording import counted
from llm_platform.inference.answers import NO_LABEL, NOT_JSON
from llm_platform.inference.reasons import THOUGHT_HAS_NO_END, NoText
from llm_platform.operations.releases import LoadedApplication, senders
from llm_platform.records.refusals import Refusal
from llm_platform.warehouse.store import ApplicationStore

CAUSES_SHOWN = 8
PROMPT = "the prompt: name the answers, and nothing else, or `decision: logprobs`"
SETTINGS: tuple[tuple[str, str], ...] = (
    (r"max_tokens", "`sampling.max_tokens` of the variant"),
    (re.escape(NO_LABEL), PROMPT),
    (r"no label starts with", "`answers` of the prompt, or `decision: text`"),
    (re.escape(NOT_JSON), "the prompt: ask for JSON alone; or an endpoint that keeps to a schema (`dialect`)"),
    (r"fit the schema|lacks '|breaks the rule|not asked for", "`fields` of application.yaml, or the prompt's example"),
    (re.escape(Refusal.TOO_LONG), "`long_documents: truncate` or `split`, or `documents.max_characters`"),
    (re.escape(Refusal.TOO_LARGE), "`documents.max_characters`"),
    (re.escape(Refusal.PARAMETER), "`sampling` of the variant, or the `dialect` of its lock entry"),
    (rf"{re.escape(Refusal.KEY)}|{re.escape(Refusal.FORBIDDEN)}", "the key of the endpoint (LLM_PLATFORM_NIM_API_KEY)"),
    (rf"{re.escape(Refusal.MODEL)}|{re.escape(Refusal.PATH)}", "`served_name` or `base_urls` of the lock entry"),
    (re.escape(Refusal.QUOTA), "the account at the endpoint"),
    (rf"{re.escape(Refusal.FILTERED)}|{re.escape(NoText.FILTERED)}", "the filter of the endpoint"),
    (re.escape(NoText.REFUSED), "the prompt: say why it is asked, or another model"),
    (re.escape(THOUGHT_HAS_NO_END), "`sampling.max_tokens` of the variant, or a model that does not think"),
    (r"requests in \d+ s failed", "the endpoint; then `llm-platform retry`"),
)
"""What a reason says → what to change. The first that fits counts."""
OTHERWISE = "`llm-platform explain … --texts` shows what came back"


def failure_panels(store: ApplicationStore, loaded: LoadedApplication) -> list[Panel]:
    """One panel for each variant that has answers which are not valid; nothing for others."""
    return [
        Panel(
            title="Why answers are not valid",
            note=_note(store.name, name, causes),
            columns=("cause", "documents", "what to change"),
            rows=tuple(_rows(causes)),
            variant=name,
            wide=True,
        )
        for name, release in senders(store, loaded).items()
        if (causes := store.failures.causes(release.release_id))
    ]


def _note(application: str, variant: str, causes: list[tuple[str, str, int]]) -> str:
    documents = counted(sum(count for _, _, count in causes), "document")
    ids = f"llm-platform failures {application} --variant {variant}"
    return f"{documents} without a valid answer: their readers get nothing. {ids} lists them."


def _rows(causes: list[tuple[str, str, int]]) -> Iterator[tuple[str, ...]]:
    for status, reason, count in causes[:CAUSES_SHOWN]:
        said = f"{status}: {reason}" if reason else status
        yield said, f"{count:,}", setting_for(reason)
    rest = causes[CAUSES_SHOWN:]
    if rest:
        yield counted(len(rest), "further cause"), f"{sum(count for _, _, count in rest):,}", ""


def setting_for(reason: str) -> str:
    """The setting that changes what a reason says."""
    return next((what for mark, what in SETTINGS if re.search(mark, reason)), OTHERWISE)
