"""The lake: its tables, the store that reads and writes them, and the change feed of tables that others write.

All SQL of the product is here, and so is everything that knows of DuckDB, DuckLake, SQLite or Postgres. What is not
here: what
rows mean. A store method is one transaction; it is retried here when it loses a race, never by its caller.
"""
