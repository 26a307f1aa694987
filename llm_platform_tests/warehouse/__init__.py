"""Tests of the lake, on a SQLite and on a Postgres catalog, with real processes where processes matter."""
