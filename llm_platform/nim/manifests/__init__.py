"""Kubernetes objects of models that run in a cluster, as plain data.

Belongs here: pure functions from a model and the settings of a deployment to manifests. Does not: talking to a cluster
(the life cycle of pods), secrets (they are named, never read), the lock file (`models`).
"""
