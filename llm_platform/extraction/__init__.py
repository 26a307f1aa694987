"""Texts of files: PDF, DOCX, HTML, mail, Markdown and plain text.

Belongs here: what a file says, read in a process of its own with limits, since such files come from anywhere. Does not:
which files there are (`tables`), and what becomes of their texts (`documents`).
"""
