"""Rows of a source table made into documents.

Belongs here: what a document's text, fingerprint, status and bucket are. Does not: where rows come from or go
(`warehouse`), and what is asked about them (`prompts`).
"""
