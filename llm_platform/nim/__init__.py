"""How NIM endpoints speak, and how they are brought up.

Belongs here: the dialects, finding out which one an endpoint speaks and whether it is alive, reading its metrics,
publishing adapters to it; the Kubernetes objects and the containers that models run in, and their life. Does not: bulk
requests (`inference`), the embedded endpoint itself (`nim_local`), the lock file (`models`).
"""
