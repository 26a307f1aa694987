"""Tests of the graph: what Dagster is told, and what it does with it."""
