"""The shipped notebooks show what they did, so that people see it before they run anything."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

from llm_platform_tests.notebooks import FOLDER, with_outputs

NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def cells(path: Path) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_cell_that_shows_something_ships_with_it(path: Path) -> None:
    """A page of code without its results says nothing to who reads it in a browser; nor may it say where it was run."""
    for number, cell in enumerate(cells(path), start=1):
        last = ast.parse("".join(cell["source"])).body[-1]
        shows = isinstance(last, ast.Expr) and not ast.unparse(last).endswith((".close()", ".write_text()"))
        assert cell["execution_count"] == number
        assert bool(cell["outputs"]) or not shows, "".join(cell["source"])
    shown = json.dumps([cell["outputs"] for cell in cells(path)])
    assert not [place for place in ("/tmp/", "/home/", "/root/", "/work/") if place in shown]


def test_streamed_tokens_are_counted() -> None:
    """What a stream took is paid like everything else; the endpoint says it where it is asked."""
    [shown] = [
        cell["outputs"][0] for cell in cells(FOLDER / "nim.ipynb") if "platform.calls()" in "".join(cell["source"])
    ]
    rows = "".join(shown["data"]["text/html"]).split("<tr")[2:]
    streamed = [row for row in rows if "<td>True</td>" in row]

    assert streamed
    assert not [row for row in streamed if "<td>NaN</td>" in row or "<td>0</td>" in row]


def test_a_notebook_is_filled_as_jupyter_fills_it(tmp_path: Path) -> None:
    """What is written has to open in any reader of notebooks."""
    source = {"cells": [
        {"cell_type": "markdown", "metadata": {}, "source": ["# A"]},
        {"cell_type": "code", "metadata": {}, "source": ["a = 2\n", "a + 1"], "outputs": [], "execution_count": None},
        {"cell_type": "code", "metadata": {}, "source": ["b = a"], "outputs": [], "execution_count": None},
    ]}  # fmt: skip
    path = tmp_path / "a.ipynb"
    path.write_text(json.dumps(source), encoding="utf-8")

    _, first, second = json.loads(with_outputs(path))["cells"]

    assert (first["execution_count"], first["outputs"][0]["data"]) == (1, {"text/plain": ["3"]})
    assert (second["execution_count"], second["outputs"]) == (2, [])
