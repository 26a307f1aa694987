"""Rubrics of judges, read from `judges/*.md` of an application: front matter and messages, as in a prompt file."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from llm_platform.application.model import Application
from llm_platform.application.names import markdown_files, misnamed_files
from llm_platform.application.yaml.mistakes import Mistake, listed, nearest, raise_all, read_text, wording
from llm_platform.application.yaml.read import LocatedYaml, read_yaml
from llm_platform.application.yaml.validate import validated
from llm_platform.prompts.body import Section, SplitPromptFile, chat_messages, completion_template, split
from llm_platform.prompts.template_rules import broken_template
from llm_platform.prompts.templates import document_variables
from llm_platform.records import Api, Judge, Prompt, PromptMessage, Sampling

JUDGES_FOLDER = "judges"
GRADES = ("answer", "reference")
COMPARES = ("first", "second", "reference")
RIGHT_OR_WRONG = {"right": 1.0, "wrong": 0.0}
WHICH_IS_BETTER = {"first": 1.0, "second": 0.0, "tie": 0.5}


class JudgeFrontMatter(BaseModel):
    """What stands between the two `---` lines of a rubric file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    api: Api
    model: str
    sampling: Sampling = Sampling(max_tokens=64)
    verdicts: dict[str, float] = Field(default_factory=dict)
    explain: int = Field(default=0, ge=0, le=2000)
    documents: int = Field(default=200, ge=1)


def load_judges(application: Application, *, models: Collection[str]) -> dict[str, Judge]:
    """Every judge of an application, by name.

    Args:
        models: Entries of the lock file that a judge may name.

    Raises:
        SpecificationError: a file is wrong; every mistake of every file is a line of the message.
    """
    mistakes: list[Mistake] = []
    judges = {}
    paths = markdown_files(application.folder / JUDGES_FOLDER)
    misnamed = misnamed_files(paths)
    mistakes += misnamed.values()
    for path in paths:
        judge = _read(path, application, models, mistakes) if path not in misnamed else None
        if judge is not None:
            judges[path.stem] = judge
    raise_all(mistakes)
    return judges


def _read(path: Path, application: Application, models: Collection[str], mistakes: list[Mistake]) -> Judge | None:
    before = len(mistakes)
    text = read_text(path, mistakes)
    parts = split(path, text, mistakes) if text is not None else None
    yaml = read_yaml(path, parts.front_matter, mistakes, first_line=2) if parts is not None else None
    front = validated(JudgeFrontMatter, yaml, mistakes) if yaml is not None else None
    if parts is None or yaml is None or front is None:
        return None
    if front.model not in models:
        known = sorted(models)
        found = wording(
            f"model {front.model!r}", f"an entry of the lock file ({listed(known)})", nearest(front.model, known)
        )
        mistakes.append(yaml.mistake(("model",), found))
    sections = _sections(path, parts, front.api, application, mistakes)
    variables = set().union(*(document_variables(section.template) for section in sections))
    compares = bool(variables & {"first", "second"})
    _check_variables(path, parts, variables, mistakes)
    verdicts = _verdicts(yaml, front, compares, mistakes)
    if len(mistakes) > before:
        return None
    prompt = Prompt(
        name=f"{JUDGES_FOLDER}/{path.stem}",
        api=front.api,
        messages=tuple(PromptMessage(role=section.role, template=section.template) for section in sections),
        variables=tuple(sorted(variables)),
    )
    return Judge(
        name=path.stem,
        model=front.model,
        prompt=prompt,
        sampling=front.sampling,
        verdicts=verdicts,
        explain=front.explain,
        documents=front.documents,
    )


def _sections(
    path: Path, parts: SplitPromptFile, api: Api, application: Application, mistakes: list[Mistake]
) -> list[Section]:
    read = chat_messages if api == "chat" else completion_template
    sections = read(path, parts, mistakes)
    columns = ["text", *dict.fromkeys([*GRADES, *COMPARES]), *application.source.attributes]
    mistakes += [
        Mistake(str(path), section.line + line - 1, text)
        for section in sections
        for line, text in broken_template(section.template, columns, [])
    ]
    return sections


def _check_variables(path: Path, parts: SplitPromptFile, variables: set[str], mistakes: list[Mistake]) -> None:
    pair = {"first", "second"} <= variables
    if ("answer" in variables) == pair or (variables & {"first", "second"} and not pair):
        found = wording(
            f"a rubric that reads {listed(sorted(variables)) or 'nothing'}",
            "{{ answer }} to grade one answer, or {{ first }} and {{ second }} to choose between two",
        )
        mistakes.append(Mistake(str(path), parts.body_line, found))


def _verdicts(yaml: LocatedYaml, front: JudgeFrontMatter, compares: bool, mistakes: list[Mistake]) -> dict[str, float]:
    if compares:
        if front.verdicts:
            allowed = "none: a rubric that compares says 'first', 'second' or 'tie'"
            mistakes.append(yaml.mistake(("verdicts",), wording("verdicts", allowed)))
        return WHICH_IS_BETTER
    outside = {word: score for word, score in front.verdicts.items() if not 0.0 <= score <= 1.0}
    for word, score in outside.items():
        mistakes.append(yaml.mistake(("verdicts", word), wording(f"score {score:g}", "a number from 0 to 1")))
    if front.verdicts and len(set(front.verdicts.values())) < 2:
        mistakes.append(yaml.mistake(("verdicts",), wording("verdicts that all score the same", "at least two scores")))
    return front.verdicts or RIGHT_OR_WRONG
