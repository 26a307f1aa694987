"""How a person or a process works with a deployment, outside Dagster's own processes: runs, answering, notebooks.

Belongs here: what starts a run and follows it, the instance it is recorded on, and what a notebook calls. Does not:
words for a terminal (`cli`), and steps of the graph (`operations`).
"""
