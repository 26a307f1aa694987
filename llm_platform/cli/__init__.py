"""The `llm-platform` command: one module a group of commands. What a command does stands in `operations`."""
