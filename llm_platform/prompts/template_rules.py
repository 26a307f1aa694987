"""What the template of a prompt may do, checked on its syntax tree before it is ever rendered.

An allow-list: what is not named here is a mistake. A document's text is data and is never parsed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from jinja2 import TemplateSyntaxError, nodes

from llm_platform.application.yaml.mistakes import listed, nearest, shown, wording
from llm_platform.prompts.templates import CONSTANTS, ENVIRONMENT, compiled

MAX_LOOP_DEPTH = 2
LOOP_ATTRIBUTES = ("first", "index", "index0", "last", "length", "revindex", "revindex0")
_EXPRESSIONS = (
    *(nodes.Name, nodes.Const, nodes.Filter, nodes.Test, nodes.Getattr, nodes.Getitem, nodes.Slice, nodes.Keyword),
    *(nodes.Compare, nodes.Operand, nodes.And, nodes.Or, nodes.Not, nodes.Neg, nodes.CondExpr),
    *(nodes.List, nodes.Tuple, nodes.TemplateData),
)
_WORDS: Mapping[type[nodes.Node], str] = {
    nodes.Call: "a call",
    nodes.Assign: "an assignment",
    nodes.AssignBlock: "an assignment",
    nodes.Include: "an include",
    nodes.Import: "an import",
    nodes.FromImport: "an import",
    nodes.Extends: "an extends",
    nodes.Macro: "a macro",
    nodes.CallBlock: "a call",
    nodes.FilterBlock: "a filter block",
    nodes.With: "a with",
    # Jinja makes one of nothing else.
    nodes.Scope: "an autoescape",
}

Broken = Iterator[tuple[int, str]]
Scope = Mapping[str, Collection[str]]
"""Names that a loop binds, each with the attributes it has."""


def broken_template(source: str, columns: Collection[str], example_keys: Collection[str]) -> Broken:
    """What a template may not do, as pairs of a line (from 1) and a wording.

    Args:
        columns: Document columns that it may read.
        example_keys: Keys that every few-shot example has; empty when the prompt has none.
    """
    try:
        tree = ENVIRONMENT.parse(source)
        broken = list(_Walk(columns, example_keys).statements(tree.body, {}, 0))
        yield from broken
        if not broken:
            compiled(source)
    except TemplateSyntaxError as error:
        yield error.lineno, wording(f"a template that cannot be read ({error.message})", "Jinja's syntax")
    except (RecursionError, SyntaxError):  # of the Python code that Jinja makes from the template
        yield 1, wording("a template nested too deeply", "a few levels")


class _Walk:
    def __init__(self, columns: Collection[str], example_keys: Collection[str]) -> None:
        self.columns = columns
        self.example_keys = example_keys

    def statements(self, body: list[nodes.Node], scope: Scope, depth: int) -> Broken:
        for node in body:
            if isinstance(node, nodes.Output):
                for child in node.nodes:
                    yield from self.expression(child, scope)
            elif isinstance(node, nodes.If):
                yield from self.expression(node.test, scope)
                for branch in (node.body, node.elif_, node.else_):
                    yield from self.statements(list(branch), scope, depth)
            elif isinstance(node, nodes.For):
                yield from self.loop(node, scope, depth)
            else:
                allowed = "text, {{ … }}, {% if %} and {% for … in examples %} or {% for … in labels %}"
                yield _line(node), wording(_named(node), allowed)

    def loop(self, node: nodes.For, scope: Scope, depth: int) -> Broken:
        iterated = node.iter.node if isinstance(node.iter, nodes.Getitem) else node.iter
        if node.recursive or not isinstance(iterated, nodes.Name) or iterated.name not in CONSTANTS:
            yield (
                node.lineno,
                wording("a loop over something else", "a loop over 'examples' or 'labels', or a part of them"),
            )
            return
        if depth >= MAX_LOOP_DEPTH:
            yield node.lineno, wording(f"loops {depth + 1} deep", f"at most {MAX_LOOP_DEPTH}")
            return
        if not isinstance(node.target, nodes.Name):
            yield (
                node.lineno,
                wording("a loop with several variables", "one variable, as in {% for example in examples %}"),
            )
            return
        yield from self.expression(node.iter, scope)
        bound = self.example_keys if iterated.name == "examples" else ()
        inner = {**scope, node.target.name: bound, "loop": LOOP_ATTRIBUTES}
        if node.test is not None:
            yield from self.expression(node.test, inner)
        yield from self.statements(node.body, inner, depth + 1)
        yield from self.statements(node.else_, scope, depth)

    def expression(self, node: nodes.Node, scope: Scope) -> Broken:
        if not isinstance(node, _EXPRESSIONS):
            allowed = f"variables, text, comparisons and the filters {listed(sorted(ENVIRONMENT.filters))}"
            yield node.lineno, wording(_named(node), allowed)
            return
        if isinstance(node, nodes.Name):
            yield from self.name(node, scope)
        elif isinstance(node, nodes.Getattr):
            yield from self.attribute(node, node.attr, scope)
            return
        elif isinstance(node, nodes.Getitem) and not isinstance(node.arg, nodes.Slice):
            index = node.arg.node if isinstance(node.arg, nodes.Neg) else node.arg
            key = index.value if isinstance(index, nodes.Const) else None
            if isinstance(key, str):
                yield from self.attribute(node, key, scope)
                return
            if not isinstance(key, int):
                yield (
                    node.lineno,
                    wording("an index that is not a number", "a number, a range such as [:200], or a name"),
                )
                return
        elif isinstance(node, nodes.Filter) and node.name not in ENVIRONMENT.filters:
            filters = sorted(ENVIRONMENT.filters)
            yield node.lineno, wording(f"filter {node.name!r}", listed(filters), nearest(node.name, filters))
        elif isinstance(node, nodes.Test) and node.name not in ENVIRONMENT.tests:
            tests = sorted(name for name in ENVIRONMENT.tests if name.isalpha())
            yield node.lineno, wording(f"test {node.name!r}", listed(tests), nearest(node.name, tests))
        for child in node.iter_child_nodes():
            yield from self.expression(child, scope)

    def name(self, node: nodes.Name, scope: Scope) -> Broken:
        if node.name == "examples" and not self.example_keys:
            yield node.lineno, wording("'examples' in the template only", "'examples' in the front matter as well")
        elif node.name not in scope and node.name not in CONSTANTS and node.name not in self.columns:
            known = [*self.columns, *sorted(CONSTANTS), *(name for name in scope if name != "loop")]
            yield node.lineno, wording(f"variable {node.name!r}", listed(known), nearest(node.name, known))

    def attribute(self, node: nodes.Getattr | nodes.Getitem, key: str, scope: Scope) -> Broken:
        owner = node.node
        if isinstance(owner, nodes.Name) and owner.name in scope:
            allowed = scope[owner.name]
        elif isinstance(owner, nodes.Getitem) and isinstance(owner.node, nodes.Name) and owner.node.name == "examples":
            allowed = self.example_keys
        else:
            yield node.lineno, wording(f"attribute {shown(key)}", "attributes of an example or of 'loop' only")
            return
        if key not in allowed:
            yield node.lineno, wording(f"attribute {shown(key)}", listed(allowed), nearest(key, allowed))


def _named(node: nodes.Node) -> str:
    return _WORDS.get(type(node), f"{type(node).__name__.lower()!r}")


def _line(node: nodes.Node) -> int:
    """Where a statement stands: Jinja gives some of them no line of their own."""
    lines = (one.lineno for one in (node, *node.find_all(nodes.Node)))
    return next((line for line in lines if line), 1)
