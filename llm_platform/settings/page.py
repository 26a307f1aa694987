"""Every setting on one page, for people: what `docs/settings.md` and `llm-platform settings` show."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import AliasChoices, SecretStr
from pydantic.fields import FieldInfo

from llm_platform.settings.settings import Settings

PREFIX = "LLM_PLATFORM_"
SECTIONS = {
    "nim": "Endpoints, and the pods that serve models",
    "s3": "The object store of tables",
    "alert": "Alerts",
    "review": "The review page",
    "training": "Pods that train adapters",
}
DEPLOYMENT = "The deployment"
# What a function finds out stands here in words: its value is that of one machine.
FOUND = {
    "state": "`.llm_platform` in a checkout, else `~/.local/share/llm_platform`",
    "namespace": "the git branch, else the user",
    "git_commit": "that of the checkout",
    "samples": "`true`, in a pod of Kubernetes `false`",
    "models_lock": "with samples `models.lock.yaml` of the checkout, else the one that is shipped; without: none",
}


@dataclass(frozen=True)
class Setting:
    """One variable.

    Attributes:
        name: Of the field; the variable is `LLM_PLATFORM_<NAME>`.
        others: Variables of others with the same meaning, read where ours is not set.
        kind: What it takes, in a word or two.
        default: In words or as it is written; empty where there is none.
    """

    name: str
    others: tuple[str, ...]
    kind: str
    default: str
    meaning: str

    @property
    def variable(self) -> str:
        """The environment variable."""
        return f"{PREFIX}{self.name.upper()}"

    @property
    def section(self) -> str:
        """The heading it stands under."""
        return SECTIONS.get(self.name.partition("_")[0], DEPLOYMENT)


def all_settings() -> list[Setting]:
    """Every setting, in the order of their sections."""
    found = [_setting(name, field) for name, field in Settings.model_fields.items()]
    order = [DEPLOYMENT, *SECTIONS.values()]
    return sorted(found, key=lambda one: order.index(one.section))


def settings_page() -> str:
    """`docs/settings.md`."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield "# Settings"
    yield ""
    yield "Every environment variable that a deployment reads, as `llm-platform settings --markdown` prints the page."
    yield "Local, branch and production differ in these values and in nothing else. `llm-platform settings` says which"
    yield "are set here, and never shows a secret."
    section = None
    for one in all_settings():
        if one.section != section:
            section = one.section
            yield from (
                "",
                f"## {section}",
                "",
                "| variable | takes | default | meaning |",
                "| --- | --- | --- | --- |",
            )
        others = f", else `{'`, `'.join(one.others)}`" if one.others else ""
        cells = (f"`{one.variable}`{others}", one.kind, one.default or "–", one.meaning)
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _setting(name: str, field: FieldInfo) -> Setting:
    alias = field.validation_alias
    names = [str(choice) for choice in alias.choices] if isinstance(alias, AliasChoices) else []
    others = tuple(choice for choice in names if not choice.startswith(PREFIX))
    return Setting(name, others, _kind(field.annotation), FOUND.get(name, _default(field)), field.description or "")


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=False)
    if field.default_factory is not None or value is None or value in ("", (), {}):
        return ""
    if isinstance(value, tuple):
        value = ",".join(value)
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _kind(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " or ".join(f"`{choice}`" for choice in arguments)
    if origin in (Union, types.UnionType):
        return _kind(next(one for one in arguments if one is not type(None)))
    if origin is typing.Annotated:
        return _kind(arguments[0])
    if origin is tuple:
        return "list"
    if origin is dict:
        return "JSON"
    return {bool: "true or false", int: "number", float: "number", Path: "path", SecretStr: "secret"}.get(
        annotation, "text"
    )
