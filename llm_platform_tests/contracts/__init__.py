"""Tests of contracts with readers, as values: what changes, who breaks, and what the files beside a table say."""
