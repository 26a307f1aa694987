"""Tests, in the folders of the package they test; `servers` holds scripted endpoints."""

import os

ONE_THREAD = ("SLURM_CPUS_ON_NODE", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
# DuckDB (which has no other variable), NumPy and PyTorch take one thread: tests fill the cores by themselves. DuckDB's
# threads spin while another one opens a small file: a team's job takes 8.1 s of CPU with two of them, 5.5 s with one.
# Processes that tests start inherit it; a test that is about threads asks for them.
for name in ONE_THREAD:
    os.environ.setdefault(name, "1")
