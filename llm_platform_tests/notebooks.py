"""Notebooks of `docs/notebooks`, without Jupyter: run cell by cell, and with what each cell shows.

`python -m llm_platform_tests.notebooks [NAME]` runs them on this namespace's state, after `llm-platform demo`, and
writes into them what they show.
"""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llm_platform.settings.settings import CHECKOUT

FOLDER = CHECKOUT / "docs" / "notebooks"


def run_notebook(path: Path) -> dict[str, Any]:
    """Execute every code cell; what the notebook has defined at its end."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for _ in _executed(path, json.loads(path.read_text(encoding="utf-8"))["cells"], namespace):
        pass
    return namespace


def with_outputs(path: Path) -> str:
    """The notebook as Jupyter would save it after all of its cells have been run."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    for count, (cell, shown) in enumerate(_executed(path, notebook["cells"], {"__name__": "__main__"}), start=1):
        cell["execution_count"] = count
        cell["outputs"] = [] if shown is None else [_output(shown, count)]
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def _executed(
    path: Path, cells: list[dict[str, Any]], namespace: dict[str, Any]
) -> Iterator[tuple[dict[str, Any], Any]]:
    """Each code cell with the value of its last line, where that is an expression."""
    for number, cell in enumerate(cells):
        if cell["cell_type"] != "code":
            continue
        name = f"{path.name}:cell-{number}"
        body = ast.parse("".join(cell["source"]), name).body
        last = body.pop() if body and isinstance(body[-1], ast.Expr) else None
        exec(compile(ast.Module(body, []), name, "exec"), namespace)
        yield cell, None if last is None else eval(compile(ast.Expression(last.value), name, "eval"), namespace)


def _output(shown: Any, count: int) -> dict[str, Any]:
    data = {"text/plain": str(shown if hasattr(shown, "to_html") else repr(shown)).splitlines(keepends=True)}
    if hasattr(shown, "to_html"):
        data["text/html"] = shown.to_html(border=0).splitlines(keepends=True)
    return {"output_type": "execute_result", "execution_count": count, "metadata": {}, "data": data}


if __name__ == "__main__":
    for notebook in sorted(FOLDER.glob(f"{sys.argv[1] if len(sys.argv) > 1 else '*'}.ipynb")):
        notebook.write_text(with_outputs(notebook), encoding="utf-8")
