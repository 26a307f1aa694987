"""How NIM endpoints speak.

Belongs here: the dialects, finding out which one an endpoint speaks and whether it is alive, reading its metrics,
publishing adapters to it. Does not: bulk requests (`inference`), the embedded endpoint itself (`nim_local`), the lock
file (`models`).
"""
