"""What has changed since the decision, and who is told: drift, live accuracy, alerts.

Belongs here: looking at what serves. Does not: changing it (`release`).
"""
