"""People's work on answers: queues, verdicts, tags and notes, from the lake to the page and back.

Belongs here: what the review page and files of verdicts need from the lake. Does not: the page itself (`review`).
"""
