"""A base model of two layers, made once a session."""

from __future__ import annotations

from pathlib import Path

import pytest

from llm_platform_tests.finetuning.tiny import tiny_base


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the tiny base model."""
    return tiny_base(tmp_path_factory.mktemp("tiny_base"))
