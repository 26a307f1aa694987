"""Functions that take an application and upstream asset objects and return assets, checks, sensors and jobs.

An asset body reads, calls an operation, and reports; what needs a test of its own is an operation or a stage function.
"""
