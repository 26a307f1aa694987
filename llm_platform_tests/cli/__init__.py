"""The `llm-platform` command, as a person types it."""
