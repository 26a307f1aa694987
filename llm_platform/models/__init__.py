"""What each model is, by digest, and whether an endpoint is that model.

Belongs here: the lock file, the identity an endpoint reports, and the comparison of the two. Does not: asking a model
for answers (`inference`), or fetching its files (`nim_local`).
"""
