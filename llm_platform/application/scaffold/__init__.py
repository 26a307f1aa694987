"""A new application, written for a table that somebody has.

Belongs here: what is guessed from a table, and the files that are written from it. Does not: reading an application
(`application.load`).
"""
