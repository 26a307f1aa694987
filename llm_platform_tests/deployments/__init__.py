"""Tests of what differs between deployments: settings, namespaces, the rights of a branch."""
