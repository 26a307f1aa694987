"""Prompt files read from `prompts/*.md` of an application."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from llm_platform.application.long_document_rules import PARTS
from llm_platform.application.model import Application
from llm_platform.application.names import markdown_files, misnamed_files
from llm_platform.application.rules import PROMPTS_FOLDER
from llm_platform.application.yaml.mistakes import Mistake, listed, nearest, raise_all, read_text, wording
from llm_platform.application.yaml.read import LocatedYaml, read_yaml
from llm_platform.application.yaml.validate import validated
from llm_platform.prompts.body import Section, SplitPromptFile, chat_messages, completion_template, split
from llm_platform.prompts.examples import read_examples
from llm_platform.prompts.render import failing_line
from llm_platform.prompts.template_rules import broken_template
from llm_platform.prompts.templates import document_variables, reads_examples
from llm_platform.records import Api, ExampleSelection, Prompt, PromptMessage

MAX_EXAMPLES = 64
"""What the answers to the parts of a document are called in the prompt that puts them together."""
POOL_HASH = re.compile(r"[0-9a-f]{16}")

Examples = tuple[dict[str, str], ...]


class ExamplePool(BaseModel):
    """Few-shot examples: the first `count` rows of a JSON Lines file in the application's folder.

    With `select`, `count` examples are chosen for each document from a pool of known answers that
    `llm-platform prompt freeze` has frozen, and `pool` is its hash.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    pool: str
    count: int = Field(ge=1, le=MAX_EXAMPLES)
    select: Literal["first", "random", "nearest"] = "first"


class FrontMatter(BaseModel):
    """What stands between the two `---` lines of a prompt file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    api: Api
    answers: dict[str, str] = Field(default_factory=dict)
    examples: ExamplePool | None = None


def load_prompts(application: Application) -> dict[str, Prompt]:
    """Every prompt of an application, by name.

    Raises:
        SpecificationError: a prompt file is wrong; every mistake of every file is a line of the message.
    """
    mistakes: list[Mistake] = []
    prompts = {}
    paths = markdown_files(application.folder / PROMPTS_FOLDER)
    misnamed = misnamed_files(paths)
    mistakes += misnamed.values()
    for path in paths:
        prompt = _read(path, application, mistakes) if path not in misnamed else None
        if prompt is not None:
            prompts[path.stem] = prompt
    raise_all(mistakes)
    return prompts


def load_prompt(path: Path, application: Application) -> Prompt:
    """One prompt file, wherever it is; a pool file that it names is in the application's folder.

    Raises:
        SpecificationError: the file is wrong; every mistake is a line of the message.
    """
    mistakes: list[Mistake] = []
    prompt = _read(path, application, mistakes)
    raise_all(mistakes)
    assert prompt is not None  # with no mistake there is a prompt
    return prompt


def _read(path: Path, application: Application, mistakes: list[Mistake]) -> Prompt | None:
    text = read_text(path, mistakes)
    parts = split(path, text, mistakes) if text is not None else None
    yaml = read_yaml(path, parts.front_matter, mistakes, first_line=2) if parts is not None else None
    if parts is None or yaml is None:
        return None
    front = validated(FrontMatter, yaml, mistakes)
    examples: Examples = ()
    if front is not None:
        _check_answers(application, yaml, front, mistakes)
        examples = _examples(application, yaml, front, mistakes)
        if _is_together(path, application) and front.examples is not None and front.examples.select != "first":
            found = wording(f"select {front.examples.select!r} in the prompt of long_documents", "'first'", "first")
            mistakes.append(yaml.mistake(("examples", "select"), found))
    before = len(mistakes)
    sections = _sections(path, parts, yaml.data.get("api"), mistakes)
    _check_templates(path, application, sections, _example_keys(application, front, examples), mistakes)
    selection = None if front is None else _selection(front)
    if front is None or len(mistakes) > before or (front.examples is not None and not (examples or selection)):
        return None
    variables = set().union(*(document_variables(section.template) for section in sections))
    _check_examples(yaml, examples, variables, sections, mistakes)
    prompt = Prompt(
        name=path.stem,
        api=front.api,
        messages=tuple(PromptMessage(role=section.role, template=section.template) for section in sections),
        answers=front.answers or {label: label for label in application.labels},
        examples=examples,
        selection=selection,
        variables=tuple(sorted(variables)),
    )
    mistakes += _failures(path, prompt, sections, application)
    return prompt


def _is_together(path: Path, application: Application) -> bool:
    return path.stem == application.long_documents.prompt and path.parent.name == PROMPTS_FOLDER


def _sections(path: Path, parts: SplitPromptFile, api: object, mistakes: list[Mistake]) -> list[Section]:
    """The body's templates, also where another key of the front matter is wrong; none where `api` is."""
    if api == "chat":
        return chat_messages(path, parts, mistakes)
    return completion_template(path, parts, mistakes) if api == "completion" else []


