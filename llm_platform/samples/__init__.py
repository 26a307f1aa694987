"""Real documents and their references that an installation can find on its own machine, as Arrow tables.

Belongs here: choosing, splitting and shaping them. Does not: loading them into a warehouse. Every function is seeded
and gives the same rows on every machine that has the same packages.
"""
