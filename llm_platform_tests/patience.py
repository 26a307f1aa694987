"""How long a test waits for what has to happen before it calls it hung.

It decides nothing about speed: a busy machine is no finding. pytest's own limit, 300 s, does not say what was awaited.
"""

PATIENCE_SECONDS = 240.0
