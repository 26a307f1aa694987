"""Tests of what one step of the graph does, across stages."""
