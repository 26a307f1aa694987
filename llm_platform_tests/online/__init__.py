"""Tests of the service for callers that have one document now."""
