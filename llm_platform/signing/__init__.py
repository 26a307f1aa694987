"""What is signed so that others can verify it without us: keys, and statements in envelopes.

Belongs here: the form of an envelope, the deployment's key. Does not: what a statement says (`operations`).
"""
