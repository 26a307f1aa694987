"""Prompts rendered for documents."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from jinja2 import Template, TemplateError, nodes

from llm_platform.errors import ContractBroken, SpecificationError
from llm_platform.prompts.templates import ENVIRONMENT, MAX_RENDERED_CHARACTERS, compiled
from llm_platform.records import DocumentRow, Prompt

Examples = Sequence[dict[str, str]]
Choose = Callable[[DocumentRow], Examples]
"""Gives the few-shot examples of one document; see `selection.ExampleSelector`."""


@dataclass(frozen=True, slots=True)
class RenderedPrompt:
    """What is asked about one document: `messages` for a chat prompt, `text` for a text completion.

    Attributes:
        cut_tokens: Tokens of the document that were cut off, because it did not fit; None where it is whole.
    """

    messages: list[dict[str, str]] | None
    text: str | None
    cut_tokens: int | None = None

    @property
    def size_bytes(self) -> int:
        """Length in UTF-8 of all that is said."""
        parts = [self.text or ""] if self.messages is None else [message["content"] for message in self.messages]
        return sum(len(part) if part.isascii() else len(part.encode()) for part in parts)


class Renderer:
    """A prompt, compiled for rendering many documents."""

    def __init__(self, prompt: Prompt, labels: Sequence[str] = (), *, choose: Choose | None = None) -> None:
        """Compile the templates of `prompt`; `labels` are the application's, in its order.

        Raises:
            SpecificationError: the prompt selects examples from a pool, and `choose` is not given.
        """
        if prompt.selection is not None and choose is None:
            raise SpecificationError(
                f"Prompt {prompt.name!r} selects its examples from pool {prompt.selection.pool}, which was not read. "
                "Render it with a selector over that pool."
            )
        self.prompt = prompt
        self._choose = choose if prompt.selection is not None else None
        self._constants = _constants(prompt, labels)
        self._templates = [(message.role, compiled(message.template)) for message in prompt.messages]
        self._attributes = [name for name in prompt.variables if name != "text"]

    def render(self, row: DocumentRow) -> RenderedPrompt:
        """The prompt for one document. A missing value of an attribute (None) is empty text.

        Raises:
            ContractBroken: the document lacks an attribute that the template reads, or the result has no bounds.
        """
        context = dict(self._constants)
        if self._choose is not None:
            context["examples"] = _shown(self.prompt, self._choose(row))
        context["text"] = row.text
        for name in self._attributes:
            if name not in row.attributes:
                raise ContractBroken(
                    f"Prompt {self.prompt.name!r} reads {name!r}, which document {row.document_id!r} does not have "
                    f"(it has {sorted(row.attributes)}). Add it to source.attributes and materialize documents."
                )
            context[name] = row.attributes[name] or ""
        try:
            said = [(role, _filled(template, context)) for role, template in self._templates]
        except (TemplateError, TypeError, ValueError, ContractBroken) as error:
            reason = str(error) if isinstance(error, ContractBroken) else type(error).__name__
            raise ContractBroken(
                f"Prompt {self.prompt.name!r} cannot be rendered for document {row.document_id!r}: {reason}. "
                "Change the template, or the document."
            ) from error
        if self.prompt.api == "completion":
            return RenderedPrompt(None, said[0][1])
        return RenderedPrompt([{"role": role, "content": content} for role, content in said], None)


def render(prompt: Prompt, row: DocumentRow, *, labels: Sequence[str] = ()) -> RenderedPrompt:
    """One prompt for one document; for many, keep a `Renderer`."""
    return Renderer(prompt, labels).render(row)


def fixed_prefix(prompt: Prompt, *, labels: Sequence[str] = ()) -> str:
    """What every document's prompt begins with: all before the first document column, few-shot examples included.

    Messages of a chat are joined as in `<role>\\n<content>\\n`: for grouping and estimates, not for sending.
    """
    context = _constants(prompt, labels)
    # Examples that are chosen for each document are no more fixed than the document.
    changing = set(prompt.variables) | ({"examples"} if prompt.selection is not None else set())
    parts: list[str] = []
    for message in prompt.messages:
        head, whole = _before_variables(message.template, changing)
        if prompt.api == "chat":
            parts.append(f"{message.role}\n")
        parts.append(_filled(head, context))
        if not whole:
            break
        if prompt.api == "chat":
            parts.append("\n")
    return "".join(parts)


def failing_line(template: str, prompt: Prompt, labels: Sequence[str], value: str) -> tuple[int, str] | None:
    """Line and reason at which one template fails when every attribute is `value`; None when it renders."""
    code = compiled(template)
    context = {**_constants(prompt, labels), **dict.fromkeys(prompt.variables, value), "text": "tried"}
    if prompt.selection is not None:
        example = {
            **dict.fromkeys(prompt.variables, value),
            "text": "tried",
            "answer": next(iter(prompt.answers), value),
        }
        context["examples"] = _shown(prompt, [example] * prompt.selection.count)
    try:
        _filled(code, context)
    except (TemplateError, TypeError, ValueError, ContractBroken) as error:
        frames = [
            frame.tb_lineno
            for frame in _frames(error.__traceback__)
            if frame.tb_frame.f_code.co_filename == "<template>"
        ]
        return code.get_corresponding_lineno(frames[-1]) if frames else 1, str(error)
    return None


def _frames(traceback: TracebackType | None) -> Iterator[TracebackType]:
    while traceback is not None:
        yield traceback
        traceback = traceback.tb_next


def _constants(prompt: Prompt, labels: Sequence[str]) -> dict[str, Any]:
    return {"examples": _shown(prompt, prompt.examples), "labels": tuple(labels)}


def _shown(prompt: Prompt, examples: Examples) -> tuple[dict[str, str], ...]:
    # A template writes an example's answer as the model is to write it, so the label is replaced by its answer text.
    return tuple(
        {**example, "label": example["answer"], "answer": prompt.answers.get(example["answer"], example["answer"])}
        for example in examples
    )


def _filled(template: Template, context: dict[str, Any]) -> str:
    parts = []
    size = 0
    for part in template.root_render_func(template.new_context(context, shared=True)):
        size += len(part)
        if size > MAX_RENDERED_CHARACTERS:
            raise ContractBroken(f"more than {MAX_RENDERED_CHARACTERS} characters")
        parts.append(part)
    return "".join(parts)


def _before_variables(source: str, variables: set[str]) -> tuple[Template, bool]:
    """The template cut before the first node that reads a document column, and whether nothing was cut."""
    tree = ENVIRONMENT.parse(source)
    kept: list[nodes.Node] = []
    whole = True
    for node in tree.body:
        if isinstance(node, nodes.Output):
            children = []
            for child in node.nodes:
                if _reads(child, variables):
                    whole = False
                    break
                children.append(child)
            kept.append(nodes.Output(children, lineno=node.lineno))
        elif _reads(node, variables):
            whole = False
        else:
            kept.append(node)
        if not whole:
            break
    code = ENVIRONMENT.compile(nodes.Template(kept, lineno=1))
    return Template.from_code(ENVIRONMENT, code, {}), whole


def _reads(node: nodes.Node, variables: set[str]) -> bool:
    names = [node] if isinstance(node, nodes.Name) else list(node.find_all(nodes.Name))
    return any(name.name in variables for name in names)
