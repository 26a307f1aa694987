"""Endpoints and what runs behind them: found, verified, brought up, watched, taken down.

Belongs here: a model of the lock file as something that answers. Does not: which documents it is asked about
(`answering`), and how an adapter comes to be (`adapters`).
"""
