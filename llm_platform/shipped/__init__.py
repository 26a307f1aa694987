"""What an installed package brings of a deployment: `dagster.yaml`, `workspace.yaml` and the lock file of models.

Belongs here: links to the files at the top of a checkout, which a built wheel holds as files. Does not: code.
"""
