"""What stored answers are worth: grades, reports, comparisons, judges, trials of prompts, and their cards.

Belongs here: evidence. Does not: what is decided on it (`release`), and what changes after the decision (`watching`).
"""