def _check_templates(
    path: Path, application: Application, sections: list[Section], example_keys: set[str], mistakes: list[Mistake]
) -> None:
    # A prompt that puts together what was answered about parts reads those answers, and no text.
    columns = [PARTS if _is_together(path, application) else "text", *application.source.attributes]
    mistakes += [
        Mistake(str(path), section.line + line - 1, text)
        for section in sections
        for line, text in broken_template(section.template, columns, sorted(example_keys))
    ]


def _example_keys(application: Application, front: FrontMatter | None, examples: Examples) -> set[str]:
    """Keys of every example; those that are likely where the pool could not be read and says so itself."""
    if examples:
        return {"label"} | set(examples[0]).intersection(*examples)
    if front is not None and front.examples is None:
        return set()
    return {"answer", "label", "text", *application.source.attributes}


def _check_answers(application: Application, yaml: LocatedYaml, front: FrontMatter, mistakes: list[Mistake]) -> None:
    if not front.answers:
        return
    if application.task != "classify":
        text = wording(f"answers for task {application.task!r}", "answers only for task 'classify'")
        mistakes.append(yaml.mistake(("answers",), text))
        return
    for label in application.labels:
        if label not in front.answers:
            text = wording(f"no answer for label {label!r}", "the exact text of the answer for every label")
            mistakes.append(yaml.mistake(("answers",), text))
    first: dict[str, str] = {}
    for label, answer in front.answers.items():
        at = ("answers", label)
        if label not in application.labels:
            labels = application.labels
            mistakes.append(yaml.mistake(at, wording(f"label {label!r}", listed(labels), nearest(label, labels))))
        if not answer.strip():
            mistakes.append(
                yaml.mistake(at, wording(f"{answer!r} as the answer for {label!r}", "text that is not blank"))
            )
        elif answer in first:
            found = f"{answer!r} as the answer for {label!r} and for {first[answer]!r}"
            mistakes.append(yaml.mistake(at, wording(found, "a different text for each label")))
        first.setdefault(answer, label)


def _examples(application: Application, yaml: LocatedYaml, front: FrontMatter, mistakes: list[Mistake]) -> Examples:
    if front.examples is None:
        return ()
    name, count = front.examples.pool, front.examples.count
    if front.examples.select != "first":
        if not POOL_HASH.fullmatch(name):
            allowed = "the hash of a frozen pool, which 'llm-platform prompt freeze' writes here"
            mistakes.append(yaml.mistake(("examples", "pool"), wording(f"pool {name!r}", allowed)))
        return ()
    folder = application.folder.resolve()
    path = (folder / name).resolve()
    if not path.is_relative_to(folder):
        text = wording(f"pool {name!r}", "a file in the application's own folder")
        mistakes.append(yaml.mistake(("examples", "pool"), text))
        return ()
    if not path.is_file():
        known = sorted(entry.name for entry in folder.glob("*.jsonl"))
        allowed = f"a JSON Lines file in {application.folder} ({listed(known)})"
        text = wording(f"pool {name!r}", allowed, nearest(name, known))
        mistakes.append(yaml.mistake(("examples", "pool"), text))
        return ()
    before = len(mistakes)
    examples = read_examples(application.folder / name, count, application, mistakes)
    if len(examples) < count and len(mistakes) == before:
        text = wording(f"count {count}", f"at most {len(examples)}, the rows of {name!r}")
        mistakes.append(yaml.mistake(("examples", "count"), text))
    return examples


def _selection(front: FrontMatter) -> ExampleSelection | None:
    wanted = front.examples
    if wanted is None or wanted.select == "first" or not POOL_HASH.fullmatch(wanted.pool):
        return None
    return ExampleSelection(select=wanted.select, count=wanted.count, pool=wanted.pool)


def _check_examples(
    yaml: LocatedYaml,
    examples: Examples,
    variables: set[str],
    sections: list[Section],
    mistakes: list[Mistake],
) -> None:
    if yaml.data.get("examples") is not None and not any(reads_examples(section.template) for section in sections):
        text = wording("examples that no template reads", "a loop {% for example in examples %}, or no examples")
        mistakes.append(yaml.mistake(("examples",), text))
    for name in sorted(variables) if examples else ():
        missing = next((n for n, example in enumerate(examples, start=1) if name not in example), None)
        if missing is not None:
            found = f"no {name!r} in row {missing} of the pool"
            mistakes.append(yaml.mistake(("examples",), wording(found, "every column that the template reads")))


def _failures(path: Path, prompt: Prompt, sections: list[Section], application: Application) -> list[Mistake]:
    """A template that passes the rules may still fail on values: it is tried with and without attributes."""
    found = []
    for section in sections:
        for value in ("", "tried"):
            failure = failing_line(section.template, prompt, application.labels, value)
            if failure is not None:
                line, reason = failure
                text = wording(
                    f"a template that fails ({reason})", "one that renders, also where an attribute is empty"
                )
                found.append(Mistake(str(path), section.line + line - 1, text))
                break
    return found
