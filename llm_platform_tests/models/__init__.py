"""Tests of `llm_platform.models`."""
