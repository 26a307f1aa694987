"""The applications that ship with the platform, a folder each.

Belongs here: `application.yaml`, prompt files and frozen few-shot examples. Does not: code; nothing here is imported.
"""
