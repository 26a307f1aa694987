"""Applications and contracts for tests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llm_platform.application.model import Application
from llm_platform.contracts.shape import contract_of
from llm_platform.records import ModelPin, Prompt, PromptMessage, Release, Sampling
from llm_platform.records.contracts import Contract

INVOICE = {
    "vendor": {"type": "string", "max_length": 40, "description": "Who wants the money"},
    "total": {"type": "money"},
    "due": {"type": "date"},
    "kind": {"type": "enum", "values": ["invoice", "reminder"]},
    "note": {"type": "string", "required": False},
}


def application(
    fields: Mapping[str, Any] | None = None, *, labels: tuple[str, ...] = (), **publish: Any
) -> Application:
    """An application that extracts fields, classifies or generates."""
    task = "extract" if fields is not None else "classify" if labels else "generate"
    return Application.model_validate(
        {
            "name": "invoices",
            "title": "Invoices",
            "owners": ("team:books",),
            "task": task,
            "fields": fields or {},
            "labels": labels,
            "source": {"url": "https://jane:s3cret@host/invoices.csv?sig=abc", "key": "id", "text": "body"},
            "variants": {"plain": {"prompt": "plain", "model": "tiny"}},
            "evaluation": {"gates": {}},
            "publish": publish,
        }
    )


def contract(fields: Mapping[str, Any] | None = None, *, labels: tuple[str, ...] = (), **publish: Any) -> Contract:
    """Its contract."""
    return contract_of(application(fields, labels=labels, **publish))


def release(fields: Mapping[str, Any] | None = None, *, labels: tuple[str, ...] = ()) -> Release:
    """A release that answers so."""
    spec = application(fields, labels=labels)
    return Release(
        application=spec.name,
        task=spec.task,
        model=ModelPin(entry="tiny", served_name="tiny", dialect="nim-2.x", context_length=2048),
        prompt=Prompt(
            name="plain",
            api="chat",
            messages=(PromptMessage(role="user", template="{{ text }}"),),
            answers={label: label for label in labels},
        ),
        sampling=Sampling(),
        decision="text",
        output_schema=spec.output_schema(),
    )
