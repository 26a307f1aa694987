"""Tables that others write as files, read strictly and everywhere the same way.

Belongs here: the formats, what a broken file is, and the one form of keys and labels. Does not: tables in databases and
how far a source has been read (`warehouse`), and what a row means (`documents`, `review`, `prompts`).
"""
