"""One word for one thing: what `docs/glossary.md` promises, as far as a program can see it."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

import llm_platform

ROOT = Path(llm_platform.__file__).parent


def defined(node: ast.stmt) -> list[str]:
    """Names of a class, or of a closed set of words, that a statement at the top of a module defines."""
    if isinstance(node, ast.ClassDef):
        return [node.name]
    if (
        isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Subscript)
        and ast.unparse(node.value.value) == "Literal"
    ):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    return []


def test_no_class_name_is_defined_twice() -> None:
    """Two classes of one name are two meanings of one word: a reader takes the one for the other."""
    places: dict[str, list[str]] = defaultdict(list)
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            for name in defined(node):
                places[name].append(str(path.relative_to(ROOT)))

    twice = {name: where for name, where in places.items() if len(where) > 1}

    assert len(places) > 300
    assert twice == {}
