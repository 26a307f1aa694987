"""Fixtures of the evaluation tests."""

from __future__ import annotations

import pytest

from llm_platform_tests.evaluation.builders import World


@pytest.fixture
def world() -> World:
    """A world without documents."""
    return World()
