"""Endpoints that tests script: they answer as vLLM does, count what they are asked, and fail as told."""
