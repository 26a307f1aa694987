"""Changing the lock file in place."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from llm_platform.errors import SpecificationError
from llm_platform.models.edit import set_fields

FILE = """\
# What each model is.
models:
  # A small one.
  small:
    mode: external   # somebody else's
    served_name: m
    base_urls: ["http://a:8000"]
    image:
      repository: nvcr.io/nim/x  # the registry
      tag: 2.1.5
    fingerprint:
      - " one"
      # the second
      - two
    licence: MIT

  # A large one; comments before it are its own.
  large:
    mode: external
    licence: MIT  # last line
"""


def test_comments_and_order_stay() -> None:
    """The file is reviewed like code: a command that rewrites all of it would hide what it changed."""
    changed = set_fields(FILE, "small", {"licence": "Apache-2.0", "image": {"tag": "2.1.6", "digest": "sha256:ab"}})

    added = '      digest: "sha256:ab"\n'
    expected = FILE.replace("tag: 2.1.5\n", 'tag: "2.1.6"\n' + added).replace(
        "licence: MIT\n\n", "licence: Apache-2.0\n\n"
    )
    assert changed == expected


@pytest.mark.parametrize(
    ("entry", "fields"),
    [
        pytest.param("small", {"fingerprint": ["a\n", " b: c", "#d", ""]}, id="list-replaced"),
        pytest.param("small", {"base_urls": ["http://b"]}, id="flow-list-replaced"),
        pytest.param("large", {"fingerprint": ["x", "y"]}, id="list-added"),
        pytest.param("large", {"weights": {"artifact": {"package": "p"}}}, id="nested-added"),
        pytest.param("new", {"mode": "external", "context_length": 4096, "parallelism": {"tensor": 2}}, id="new-entry"),
        pytest.param("large", {"release": "2.10", "revision": "1e5", "gpu": "no"}, id="text-that-looks-like-numbers"),
    ],
)
def test_what_was_asked_for_is_what_the_file_says(entry: str, fields: dict[str, Any]) -> None:
    """`2.10` written without quotes is read as 2.1."""
    changed = set_fields(FILE, entry, fields)

    found = yaml.safe_load(changed)["models"][entry]
    assert {name: found[name] for name in fields} == fields
    assert all(comment in changed for comment in ("# A small one.", "# A large one;", "# last line", "# the registry"))
    assert set_fields(changed, entry, fields) == changed


@given(st.dictionaries(st.sampled_from(["licence", "gpu", "engine"]), st.text(max_size=20) | st.integers()))
def test_any_value_comes_back_as_it_was_given(fields: dict[str, Any]) -> None:
    """What endpoints say about themselves is nobody's choice."""
    changed = set_fields(FILE, "large", fields)

    assert {name: yaml.safe_load(changed)["models"]["large"][name] for name in fields} == fields


def test_a_layout_that_cannot_be_changed_is_refused() -> None:
    """Half a change would be worse than none."""
    with pytest.raises(SpecificationError, match="cannot be changed in place"):
        set_fields("models: {small: {mode: external}}\n", "small", {"licence": "MIT"})
