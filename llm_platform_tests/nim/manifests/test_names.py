"""Names and labels that Kubernetes takes, and that stay apart."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_platform.nim.manifests.names import derived_name, label_value, owner_label, pods_service


def test_names_fit_and_stay_apart() -> None:
    """Names are cut where Kubernetes has no room; two that are cut alike must not become one."""
    long, other = "nim-" + "a" * 55, "nim-" + "a" * 54 + "b"

    assert pods_service("nim-llama-8b") == "nim-llama-8b-pods"
    assert derived_name(long, "pods") != derived_name(other, "pods")
    assert {len(derived_name(name, "pods")) for name in (long, other)} == {63}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("prod.main", "prod.main", id="as-it-is"),
        pytest.param("My team/prod", r"My-team-prod-[0-9a-f]{8}", id="signs"),
        pytest.param("x" * 70, r"x{54}-[0-9a-f]{8}", id="long"),
        pytest.param("__", r"[0-9a-f]{8}", id="nothing-left"),
    ],
)
def test_any_name_becomes_a_label(text: str, expected: str) -> None:
    """A label that Kubernetes refuses keeps the whole object out."""
    found = label_value(text)

    assert re.fullmatch(expected, found)
    assert re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?", found)


@settings(max_examples=40)
@given(st.text(min_size=1, max_size=120), st.text(min_size=1, max_size=120))
def test_labels_of_names_that_differ_are_labels_and_differ(one_name: str, other_name: str) -> None:
    """Whatever people call a deployment, an entry or a branch."""
    one_label, other_label = label_value(one_name), label_value(other_name)

    assert re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?", one_label)
    assert (one_label == other_label) == (one_name == other_name)


def test_owners_that_differ_have_labels_that_differ() -> None:
    """By this label one deployment leaves alone what another made."""
    owners = {owner_label("prod", "a b"), owner_label("prod", "a-b"), owner_label("prod", "a_b")}

    assert len(owners) == 3
