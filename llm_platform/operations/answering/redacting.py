"""What an application has taken out of its documents: by one rule, before they are stored, so before all else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import lru_cache

from llm_platform.application.model import Application
from llm_platform.documents.prepare import TakingOut
from llm_platform.errors import ContractBroken
from llm_platform.records import PoolExample, Prompt, RedactionRule, SourceState
from llm_platform.redaction.redactor import Redactor
from llm_platform.warehouse.store import ApplicationStore

_MARK = "/taken-out:"


def taking_out(application: Application) -> TakingOut | None:
    """What is taken out of its documents; None where they stay whole."""
    redaction = application.redaction
    return None if redaction is None else TakingOut(_redactor(redaction.rule().model_dump_json()), redaction.put_back)


@lru_cache(maxsize=8)
def _redactor(rule: str) -> Redactor:
    return Redactor(RedactionRule.model_validate_json(rule))


def mark_of(application: Application) -> str:
    """What the state of the source ends with where documents were stored by the present rule; empty without one."""
    redaction = application.redaction
    if redaction is None:
        return ""
    return f"{_MARK}{redaction.rule().rule_id}{'+kept' if redaction.put_back else ''}"


def require_redacted(store: ApplicationStore, application: Application, *, at_snapshot: int | None = None) -> None:
    """Refuse to make anything of documents that were stored before the present rule.

    Raises:
        ContractBroken: they were; nothing of them is sent, shown as an example or trained on.
    """
    mark = mark_of(application)
    state: SourceState | None = store.documents.consumed(at_snapshot=at_snapshot) if mark else None
    if state is None or state.token.endswith(mark):
        return
    then = "as of that snapshot " if at_snapshot is not None else ""
    again = "" if at_snapshot is not None else f" Store them again: llm-platform run {application.name}"
    raise ContractBroken(
        f"Documents of {application.name} {then}were stored before its present 'redaction', so nothing of them is sent."
        f"{again}"
    )


def shown(prompt: Prompt, application: Application) -> Prompt:
    """A prompt as it is sent: its frozen examples without what is taken out of documents."""
    taken_out = taking_out(application)
    if taken_out is None or not prompt.examples:
        return prompt
    # A label is no text of anybody's, and has to stay a label.
    said = {"answer"} if application.task == "classify" else set()
    made = []
    for example in prompt.examples:
        names = [name for name in example if name not in said]
        texts = taken_out.redactor.redact([example[name] for name in names]).texts
        made.append({**example, **dict(zip(names, map(str, texts), strict=True))})
    return prompt.model_copy(update={"examples": tuple(made), "mended": prompt.version})


def shown_pool(pool: Sequence[PoolExample], application: Application) -> Sequence[PoolExample]:
    """A frozen pool as it is shown: one from before the rule has whole texts."""
    taken_out = taking_out(application)
    if taken_out is None:
        return pool
    made = []
    for example in pool:
        text, attributes, withheld = taken_out.of(example.text, example.attributes)
        answer = _redacted(example.answer, taken_out, withheld, application)
        made.append(example.model_copy(update={"text": text, "attributes": attributes, "answer": answer}))
    return made


def redacted_answers(
    answers: Mapping[str, str | None], store: ApplicationStore, application: Application
) -> Mapping[str, str | None]:
    """Answers of others with the placeholders of their documents, so that all that is judged and taught is of one kind.

    Args:
        answers: Document → known or predicted answer.
    """
    taken_out = taking_out(application)
    if taken_out is None or application.task == "classify" or not answers:
        return answers
    known = store.documents.withheld(list(answers))
    return {
        key: None if answer is None else _redacted(answer, taken_out, known.get(key, {}), application)
        for key, answer in answers.items()
    }


def _redacted(answer: str, taken_out: TakingOut, known: Mapping[str, str], application: Application) -> str:
    if application.task == "classify":
        return answer
    if application.task == "extract":
        with suppress(ValueError, RecursionError):
            return taken_out.redactor.redact_json(answer, known=known)
    return taken_out.redactor.redact([answer], known=known).texts[0] or ""
