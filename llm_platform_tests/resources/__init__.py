"""Tests of `llm_platform.resources`."""
