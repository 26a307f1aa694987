"""YAML files that people write: read with the line of every value, and held against a pydantic model.

Belongs here: finding a mistake's line and wording it as `path:line: found …; allowed: …; did you mean …?`. Does not:
what an application, a prompt or a lock entry is; the caller brings the model. Shared by the stages that read such
files, which do not import each other.
"""
