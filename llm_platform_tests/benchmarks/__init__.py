"""Measures of bulk inference, each a ratio or a limit within one run. `make bench`, or `python -m` this package."""
