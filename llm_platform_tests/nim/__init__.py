"""Tests of `llm_platform.nim`."""
