"""Documents that somebody waits for: answered one by one, by the releases that serve, into the same ledger.

Belongs here: what an online service does beside the network. Does not: HTTP, callers and their limits (`online`), how
requests are sent (`inference`), who serves (`release`).
"""
