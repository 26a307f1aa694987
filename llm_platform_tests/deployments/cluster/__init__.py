"""The chart on a real cluster: opt-in by a folder with its tools, `make test-cluster CLUSTER=FOLDER`, as root.

The folder has `cluster.py up|down` (a node in a network namespace) and `services.sh up|down` (Postgres, an S3 and a
registry of images in it); ARCHIVE names the image that `make image` wrote. Everything is measured from outside: rows by
a DuckDB of its own, requests by the endpoint that answered them.
"""
