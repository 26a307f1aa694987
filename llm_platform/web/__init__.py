"""What every server of ours shares: how long it waits for those who ask.

Belongs here: what has no page, model or table in it. Does not: who a person is (`review`), what a model answers
(`nim_local`).
"""
