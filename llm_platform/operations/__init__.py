"""What one step of the graph does, across stages: read from the lake, call the stages' functions, write back.

Stages do not import each other; an operation is where they meet. It knows nothing of Dagster, so the command line,
notebooks and tests run the same functions as the assets do. What does not belong here: SQL (`warehouse`), statistics
(`evaluation`), anything that could live in one stage.
"""
