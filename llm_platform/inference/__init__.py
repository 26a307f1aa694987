"""Many requests, fast, with nothing lost: from a release and its documents to stored answers.

Belongs here: the bytes of a request, what an answer means, and the engine that keeps endpoints busy and survives them.
Does not: which documents are missing and where answers are stored (`warehouse`), what a prompt says (`prompts`), how an
endpoint speaks (`nim`: its forms are passed in).
"""
