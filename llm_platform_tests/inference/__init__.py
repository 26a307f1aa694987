"""Tests of `llm_platform.inference`."""
