"""From documents to stored answers: what is missing, what it will take, prompts that fit, and sending them.

Belongs here: whatever stands between a document and its row in the ledger. Does not: whether an answer is right
(`evidence`), and where an endpoint is (`serving`).
"""
