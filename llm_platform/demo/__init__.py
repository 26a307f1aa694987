"""The shipped demonstrations: the movie reviews from nothing to a published table, and with an adapter trained here.

Belongs here: what only a demonstration does. Does not: running an application (`workbench.runs`).
"""
