"""Dagster resources: configuration in, an object out. They decide nothing and open nothing before first use."""
